"""RLDS data sets, as Open X-Embodiment ships them, converted to our episodes."""

from post_training.robotics.rlds.convert import convert_rlds
from post_training.robotics.rlds.reading import RldsData

__all__ = ["RldsData", "convert_rlds"]
