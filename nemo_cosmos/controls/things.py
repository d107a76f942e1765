"""Where the things on a robot's table are, as the signal ``things.npz``.

It steers no model; metrics follow the things in generated videos.
"""

from __future__ import annotations

from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.mirror import mirror_points
from nemo_cosmos.controls.signal import Signal
from nemo_cosmos.controls.signal_array import SignalArray
from nemo_cosmos.controls.signal_files import Values


def follow_picture(values: Values, change: PictureChange) -> Values:
    """Where the things of a mirrored world are; a crop leaves them where they are.

    Args:
        values: the arrays of ``things.npz``.
        change: what becomes of the pictures.
    """
    if change.mirror_axis is None:
        return values
    return {**values, "position_m": mirror_points(values["position_m"], change.mirror_axis)}


THINGS = Signal(
    "things.npz",
    (
        SignalArray(
            "position_m",
            "frame",
            (None, 3),
            units="m",
            convention="middle of each of N things, in the world of the camera's poses",
        ),
        SignalArray("half_m", None, (None,), units="m", convention="half the size of each"),
    ),
    in_picture=follow_picture,
)
