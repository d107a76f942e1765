"""The studio: films scenarios, with all that the simulator knows of the objects.

Recordings come in rounds of eight scenarios, two rounds to a pair. Both rounds of a pair show the
same scenes where a scenario has a push, each with a push of its own: the first frame is the same,
and the rest is not. In every other pair a board hides a part of the way, where a scenario allows
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import require
from nemo_cosmos.video import Video
from post_training.physics.scenarios import SCENARIOS, draw_setup
from post_training.physics.things import Motion, Setup
from post_training.physics.world import (
    CAMERA,
    PANEL_Y_M,
    build_model,
    simulate_motion,
    support_profile,
)
from post_training.rendering import FilmSettings, prepare_environment
from post_training.rendering.raycaster import RayCaster, Sight

_VALIDATION_EVERY = 10  # pairs
_ROUNDS = 2
_WHOLE = 0.97
_CLEAR_M = 0.1
_MIN_FRAMES_AFTER = 4


@dataclass(frozen=True)
class PhysicsSettings(FilmSettings):
    """Settings that, together with its number, determine a recording.

    Attributes:
        scenarios: the scenarios, which take turns.
    """

    fps: float = 20.0
    scenarios: tuple[str, ...] = tuple(SCENARIOS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scenarios or len(set(self.scenarios)) < len(self.scenarios):
            raise ConfigError(
                f"The scenarios are {', '.join(self.scenarios) or 'none'}; expected at least one, "
                f"each once, of {', '.join(SCENARIOS)}."
            )
        for name in self.scenarios:
            draw_setup(name, (0,), 0)  # an unknown one is refused


@dataclass(frozen=True)
class Clip:
    """A film of one scenario.

    Attributes:
        key: its name, unique within the folder.
        video: T frames.
        objects: the arrays of :data:`nemo_cosmos.controls.objects.OBJECTS`.
        camera: the arrays of :data:`nemo_cosmos.controls.camera.CAMERA`.
        caption: what happens, as a person would say it.
        split: ``train`` or ``val``.
        record: all other entries of the JSON.
    """

    key: str
    video: Video
    objects: Mapping[str, Array]
    camera: Mapping[str, Array]
    caption: str
    split: str
    record: Mapping[str, Any]


class PhysicsStudio:
    """Films recordings of the same settings; each depends only on its number.

    Args:
        settings: settings of the recordings.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
    """

    def __init__(self, settings: PhysicsSettings | None = None) -> None:
        prepare_environment(RayCaster.name)
        self.settings = settings or PhysicsSettings()

    def record(self, index: int) -> Clip:
        """Film a recording.

        Args:
            index: its number, which determines scenario, scene, push and split.
        """
        names = self.settings.scenarios
        name = names[index % len(names)]
        pair, push = divmod(index // len(names), _ROUNDS)
        is_pushed = SCENARIOS[name].is_pushed
        # Without a push, both rounds of a pair have scenes of their own.
        number = pair if is_pushed else _ROUNDS * pair + push
        setup = self._setup(name, number, push if is_pushed else 0, panel=pair % 2 == 1)
        other = self._setup(name, number, 1 - push, panel=False) if is_pushed else None
        clip = self.film(setup, other)
        split = "val" if pair % _VALIDATION_EVERY == _VALIDATION_EVERY - 1 else "train"
        pairs = {"pair": clip_key(index + (1 - 2 * push) * len(names))} if is_pushed else {}
        seed = [self.settings.seed, index]
        return replace(
            clip, key=clip_key(index), split=split, record={**clip.record, **pairs, "seed": seed}
        )

    def film(self, setup: Setup, other: Setup | None = None) -> Clip:
        """Film a setup.

        Args:
            setup: the scene and its push.
            other: the same scene with another push.
        """
        length, fps = self.settings.num_frames, self.settings.fps
        model, motion = simulate_motion(setup, length, fps)
        panel_x_m = _place_panel(setup, motion) if setup.panel else None
        if panel_x_m is None:
            setup = replace(setup, panel=False)
        else:
            model = build_model(setup, panel_x_m)
        sights, projection = self._look(setup, model, motion)
        no_pair = np.zeros((length, 0, 3))
        other_TN3 = (
            no_pair if other is None else simulate_motion(other, length, fps)[1].position_TN3
        )
        return Clip(
            key="",
            video=Video(np.stack([sight.picture_HWC for sight in sights]), fps),
            objects={
                **_motion_arrays(motion, fps),
                **_sight_arrays(sights),
                "other_position_m": other_TN3.astype(np.float32),
                "mass_kg": np.array([thing.mass_kg for thing in setup.things], np.float32),
                "height_m": np.array([2 * thing.half_m[2] for thing in setup.things], np.float32),
                "support_m": support_profile(setup).astype(np.float32),
                "projection": projection,
            },
            camera=CAMERA.signal(length, self.settings.height, self.settings.width),
            caption=setup.words(),
            split="train",
            record={
                "source": "simulation",
                "caption_source": "script",
                "task": setup.scenario,
                "has_panel": setup.panel,
                "objects": [thing.words for thing in setup.things],
                "renderer": RayCaster.name,
                "camera": CAMERA.describe(),
            },
        )

    def _setup(self, name: str, number: int, push: int, panel: bool) -> Setup:
        order = list(SCENARIOS).index(name)
        return draw_setup(name, (self.settings.seed, order, number), push, panel)

    def _look(self, setup: Setup, model: Any, motion: Motion) -> tuple[list[Sight], Array]:
        """What each frame shows, and the camera's projection."""
        mujoco = require("mujoco")
        data = mujoco.MjData(model)
        numbers = {f"object{index}": index + 1 for index in range(len(setup.things))}
        caster = RayCaster(model, self.settings.height, self.settings.width, numbers)
        sights = []
        for qpos in motion.qpos_TQ:
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            sights.append(caster.look(data))
        return sights, caster.projection(data)


