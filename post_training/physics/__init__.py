"""Simple physics in simulation: eight scenarios, filmed with all that is known of their objects.

:func:`simulate_physics` fills a folder; :class:`PhysicsStudio` films single recordings.
"""

from post_training.physics.generate import PHYSICS, simulate_physics, write_clip
from post_training.physics.scenarios import SCENARIOS, draw_setup
from post_training.physics.studio import Clip, PhysicsSettings, PhysicsStudio, clip_key

__all__ = [
    "PHYSICS",
    "SCENARIOS",
    "Clip",
    "PhysicsSettings",
    "PhysicsStudio",
    "clip_key",
    "draw_setup",
    "simulate_physics",
    "write_clip",
]
