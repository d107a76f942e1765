"""The driving controls: which files they read, and what embeds them.

``driving`` is the path of the car with the rig of its cameras; ``layout`` is what a map draws into
each camera's picture. ``rig`` is for data alone: a network of several cameras reads where they are
without an embedder (``data.controls=[rig]``). The signals belong to every room
(:mod:`nemo_cosmos.controls.rig`).
"""

from __future__ import annotations

from nemo_cosmos.controls import LAYOUT, RIG, Control
from nemo_cosmos.controls.registry import TRAJECTORY

DRIVING_CONTROL = Control(
    "driving",
    (TRAJECTORY, RIG),
    {"diffusion": "post_training.driving.embedder:DrivingEmbedder"},
    following="trajectory_error_cm",
)
LAYOUT_CONTROL = Control(
    "layout",
    (LAYOUT,),
    {"diffusion": "post_training.driving.layout:LayoutEmbedder"},
)
RIG_CONTROL = Control("rig", (RIG,), {})
