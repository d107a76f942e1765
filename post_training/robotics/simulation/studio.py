"""The studio: one process's model, arm and renderer, which film one episode after another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.controls import CAMERA as CAMERA_SIGNAL
from nemo_cosmos.controls import Values
from nemo_cosmos.controls.embodiment import find_embodiment
from nemo_cosmos.controls.things import THINGS
from nemo_cosmos.platform import require
from nemo_cosmos.video import Video
from post_training.rendering import FilmSettings, make_renderer, prepare_environment
from post_training.robotics.episodes import Episode
from post_training.robotics.restating import check_restatable
from post_training.robotics.signal import ACTION, DEFAULT_EMBODIMENT
from post_training.robotics.simulation.arm import Arm, Pose, action_scale
from post_training.robotics.simulation.motion import path
from post_training.robotics.simulation.scene import (
    BLOCK_HALF_M,
    CAMERA,
    TIMESTEP_S,
    block_position_m,
    build_model,
    place_blocks,
)
from post_training.robotics.simulation.tasks import TASK_CYCLE, Task, make_task

_VALIDATION_EVERY = 10

Targets = list[tuple[Pose, float]]


@dataclass(frozen=True)
class SimulationSettings(FilmSettings):
    """Settings that, together with its number, determine an episode.

    Attributes:
        embodiment: what the actions are written in: a name of the table, or a file.
    """

    embodiment: str = DEFAULT_EMBODIMENT

    def __post_init__(self) -> None:
        super().__post_init__()
        check_restatable(find_embodiment(DEFAULT_EMBODIMENT), find_embodiment(self.embodiment))

    def as_dict(self) -> JsonObject:
        """Return plain data for the manifest; the usual actions need no word."""
        content = super().as_dict()
        if self.embodiment == DEFAULT_EMBODIMENT:
            del content["embodiment"]
        return content


class Studio:
    """Films episodes of the same settings; an episode depends only on its number.

    Args:
        settings: settings of the episodes.
        renderer: ``egl``, ``osmesa`` or ``software``; :func:`choose_renderer` finds it.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        AssetError: the robot's files cannot be fetched.
    """

    def __init__(self, settings: SimulationSettings, renderer: str = "software") -> None:
        prepare_environment(renderer)
        self._mujoco = require("mujoco")
        self.settings = settings
        self._model = build_model(CAMERA)
        self._data = self._mujoco.MjData(self._model)
        self._arm = Arm(self._model, self._data)
        self._renderer = make_renderer(renderer, self._model, settings.height, settings.width)
        self._steps_per_frame = round(1 / (settings.fps * TIMESTEP_S))

    def record(self, index: int) -> Episode:
        """Film a scripted episode.

        Args:
            index: number of the episode, which determines task, scene and split.
        """
        task = self._task(index)
        targets = path(task.waypoints, self.settings.num_frames, self.settings.fps)
        return self._film(index, task, targets)

    def replay(self, index: int, actions: np.ndarray) -> Episode:
        """Film the effect of other actions in an episode's scene, from its first frame on.

        Args:
            index: number of the episode.
            actions: ``(T-1, 7)``, as episodes store them, for any T.

        Raises:
            SampleError: ``actions`` has another shape.
            NumericsError: an action is NaN, infinite or implausibly large.
        """
        ACTION.check(ACTION.values(actions), len(actions) + 1, f"the replay of episode {index}")
        task = self._task(index)
        start = task.waypoints[0]
        targets: Targets = [(self._pose_at_rest(task), start.opening)]
        for motion in actions / action_scale(self.settings.fps):
            pose = targets[-1][0].moved(motion[:6])
            targets.append((pose, float(motion[6])))
        return self._film(index, task, targets)

    def close(self) -> None:
        """Give back what the renderer holds."""
        self._renderer.close()

    def _task(self, index: int) -> Task:
        rng = np.random.default_rng([self.settings.seed, index])
        return make_task(TASK_CYCLE[index % len(TASK_CYCLE)], rng)

    def _set_up(self, task: Task) -> None:
        """Blocks on the table, the arm at rest at the task's first waypoint."""
        self._mujoco.mj_resetData(self._model, self._data)
        place_blocks(self._model, self._data, task.blocks)
        self._arm.reset(task.waypoints[0].pose(), task.waypoints[0].opening)
        self._mujoco.mj_forward(self._model, self._data)

    def _pose_at_rest(self, task: Task) -> Pose:
        self._set_up(task)
        return self._arm.pose()

    def _film(self, index: int, task: Task, targets: Targets) -> Episode:
        self._set_up(task)
        blocks = [self._block_positions(task)]
        poses, openings = [self._arm.pose()], [self._arm.opening()]
        frames = [self._renderer.render(self._data)]
        for pose, opening in targets[1:]:
            self._arm.move(pose, opening, self._steps_per_frame)
            poses.append(self._arm.pose())
            openings.append(self._arm.opening())
            frames.append(self._renderer.render(self._data))
            blocks.append(self._block_positions(task))
        # The measured motion, so that an action is exactly what the frames show; of the fingers
        # the command, which a held block keeps them from reaching.
        motions = [now.motion_to(then) for now, then in pairwise(poses)]
        commands = [[opening] for _, opening in targets[1:]]
        scale = action_scale(self.settings.fps)
        success = task.succeeded(
            poses[0].position_m,
            poses[-1].position_m,
            blocks[0],
            blocks[-1],
        )
        return Episode(
            key=episode_key(index),
            video=Video(np.stack(frames), self.settings.fps),
            actions=(np.concatenate([motions, commands], axis=1) * scale).astype(np.float32),
            states=np.stack(
                [pose.as_state(opening) for pose, opening in zip(poses, openings, strict=True)]
            ).astype(np.float32),
            action_scale=scale,
            caption=task.caption,
            split="val" if index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1 else "train",
            record={
                "source": "simulation",
                "caption_source": "script",
                "task": task.kind,
                "instruction": task.instruction,
                "success": success,
                "seed": [self.settings.seed, index],
                "robot": "Franka Panda",
                "renderer": self._renderer.name,
                "camera": CAMERA.describe(),
                "blocks": [asdict(block) for block in task.blocks],
            },
            further=self._further(np.array(blocks)),
        )

    def _further(self, blocks_TN3: np.ndarray) -> dict[str, Values]:
        """What metrics need of a recording: the camera, and where the blocks are."""
        num_frames, num_blocks = blocks_TN3.shape[:2]
        size = (self.settings.height, self.settings.width)
        found: dict[str, Values] = {CAMERA_SIGNAL.suffix: CAMERA.signal(num_frames, *size)}
        if num_blocks:
            half_N = np.full(num_blocks, BLOCK_HALF_M)
            found[THINGS.suffix] = {"position_m": blocks_TN3, "half_m": half_N}
        return found

    def _block_positions(self, task: Task) -> list[np.ndarray]:
        return [block_position_m(self._data, index) for index in range(len(task.blocks))]


def episode_key(index: int) -> str:
    """Name of an episode."""
    return f"episode_{index:06d}"
