"""What someone asks a world model for, checked before anything heavy happens.

A :class:`Request` is checked by itself when it is made: types, ranges, files that must exist. It
can be made before a model is loaded, and sent to other ranks. ``completion.py`` then checks it
against a model and makes the :class:`CheckedRequest`.

Nothing here imports torch: a request can be made, checked and sent without a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.controls import Signal, Values
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    PromptError,
)
from nemo_cosmos.inference.given import FrameSource, GivenFrames, parse_begin
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.inference.views import GivenViews, Rig
from nemo_cosmos.options import (
    build_options,
    check_instance,
    check_value,
    option_fields,
)

if TYPE_CHECKING:
    pass

Task = Literal["generate", "predict", "extend"]

Controls: TypeAlias = Mapping[str, np.ndarray | Values | str | PathLike[str]]
"""Signals by name: ``{"action": actions}``, or arrays by name for one with several. ``layout`` may
be videos: a folder with one for each camera, or frames by the camera's name."""


@dataclass(frozen=True)
class Request:
    """One video that someone asks for.

    Attributes:
        task: ``generate`` without frames, ``predict`` what follows given frames, or ``extend``
            them chunk by chunk.
        prompt: what happens; None only where a control steers.
        options: :class:`GenerationOptions` and those of the model's family, by name. None takes
            the default.
        frames: what is continued; a path is looked at, but not decoded.
        begin: which of the frames are given: ``"first"``, ``"last"``, or the number of the first
            one at the model's frame rate. By default the first with a control, whose arrays begin
            with the video, else the last.
        num_condition_frames: how many frames to give; when extending, how many each chunk takes
            from the one before. By default 1, and as many as the model takes when extending.
        num_chunks: how many times to continue, when extending.
        control: the signals of the model's controls, for exactly the frames of the new video.
        rig: the cameras of a model of several; None for a model of one. ``frames`` are then by the
            camera's name. A control ``rig`` that names its cameras will do, too.
        whole: names of cameras that are given from begin to end, the others being generated.
        view_prompts: what single cameras of several show, by their names; the others show what
            ``prompt`` says.

    Raises:
        InputError: a value of another type or outside its range, or a combination without sense.
    """

    task: Task
    prompt: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    frames: FrameSource | Mapping[str, FrameSource] | GivenFrames | GivenViews | None = None
    begin: str | int | None = None
    num_condition_frames: int | None = None
    num_chunks: int = 1
    control: Controls = field(default_factory=dict)
    rig: Rig | None = None
    whole: tuple[str, ...] = ()
    view_prompts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ConfigError(
                f"There is no task '{self.task}'; expected {', '.join(get_args(Task))}."
            )
        check_instance("view_prompts", self.view_prompts, Mapping, "Write {'front': text}.")
        for words in (self.prompt, *self.view_prompts.values()):
            if words is not None and not isinstance(words, str):
                raise PromptError(
                    f"The prompt is a {type(words).__name__}; expected text that says what happens."
                )
        chosen = {name: value for name, value in self.options.items() if value is not None}
        # Frozen, so that nobody changes a request while a rank works on it.
        object.__setattr__(self, "options", chosen)
        self.shared_options()
        object.__setattr__(self, "begin", parse_begin(self.begin))
        for name in ("num_condition_frames", "num_chunks"):
            kind = int | None if name == "num_condition_frames" else int
            value = check_value(name, getattr(self, name), kind)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be 1 or more.")
            object.__setattr__(self, name, value)
        self._check_frames()

    def shared_options(self) -> GenerationOptions:
        """Return those of the options that all families share."""
        names = {item.name for item in option_fields(GenerationOptions)}
        return build_options(
            GenerationOptions, {n: value for n, value in self.options.items() if n in names}
        )

    def _check_frames(self) -> None:
        advice = "Write {'action': actions}: the signals by name."
        check_instance("control", self.control, Mapping, advice)
        if self.task == "generate":
            if self.frames is not None:
                raise InputError(
                    "'generate' begins without frames, but frames were given. Use 'predict' to "
                    "continue them."
                )
            return
        if self.frames is None:
            raise InputError(f"'{self.task}' continues an image or a video. Give one.")
        if isinstance(self.frames, Mapping):
            object.__setattr__(self, "frames", GivenViews.open(self.frames, self.whole))
        elif not isinstance(self.frames, GivenFrames | GivenViews):
            object.__setattr__(self, "frames", GivenFrames.open(self.frames))
        if self.whole and not isinstance(self.frames, GivenViews):
            raise InputError(
                f"The views {', '.join(self.whole)} are to be given as a whole, but the frames are "
                "of one camera. Give them by the camera's name."
            )


