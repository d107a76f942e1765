"""Signals that count pixels, when the pictures are resized."""

from __future__ import annotations

from collections.abc import Mapping

from nemo_cosmos.controls.camera import CAMERA, fit_camera
from nemo_cosmos.controls.depth import SCENE_DEPTH, fit_depth
from nemo_cosmos.controls.objects import OBJECTS, fit_objects
from nemo_cosmos.controls.rig import RIG, fit_rig
from nemo_cosmos.controls.signal_files import Values


def fit_recorded(
    recorded: Mapping[str, Values], outer: tuple[int, int], size: tuple[int, int] | None = None
) -> dict[str, Values]:
    """The signals of frames that were resized and cropped: cameras, objects and depth count pixels.

    Args:
        recorded: the arrays of each signal by its name.
        outer: height and width that the frames were resized to.
        size: as :func:`fit_camera` takes it.
    """
    fitted = dict(recorded)
    if CAMERA.name in fitted:
        fitted[CAMERA.name] = fit_camera(fitted[CAMERA.name], outer, size)
    if RIG.name in fitted:
        fitted[RIG.name] = fit_rig(fitted[RIG.name], outer, size)
    if OBJECTS.name in fitted:
        fitted[OBJECTS.name] = fit_objects(fitted[OBJECTS.name], outer, size)
    if SCENE_DEPTH.name in fitted:
        fitted[SCENE_DEPTH.name] = fit_depth(fitted[SCENE_DEPTH.name], outer, size or outer)
    return fitted
