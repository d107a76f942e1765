"""One flight through a textured room and one rig in it, drawn once."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.controls.camera import ftheta_camera
from nemo_cosmos.evaluation.metric import Case, View
from nemo_cosmos.testing.rooms import draw, flight, pinhole

NUM_FRAMES = 5
SIZE = (144, 256)


@pytest.fixture(scope="package")
def flown() -> Case:
    """A video of a moving camera, with that camera."""
    camera = flight(NUM_FRAMES, SIZE)
    frames_THWC = draw(camera)
    return Case("flight", frames_THWC, frames_THWC, recorded={"camera": camera})


def rig_cameras(num_frames: int = 3) -> dict[str, dict[str, np.ndarray]]:
    """A main camera, one to its right, a fisheye to its left, and one that looks back."""
    u = np.linspace(0, 1, num_frames)[:, None]
    path_T3 = np.concatenate([0 * u, 0 * u, -1.5 + 0.5 * u], axis=1)
    turns = {"main": 0, "right": 12, "back": 180}
    cameras = {
        name: pinhole(
            path_T3 + np.array([0.4 * (name == "right"), 0, 0]),
            np.tile([0.0, angle, 0.0], (num_frames, 1)),
            SIZE,
        )
        for name, angle in turns.items()
    }
    wide = pinhole(
        path_T3 - np.array([0.4, 0, 0]), np.tile([0.0, -10.0, 0.0], (num_frames, 1)), SIZE
    )
    focal_px = 150.0
    polynomial = [0.0, 1 / focal_px, 0.0, -0.05 / focal_px**3]
    cameras["wide"] = ftheta_camera(wide["poses"], (128, 72), SIZE, polynomial)
    return cameras


@pytest.fixture(scope="package")
def rig() -> Case:
    """The same moments from four cameras, each of them known."""
    cameras = rig_cameras()
    drawn = {name: draw(camera) for name, camera in cameras.items()}
    views = {
        name: View(drawn[name], drawn[name], {"camera": camera})
        for name, camera in cameras.items()
        if name != "main"
    }
    return Case(
        "rig", drawn["main"], drawn["main"], recorded={"camera": cameras["main"]}, views=views
    )
