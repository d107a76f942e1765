"""Move the arm: from a pose of the gripper to servo commands, one video frame at a time.

Poses follow Bridge: a state is ``x, y, z, roll, pitch, yaw, opening`` of the point between the
finger tips, and an action is how that pose changes within one frame, seen from the gripper as it
was, with the opening it should have afterwards. The gripper's axes: x as the world's x when the
gripper points straight down at yaw 0, z out of the fingers, and y to complete them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from nemo_cosmos.platform import require
from post_training.robotics.simulation.robot import (
    ARM_JOINTS,
    FINGER_JOINTS,
    FINGER_TRAVEL_M,
    TOOL_SITE,
    servo_lead_s,
)

if TYPE_CHECKING:
    from mujoco import MjData, MjModel

DOWN = Rotation.from_euler("xyz", [np.pi, 0.0, 0.0])
"""The gripper pointing straight down at yaw 0."""

FULL_SPEED_PER_S = 0.5
"""Metres or radians per second that an action of 1 stands for."""

_HOME_RAD = np.array([0.0, 0.2, 0.0, -2.6, 0.0, 2.9, -np.pi / 4])
# The site's axes are the gripper's axes turned half round the fingers' axis.
_SITE_TO_TOOL = Rotation.from_euler("z", np.pi)
_IK_STEPS = 12
_IK_DAMPING = 0.005
_IK_TOLERANCE = 1e-4
_POSTURE_GAIN = 0.05


class Pose:
    """A pose of the gripper: position and orientation.

    Attributes:
        position_m: world coordinates, ``(3,)``.
        rotation: rotation from the gripper's axes to the world's.
    """

    def __init__(self, position_m: np.ndarray, rotation: Rotation) -> None:
        self.position_m = np.asarray(position_m, dtype=np.float64)
        self.rotation = rotation

    def moved(self, delta: np.ndarray) -> Pose:
        """The pose after a motion ``(6,)`` in metres and radians, seen from this gripper."""
        step = Rotation.from_euler("xyz", delta[3:6])
        return Pose(self.position_m + self.rotation.apply(delta[:3]), self.rotation * step)

    def motion_to(self, other: Pose) -> np.ndarray:
        """The motion ``(6,)`` that leads to ``other``; inverse of :meth:`moved`."""
        translation = self.rotation.inv().apply(other.position_m - self.position_m)
        return np.concatenate([translation, (self.rotation.inv() * other.rotation).as_euler("xyz")])

    def as_state(self, opening: float) -> np.ndarray:
        """Seven numbers; the roll is kept near pi, where Euler angles would jump its sign."""
        roll, pitch, yaw = self.rotation.as_euler("xyz")
        return np.array([*self.position_m, roll % (2 * np.pi), pitch, yaw, opening])


def action_scale(fps: float) -> np.ndarray:
    """Factors ``(7,)`` from metres, radians and opening per frame to an action within [-1, 1].

    At 10 frames/s this is Bridge's usual 20, 20, 20, 20, 20, 20, 1.
    """
    return np.array([fps / FULL_SPEED_PER_S] * 6 + [1.0])


class Arm:
    """The simulated arm of one scene.

    Args:
        model: the model of :func:`scene.build_model`.
        data: its state, which the arm advances.
    """

    def __init__(self, model: MjModel, data: MjData) -> None:
        self._mujoco = require("mujoco")
        self._model = model
        self._data = data
        self._scratch = self._mujoco.MjData(model)
        self._site = model.site(TOOL_SITE).id
        joints = [model.joint(name) for name in ARM_JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._range = np.array([joint.range for joint in joints])
        self._fingers = np.array([model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        self._finger_sign = np.array([1.0, -1.0])
        self._lead_s = servo_lead_s(model)
        self._command = np.zeros(len(ARM_JOINTS) + len(FINGER_JOINTS))

    def reset(self, pose: Pose, opening: float) -> None:
        """Put the arm at rest at a pose, without simulating the motion."""
        joints = _HOME_RAD
        for _ in range(5):  # from far away, one call does not reach the pose
            joints = self._solve(pose, joints)
        self._command = np.concatenate([joints, self._finger_targets(opening)])
        self._data.qpos[self._qpos] = joints
        self._data.qpos[self._fingers] = self._finger_targets(opening)
        self._data.ctrl[:] = self._command

    def move(self, pose: Pose, opening: float, num_steps: int) -> None:
        """Simulate one frame, at whose end the gripper should be at ``pose``.

        The servo targets go to the goal at constant speed and lead by the servos' lag, so that the
        gripper arrives at the end of the frame and not later.
        """
        joints = self._solve(pose, self._command[: len(ARM_JOINTS)])
        goal = np.concatenate([joints, self._finger_targets(opening)])
        velocity = (goal - self._command) / (num_steps * self._model.opt.timestep)
        for step in range(1, num_steps + 1):
            target = self._command + (goal - self._command) * (step / num_steps)
            self._data.ctrl[:] = target + self._lead_s * velocity
            self._mujoco.mj_step(self._model, self._data)
        self._command = goal

    @property
    def command(self) -> np.ndarray:
        """The servos' last targets: with MuJoCo's state, all that the next motion depends on."""
        return self._command.copy()

    @command.setter
    def command(self, command: np.ndarray) -> None:
        self._command = command.copy()

    def pose(self) -> Pose:
        """Return the gripper's measured pose."""
        return self._pose_of(self._data)

    def opening(self) -> float:
        """Return the measured opening of the fingers, 0 to 1."""
        travel = self._data.qpos[self._fingers] @ self._finger_sign / 2
        return float(np.clip(travel / FINGER_TRAVEL_M, 0, 1))

    def _pose_of(self, data: MjData) -> Pose:
        rotation = Rotation.from_matrix(data.site_xmat[self._site].reshape(3, 3))
        return Pose(data.site_xpos[self._site].copy(), rotation * _SITE_TO_TOOL)

    def _finger_targets(self, opening: float) -> np.ndarray:
        return self._finger_sign * FINGER_TRAVEL_M * np.clip(opening, 0, 1)

    def _solve(self, pose: Pose, start_rad: np.ndarray) -> np.ndarray:
        """Inverse kinematics: damped least squares, drawn to the home posture."""
        mujoco, model, scratch = self._mujoco, self._model, self._scratch
        joints = start_rad.copy()
        goal_33 = (pose.rotation * _SITE_TO_TOOL.inv()).as_matrix()
        jacobian = np.zeros((6, model.nv))
        for _ in range(_IK_STEPS):
            scratch.qpos[self._qpos] = joints
            mujoco.mj_kinematics(model, scratch)
            mujoco.mj_comPos(model, scratch)
            offset = pose.position_m - scratch.site_xpos[self._site]
            turn = _small_turn(goal_33 @ scratch.site_xmat[self._site].reshape(3, 3).T)
            error = np.concatenate([offset, turn])
            if np.abs(error).max() < _IK_TOLERANCE:
                break
            mujoco.mj_jacSite(model, scratch, jacobian[:3], jacobian[3:], self._site)
            arm = jacobian[:, self._dof]
            inverse = arm.T @ np.linalg.inv(arm @ arm.T + _IK_DAMPING**2 * np.eye(6))
            posture = _POSTURE_GAIN * (_HOME_RAD - joints)
            step = inverse @ error + posture - inverse @ (arm @ posture)
            joints = np.clip(joints + step, *self._range.T)
        return joints


def _small_turn(rotation_33: np.ndarray) -> np.ndarray:
    """Axis times sine of the angle: close to the rotation vector, and with the same zero."""
    antisymmetric = (rotation_33 - rotation_33.T) / 2
    return np.array([antisymmetric[2, 1], antisymmetric[0, 2], antisymmetric[1, 0]])
