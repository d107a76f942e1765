"""Pictures of simulated scenes, of whatever is in them: camera, light, floor, and the renderers.

:func:`choose_renderer` finds what draws on this machine, :func:`make_renderer` builds it, and
:func:`film_all` films many recordings in several processes. The worlds themselves are elsewhere.
"""

from post_training.rendering.camera import CAMERA_NAME, Camera, add_camera
from post_training.rendering.choice import (
    RENDERERS,
    Renderer,
    choose_renderer,
    make_renderer,
    prepare_environment,
)
from post_training.rendering.filming import Filmer, film_all
from post_training.rendering.look import HIDDEN_GROUP, add_floor, add_look, wood_texture

__all__ = [
    "CAMERA_NAME",
    "HIDDEN_GROUP",
    "RENDERERS",
    "Camera",
    "Filmer",
    "Renderer",
    "add_camera",
    "add_floor",
    "add_look",
    "choose_renderer",
    "film_all",
    "make_renderer",
    "prepare_environment",
    "wood_texture",
]