@dataclass(frozen=True)
class CheckedRequest:
    """A request that a model can fulfil, with nothing left open.

    Attributes:
        task: the request's task.
        prompt: the request's prompt.
        options: the shared options, completed from the model.
        family_options: the family's own options.
        given_THWC: the frames to begin with, at the video's size; None when generating, and where
            they were not to be decoded.
        num_given: how many frames are given.
        given_times_s: when the source shows them, in seconds; None for a source without times.
        overlap: frames that each chunk after the first takes from the one before.
        num_chunks: chunks; 1 unless extending.
        signals: the model's signals by name.
        values: the arrays of each signal, for the whole video.
        views: names of the cameras.
        given_by_view: of several cameras, what is given of each, as ``given_THWC``.
        whole: names of those that are given from begin to end.
        view_prompts: of several cameras, what each shows; empty where all show ``prompt``.
        layouts: layout videos of each camera for the whole video, in the order of ``views``.
    """

    task: Task
    prompt: str | None
    options: GenerationOptions
    family_options: Any
    given_THWC: np.ndarray | None
    num_given: int
    given_times_s: list[float] | None
    overlap: int
    num_chunks: int
    signals: Mapping[str, Signal]
    values: Mapping[str, Values]
    views: Views = DEFAULT_VIEWS
    given_by_view: Mapping[str, np.ndarray] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    view_prompts: Mapping[str, str | None] = field(default_factory=dict)
    layouts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def prompts(self) -> tuple[str | None, ...]:
        """What all cameras show, or what each does."""
        return tuple(self.view_prompts.values()) or (self.prompt,)

    @property
    def given(self) -> Mapping[str, np.ndarray]:
        """What is given of each camera, one or several."""
        if self.given_THWC is not None:
            return {self.views[0]: self.given_THWC}
        return self.given_by_view

    @property
    def chunk_frames(self) -> int:
        """Frames of a chunk."""
        assert self.options.num_frames is not None
        return self.options.num_frames

    @property
    def total_frames(self) -> int:
        """Frames of the whole video."""
        return self.num_chunks * (self.chunk_frames - self.overlap) + self.overlap

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert self.options.height is not None and self.options.width is not None
        return self.options.height, self.options.width

    @property
    def fps(self) -> float:
        """Frame rate in Hz."""
        assert self.options.fps is not None
        return self.options.fps

    def controls_of(self, chunk: int) -> dict[str, np.ndarray]:
        """Return the control arrays of a chunk by batch key."""
        first = chunk * (self.chunk_frames - self.overlap)
        batch: dict[str, np.ndarray] = {}
        for name, signal in self.signals.items():
            batch |= signal.batch(self.values[name], first, self.chunk_frames)
        return batch

    def layouts_of(self, chunk: int) -> dict[str, np.ndarray]:
        """Return the layout frames of a chunk by camera."""
        first = chunk * (self.chunk_frames - self.overlap)
        frames = slice(first, first + self.chunk_frames)
        return {view: frames_THWC[frames] for view, frames_THWC in self.layouts.items()}

    def recorded_options(self) -> dict[str, object]:
        """Return plain values for the provenance, where the negative prompt is hashed apart."""
        values = dataclasses.asdict(self.options) | dataclasses.asdict(self.family_options)
        del values["negative_prompt"]
        return values
