"""A robot's recording as signals: actions between the frames, states at them.

An action's seven numbers are the change of the gripper's position (3) and of its rotation (3), seen
from the gripper, and its opening (1). Row t moves frame t to frame t + 1. Our episodes scale them
to about [-1, 1]; the embedder normalises whatever units it was trained with.
"""

from __future__ import annotations

from nemo_cosmos.controls import MAX_ACTION, Control, Signal, SignalArray

ACTION_DIM = 7
MOTION_DIM = 6
"""Numbers of an action that are a motion and add up; the seventh is the gripper's opening."""

ACTION = Signal(
    "action.npy",
    (
        SignalArray(
            "action",
            "step",
            (ACTION_DIM,),
            units="m, rad, opening",
            convention="change seen from the gripper",
            max_abs=MAX_ACTION,
        ),
    ),
)

STATE = Signal(
    "state.npy",
    (
        SignalArray(
            "state",
            "frame",
            (ACTION_DIM,),
            units="m, rad, opening",
            convention="x y z roll pitch yaw opening, in the robot's base frame",
        ),
    ),
)

ACTION_CONTROL = Control(
    "action", (ACTION,), {"diffusion": "post_training.robotics.action:ActionEmbedder"}
)
