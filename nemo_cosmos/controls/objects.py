"""What a simulator knows of the objects in its video, as the signal ``objects.npz``.

It steers no model; metrics compare generated videos with it. N objects move in the vertical plane
``y = 0``; world axes: x leads to the right of the picture, y away from the camera, z up.
"""

from __future__ import annotations

from nemo_cosmos.controls.signal import Signal, SignalArray

OBJECTS = Signal(
    "objects.npz",
    (
        SignalArray("time_s", "frame", (), units="s", convention="since the first frame"),
        SignalArray("position_m", "frame", (None, 3), units="m", convention="centre, x y z"),
        SignalArray("velocity_m_s", "frame", (None, 3), units="m/s", convention="of the centre"),
        SignalArray("rotation_rad", "frame", (None,), units="rad", convention="clockwise as seen"),
        SignalArray(
            "energy_j",
            "frame",
            (None, 3),
            units="J",
            convention="kinetic of the motion, kinetic of the rotation, potential above z = 0",
        ),
        SignalArray("touches", "frame", (None,), convention="1 where it rests on floor or ramp"),
        SignalArray("mask", "frame", (None, None), convention="number of the object, from 1; or 0"),
        SignalArray("visible_fraction", "frame", (None,), convention="of its outline in view"),
        SignalArray("is_whole", "frame", (None,), convention="1 where all of it is in view"),
        SignalArray(
            "other_position_m",
            "frame",
            (None, 3),
            units="m",
            convention="centres after another push from the same start; of no object: no pair",
        ),
        SignalArray("mass_kg", None, (None,), units="kg"),
        SignalArray("height_m", None, (None,), units="m", convention="of each object at rest"),
        SignalArray("support_m", None, (None, 2), units="m", convention="x, height of the ground"),
        SignalArray(
            "projection",
            None,
            (3, 4),
            convention="world to homogeneous picture coordinates, (0, 0) top left, (1, 1) bottom "
            "right",
        ),
    ),
)
