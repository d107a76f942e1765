"""How far away what a frame shows is, as the signal ``scene_depth.npz``.

It steers no model. With the depth of the first frame, a metric knows where each of its points
belongs in a picture from any other place, and so finds the camera of a generated video.
"""

from __future__ import annotations

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.signal import Signal
from nemo_cosmos.controls.signal_array import SignalArray
from nemo_cosmos.controls.signal_files import Values


def find_depth_fault(values: Values) -> str | None:
    """Say what is wrong with depth maps of the right shape; None where nothing is.

    Args:
        values: the arrays of ``scene_depth.npz``.
    """
    if not (np.asarray(values["depth_m"]) > 0).all():
        return (
            "has a 'depth_m' that is not positive; expected the metres from the camera to what "
            "each pixel shows, along the camera's axis. Write a large number for the sky."
        )
    return None


def follow_picture(values: Values, change: PictureChange) -> Values:
    """The depth of frames that are cut or mirrored.

    Args:
        values: the arrays of ``scene_depth.npz``.
        change: what becomes of the pictures.
    """
    rows, columns = (
        ((np.arange(kept) + low + 0.5) * have / whole).astype(int)
        for low, kept, whole, have in zip(
            change.box[:2],
            change.kept_size,
            change.size,
            np.shape(values["depth_m"])[1:],
            strict=True,
        )
    )
    cut_THW = values["depth_m"][:, rows[:, None], columns]
    return {**values, "depth_m": cut_THW[:, :, ::-1].copy() if change.is_mirrored else cut_THW}


def fit_depth(values: Values, outer: tuple[int, int], size: tuple[int, int]) -> dict[str, Array]:
    """The depth of frames that were resized, and then cropped or padded around their middle.

    Args:
        values: the arrays of ``scene_depth.npz``.
        outer: height and width that the frames were resized to.
        size: height and width that were cut out of their middle, or that they were padded to;
            padding is as far away as the border.
    """
    rows, columns = (
        ((np.clip(np.arange(kept) + int((whole - kept) / 2), 0, whole - 1) + 0.5) * have / whole)
        for kept, whole, have in zip(size, outer, np.shape(values["depth_m"])[1:], strict=True)
    )
    cut_THW = values["depth_m"][:, rows.astype(int)[:, None], columns.astype(int)]
    return dict(values) | {"depth_m": cut_THW}


SCENE_DEPTH = Signal(
    "scene_depth.npz",
    (
        SignalArray(
            "depth_m",
            "frame",
            (None, None),
            units="m",
            convention="along the camera's axis, of each pixel",
        ),
    ),
    find_depth_fault,
    in_picture=follow_picture,
)
