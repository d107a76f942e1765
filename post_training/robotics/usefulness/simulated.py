"""The table in the simulator: the truth that a world model is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from nemo_cosmos.platform import require
from post_training.rendering import make_renderer, prepare_environment
from post_training.robotics.simulation.arm import DOWN, Arm, Pose, action_scale
from post_training.robotics.simulation.scene import (
    CAMERA,
    TIMESTEP_S,
    Block,
    block_position_m,
    build_model,
    place_blocks,
)
from post_training.robotics.simulation.studio import SimulationSettings
from post_training.robotics.simulation.tasks import Task, make_task
from post_training.robotics.usefulness.environment import Form, Moment, Scene

TASK = "reach"
"""The task whose scenes are used: two or three blocks, the gripper somewhere above the table."""


@dataclass(frozen=True)
class State:
    """A state of the simulation.

    Attributes:
        blocks: the blocks, whose colours are no part of the physics.
        physics: MuJoCo's state.
        command: the servos' last targets.
        target: pose that the last action led to; the next one is relative to it.
    """

    blocks: Sequence[Block]
    physics: np.ndarray
    command: np.ndarray
    target: Pose


class SimulatedTable:
    """An :class:`~.environment.Environment` in MuJoCo.

    Args:
        form: the form of chunks and pictures.
        seed: seed of the scenes.
        renderer: ``egl``, ``osmesa`` or ``software``.

    Raises:
        WrongSizeError, ConfigError: a size or frame rate that is not simulated.
        MissingDependencyError: MuJoCo is not installed.
        AssetError: the robot's files cannot be fetched.
    """

    def __init__(self, form: Form, seed: int = 0, renderer: str = "software") -> None:
        SimulationSettings(form.num_actions + 1, form.fps, form.height, form.width, seed)
        prepare_environment(renderer)
        self._mujoco = require("mujoco")
        self.form = form
        self.seed = seed
        self._model = build_model(CAMERA)
        self._data = self._mujoco.MjData(self._model)
        self._arm = Arm(self._model, self._data)
        self._renderer = make_renderer(renderer, self._model, form.height, form.width)
        self._steps_per_frame = round(1 / (form.fps * TIMESTEP_S))
        self._scale = action_scale(form.fps)
        self._signature = self._mujoco.mjtState.mjSTATE_INTEGRATION

    def scene(self, number: int) -> Scene:
        """Set up a scene: blocks on the table, the arm at rest above it."""
        task: Task = make_task(TASK, np.random.default_rng([self.seed, number]))
        start = task.waypoints[0]
        frame_HWC = self.picture(task.blocks, start.pose(), start.opening)
        pose = self._arm.pose()
        state = self._save(task.blocks, pose)
        return Scene(number, task.blocks, pose.position_m, start.opening, frame_HWC, state)

    def picture(self, blocks: Sequence[Block], pose: Pose, opening: float) -> np.ndarray:
        """Return what the camera sees of an arm at rest, uint8 ``(H, W, 3)``."""
        self._mujoco.mj_resetData(self._model, self._data)
        place_blocks(self._model, self._data, list(blocks))
        self._arm.reset(pose, opening)
        self._mujoco.mj_forward(self._model, self._data)
        return self._renderer.render(self._data)

    def begin(self, scene: Scene) -> Moment:
        """Return an episode's first moment."""
        return Moment(scene.frame_HWC, kept=scene.kept)

    def step(
        self,
        moments: Sequence[Moment],
        actions_NKA: np.ndarray,
        seed: int = 0,
        every_frame: bool = True,
    ) -> tuple[list[Moment], np.ndarray]:
        """Carry out a chunk of actions from each moment; the seed has no effect."""
        rolled = [
            self._roll(moment, actions_KA, every_frame)
            for moment, actions_KA in zip(moments, actions_NKA, strict=True)
        ]
        return [moment for moment, _ in rolled], np.stack([frames for _, frames in rolled])

    def gripper_m(self, moment: Moment) -> np.ndarray:
        """Return the gripper's true position at a moment of this environment."""
        self._restore(moment.kept)
        return self._arm.pose().position_m

    def blocks_m(self, moment: Moment) -> list[np.ndarray]:
        """Return the blocks' true positions at a moment of this environment."""
        self._restore(moment.kept)
        return [block_position_m(self._data, index) for index in range(len(moment.kept.blocks))]

    def close(self) -> None:
        """Give back what the renderer holds."""
        self._renderer.close()

    def _roll(
        self, moment: Moment, actions_KA: np.ndarray, every_frame: bool
    ) -> tuple[Moment, np.ndarray]:
        """Carry out one chunk; the moment after it and the frames that were wanted."""
        self._restore(moment.kept)
        target: Pose = moment.kept.target
        frames = []
        for number, motion in enumerate(np.asarray(actions_KA, np.float64) / self._scale, 1):
            target = target.moved(motion[:6])
            self._arm.move(target, float(motion[6]), self._steps_per_frame)
            if every_frame or number == len(actions_KA):
                frames.append(self._renderer.render(self._data))
        state = self._save(moment.kept.blocks, target)
        return Moment(frames[-1], moment.num_chunks + 1, state), np.stack(frames)

    def _save(self, blocks: Sequence[Block], target: Pose) -> State:
        size = self._mujoco.mj_stateSize(self._model, self._signature)
        physics = np.empty(size)
        self._mujoco.mj_getState(self._model, self._data, physics, self._signature)
        return State(blocks, physics, self._arm.command, target)

    def _restore(self, state: State) -> None:
        place_blocks(self._model, self._data, list(state.blocks))  # their colours
        self._mujoco.mj_setState(self._model, self._data, state.physics, self._signature)
        self._mujoco.mj_forward(self._model, self._data)
        # The solver starts from the last accelerations, which mj_forward replaced.
        self._mujoco.mj_setState(self._model, self._data, state.physics, self._signature)
        self._arm.command = state.command


def pose_above(position_m: np.ndarray, turn_rad: Sequence[float] = (0.0, 0.0, 0.0)) -> Pose:
    """The gripper at a place, pointing down but for a turn about the world's axes."""
    return Pose(position_m, Rotation.from_euler("xyz", turn_rad) * DOWN)
