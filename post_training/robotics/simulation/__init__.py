"""A robot arm in MuJoCo: episodes with video, 7-D actions and language, made on a CPU.

:func:`simulate` fills a folder; :class:`Studio` films single episodes, and replays a scene with
other actions to see what they would have done.
"""

from post_training.robotics.simulation.generate import SimulationReport, simulate
from post_training.robotics.simulation.studio import SimulationSettings, Studio, episode_key

__all__ = [
    "SimulationReport",
    "SimulationSettings",
    "Studio",
    "episode_key",
    "simulate",
]
