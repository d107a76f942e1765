"""The table in a world model: pictures of what a robot would see, many at once.

The model is asked as training asks it for its sample videos, without prompts and guards: nobody
sees these pictures, and a plan needs thousands. Whatever is kept for people passes the guards
(:mod:`.showing`). The words are left out, because a caption tells what happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import World, model_record
from nemo_cosmos.controls import controls_of
from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment, find_embodiment
from nemo_cosmos.errors import ConfigError, InputError
from nemo_cosmos.inference.loading import load_shared_world
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Shot, generate_all
from nemo_cosmos.options import build_options, option_fields
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.video import frames_to_tensor, tensor_to_frames
from post_training.robotics.restating import check_restatable, restate_own
from post_training.robotics.signal import ACTION, DEFAULT_EMBODIMENT, embodiments_of
from post_training.robotics.simulation.arm import action_scale
from post_training.robotics.usefulness.environment import Form, Moment, Scene

STEPS = 2
"""Sampling steps. More draw sharper pictures, but do not place the gripper better."""

BATCH = 16
"""Rollouts in one run of the model."""


@dataclass(frozen=True)
class Imagination:
    """How a world model is asked.

    Attributes:
        steps: sampling steps of a chunk, where the model's family has such.
        batch: rollouts in one run of the model.
        control_guidance: how strongly to follow the actions, of a model that was trained with
            ``control_dropout``.
    """

    steps: int = STEPS
    batch: int = BATCH
    control_guidance: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Return what decides the pictures, as plain data."""
        # Picture and actions determine what follows; guidance by the words, which are left out,
        # would only double the time.
        told = {"control_guidance": self.control_guidance} if self.control_guidance else {}
        return {"steps": self.steps, "guidance": 0.0, **told}


class ImaginedTable:
    """An :class:`~.environment.Environment` in a world model.

    Args:
        world: the model, which an action steers.
        how: how it is asked.

    Raises:
        InputError: the model has another control, or takes no first frame.
        ConfigError: too many or too few steps.
    """

    def __init__(self, world: World, how: Imagination | None = None) -> None:
        self.world = world
        self.how = how or Imagination()
        self.form = form_of(world.config, str(world.folder))
        (self._signal,) = controls_of(world.config.controls)[0].signals
        self._told_in = told_in(world.config, str(world.folder))
        self._generator = get_family(world.config.family).make_generator(
            world.net, world.config.model, world.tokenizer, world.folder
        )
        if not self._generator.takes_frames:
            raise InputError(
                f"'{world.folder}' makes video from text alone and cannot begin with a picture of "
                "a scene. Use a Video2World model that was post-trained on actions."
            )
        kind = self._generator.options_class
        own = {item.name for item in option_fields(kind)}
        wanted = self.how.describe()
        self._options = build_options(kind, {n: v for n, v in wanted.items() if n in own})
        form = self.form
        self._generator.check(form.num_actions + 1, form.height, form.width, self._options)
        encoder = world.config.text_encoder
        self._text_BLD = torch.zeros(1, int(encoder["max_length"]), int(encoder["dim"]))

    @classmethod
    def from_folder(
        cls, path: str | PathLike[str], how: Imagination | None = None
    ) -> ImaginedTable:
        """Load a world folder, or that of the run that exported it.

        Raises:
            MissingFileError, CheckpointError: as :func:`load_shared_world`.
        """
        return cls(load_shared_world(exported_folder(path)), how)

    def describe(self) -> dict[str, Any]:
        """Return the model and how it is asked, for the record."""
        network = next(self.world.net.parameters())
        return {
            "world": str(self.world.folder.resolve()),
            "model": model_record(self.world),
            "controls": [spec.to_dict() for spec in self.world.config.controls],
            "options": self.how.describe(),
            "device": str(network.device),
            "dtype": str(network.dtype),
        }

    def begin(self, scene: Scene) -> Moment:
        """Return an episode's first moment: the model gets the scene's picture."""
        return Moment(scene.frame_HWC)

    def step(
        self,
        moments: Sequence[Moment],
        actions_NKA: np.ndarray,
        seed: int = 0,
        every_frame: bool = True,
    ) -> tuple[list[Moment], np.ndarray]:
        """Imagine a chunk of actions from each moment; see :class:`Environment`.

        Raises:
            NumericsError: a picture is NaN or infinite.
        """
        first = 1 if every_frame else -1  # the first frame is the given one
        frames_NKHWC = np.stack(
            [
                tensor_to_frames(video[:, first:])
                for video in self._videos(moments, actions_NKA, seed)
            ]
        )
        after = [
            Moment(frames_KHWC[-1], moment.num_chunks + 1)
            for moment, frames_KHWC in zip(moments, frames_NKHWC, strict=True)
        ]
        return after, frames_NKHWC

    def _videos(
        self, moments: Sequence[Moment], actions_NKA: np.ndarray, seed: int
    ) -> Iterator[Tensor]:
        """Yield one video (C,T,H,W) after the other, made in batches."""
        shots = [
            self._shot(moment, actions_KA, seed)
            for moment, actions_KA in zip(moments, actions_NKA, strict=True)
        ]
        for first in range(0, len(shots), self.how.batch):
            yield from generate_all(self._generator, shots[first : first + self.how.batch])

    def _shot(self, moment: Moment, actions_KA: np.ndarray, seed: int) -> Shot:
        form = self.form
        actions_KA = restate_own(actions_KA, action_scale(form.fps), self._told_in)
        values = self._signal.completed(
            self._signal.values(np.asarray(actions_KA, np.float32)),
            {EMBODIMENT: self._told_in.name},
        )
        self._signal.check(values, form.num_actions + 1, "a chunk of actions")
        return Shot(
            text_BLD=self._text_BLD,
            negative_text_BLD=self._text_BLD,
            num_frames=form.num_actions + 1,
            height=form.height,
            width=form.width,
            fps=form.fps,
            seed=seed,
            options=self._options,
            given_BCTHW=frames_to_tensor(moment.frame_HWC[None])[None],
            controls=self._signal.batch(values, 0, form.num_actions + 1),
            chunk=moment.num_chunks,
        )


def told_in(config: WorldConfig, place: str) -> Embodiment:
    """The embodiment of a world that the simulator's actions can be written in.

    Args:
        config: the world's description.
        place: its folder, for messages.

    Raises:
        InputError: there is none, so that the simulator's robot cannot steer it.
    """
    several = embodiments_of(config.controls[0].options)
    problem = ""
    for one in several:
        try:
            check_restatable(find_embodiment(DEFAULT_EMBODIMENT), one)
        except ConfigError as error:
            problem = str(error)
        else:
            return one
    raise InputError(f"The simulator's robot cannot steer '{place}'. {problem}")


def form_of(config: WorldConfig, place: str) -> Form:
    """The form of a world's chunks: those that it was trained on.

    Args:
        config: the world's description.
        place: its folder, for messages.

    Raises:
        InputError: it has another control than the robot's action.
    """
    names = [spec.name for spec in config.controls]
    if names != [ACTION.name]:
        has = " and ".join(f"'{name}'" for name in names) or "no control"
        raise InputError(
            f"'{place}' has {has}; expected the control '{ACTION.name}' alone, by which a robot is "
            "told what to do. Post-train the world on a robot's actions, for example with "
            "'nemo-cosmos finetune --factory diffusion_nano_action --from WORLD'."
        )
    video = config.video
    return Form(
        int(video["num_frames"]) - 1,
        int(video["height"]),
        int(video["width"]),
        float(video["fps"]),
    )
