"""Where the things on a robot's table are, as the signal ``things.npz``.

It steers no model; metrics follow the things in generated videos.
"""

from __future__ import annotations

from nemo_cosmos.controls.signal import Signal, SignalArray

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
)
