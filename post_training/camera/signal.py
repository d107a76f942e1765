"""The camera as a control: which file it reads, what embeds it, and what says that it was followed.

The signal itself, ``camera.npz``, belongs to every room (:mod:`nemo_cosmos.controls.camera`).
"""

from __future__ import annotations

from nemo_cosmos.controls import CAMERA, Control

CAMERA_CONTROL = Control(
    "camera",
    (CAMERA,),
    {"diffusion": "post_training.camera.embedder:CameraEmbedder"},
    following="camera_path_error",
)
