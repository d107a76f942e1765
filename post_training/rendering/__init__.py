"""Pictures of simulated scenes, of whatever is in them: camera, light, floor, and the renderers.

:func:`choose_renderer` finds what draws on this machine, :func:`make_renderer` builds it, and
:func:`fill_folder` films many recordings in several processes. The worlds themselves are elsewhere.
"""

from post_training.rendering.camera import CAMERA_NAME, Camera, add_camera
from post_training.rendering.checks import film_checks
from post_training.rendering.choice import (
    RENDERERS,
    Renderer,
    choose_renderer,
    make_renderer,
    prepare_environment,
)
from post_training.rendering.filming import Filmer, FilmReport, fill_folder
from post_training.rendering.look import (
    HIDDEN_GROUP,
    add_floor,
    add_look,
    tile_texture,
    wood_texture,
)
from post_training.rendering.settings import FilmSettings

__all__ = [
    "CAMERA_NAME",
    "HIDDEN_GROUP",
    "RENDERERS",
    "Camera",
    "FilmReport",
    "FilmSettings",
    "Filmer",
    "Renderer",
    "add_camera",
    "add_floor",
    "add_look",
    "choose_renderer",
    "fill_folder",
    "film_checks",
    "make_renderer",
    "prepare_environment",
    "tile_texture",
    "wood_texture",
]