def clip_key(index: int) -> str:
    """Name of a recording."""
    return f"physics_{index:06d}"


def _motion_arrays(motion: Motion, fps: float) -> dict[str, Array]:
    """What the simulator knows of the things."""
    return {
        "time_s": np.arange(len(motion.position_TN3)) / fps,
        "position_m": motion.position_TN3.astype(np.float32),
        "velocity_m_s": motion.velocity_TN3.astype(np.float32),
        "rotation_rad": motion.rotation_TN.astype(np.float32),
        "energy_j": motion.energy_TN3.astype(np.float32),
        "touches": motion.touches_TN.astype(np.uint8),
    }


def _sight_arrays(sights: list[Sight]) -> dict[str, Array]:
    """What the camera sees of the things."""
    area_TN, visible_TN = (
        np.stack([getattr(sight, name) for sight in sights]) for name in ("area_px", "visible_px")
    )
    share_TN = visible_TN / np.maximum(area_TN, 1e-6)
    is_cut_TN = np.stack([sight.is_cut for sight in sights]) | (area_TN == 0)
    return {
        "mask": np.stack([sight.mask_HW for sight in sights]),
        "visible_fraction": share_TN.astype(np.float32),
        "is_whole": ((share_TN > _WHOLE) & ~is_cut_TN).astype(np.uint8),
    }


def _place_panel(setup: Setup, motion: Motion) -> tuple[float, float] | None:
    """Left and right end of a board that the first thing passes behind; None without such a place.

    The thing is in full view at the start, hidden for a while, and in full view again in time.
    """
    half = max(setup.things[0].half_m)
    x_T = motion.position_TN3[:, 0, 0]
    # The board stands nearer to the camera than the thing, so it hides more than its width.
    shrink = 1 + PANEL_Y_M / -CAMERA.position_m[1]
    hidden = half + _CLEAR_M
    for frame in range(len(x_T) // 3, len(x_T) - _MIN_FRAMES_AFTER):
        middle = x_T[frame]
        away = np.abs(x_T - middle) > hidden + half + _CLEAR_M
        in_view = np.abs(x_T) < 1.3
        if away[0] and (away & in_view)[frame:].sum() >= _MIN_FRAMES_AFTER:
            return float((middle - hidden) * shrink), float((middle + hidden) * shrink)
    return None
