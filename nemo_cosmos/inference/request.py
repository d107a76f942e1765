"""What someone asks a world model for, checked before anything heavy happens.

A :class:`Request` is checked by itself when it is made: types, ranges, files that must exist. It
can be made before a model is loaded, and sent to other ranks. :func:`check_request` then checks it
against a model and completes it with what the model was trained on.

Nothing here imports torch: a request can be made, checked and sent without a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.controls import LAYOUT, RIG, Signal, Values
from nemo_cosmos.controls.embodiment import EMBODIMENT
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    PromptError,
    SampleError,
    WrongFrameCountError,
    counted,
)
from nemo_cosmos.inference.given import FrameSource, GivenFrames, fit_cameras, parse_begin
from nemo_cosmos.inference.layouts import GivenLayouts
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.inference.views import GivenViews, Rig, find_rig, rig_arrays
from nemo_cosmos.models.common.family import generation_options
from nemo_cosmos.options import (
    build_options,
    check_instance,
    check_names,
    check_value,
    option_fields,
)

if TYPE_CHECKING:
    from nemo_cosmos.models.common.generator import Generator

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


def check_request(
    request: Request,
    generator: Generator,
    trained: Mapping[str, object],
    signals: Mapping[str, Signal],
    *,
    decode: bool = True,
) -> CheckedRequest:
    """Check a request against a model.

    Args:
        request: the request.
        generator: the model.
        trained: num_frames, fps, height and width of the model's training videos.
        signals: the signals of the model's controls by name.
        decode: whether to decode the given frames; not needed to check.

    Raises:
        ConfigError: an option that the model does not have, or an impossible value.
        WrongFrameCountError: a length or a number of given frames that it cannot take.
        WrongSizeError: a height or width that it cannot make.
        PromptError: no prompt where nothing else steers.
        SampleError: control arrays of another number of rows than the video needs, or a camera of
            a picture of another aspect.
        InputError: controls that are not the model's, or frames for a model that takes none.
    """
    options, family_options = _options(request, generator, trained)
    num_frames, height, width = options.num_frames, options.height, options.width
    assert num_frames is not None and height is not None and width is not None
    generator.check(num_frames, height, width, family_options)
    _check_negative_prompt(options, family_options, generator)
    rig = find_rig(request.rig, request.control, request.frames, generator)
    if request.frames is None and generator.needs_frames:
        raise InputError(
            "This model continues given frames and cannot begin a video. Use 'predict' with an "
            "image or a video."
        )
    views = DEFAULT_VIEWS if rig is None else rig.views
    view_prompts = _view_prompts(request, views)
    if (
        request.prompt is None
        and generator.takes_text
        and not signals
        and None in (view_prompts.values() or [None])
    ):
        raise PromptError("There is no prompt. This model is steered by text; say what happens.")
    given = request.frames
    if rig is not None and isinstance(given, GivenFrames):
        given = GivenViews({rig.views[0]: given})
    num_given, overlap = 0, 0
    begin: str | int = "first" if signals else "last"
    begin = begin if request.begin is None else request.begin
    source = given.first if isinstance(given, GivenViews) else given
    if isinstance(source, GivenFrames):
        available = source.num_frames(options.fps or 0, begin)
        num_given, overlap = _num_given(request, generator, num_frames, available)
    elif isinstance(given, GivenViews) and request.task == "extend":
        num_given, overlap = 0, (generator.legal_given(num_frames) or [0])[-1]
    control = request.control
    if rig is not None:  # its numbers are a signal of every model of several cameras
        arrays = rig_arrays(rig, height, width)
        own = {RIG.name: RIG} if arrays else {}
        signals, control = {**signals, **own}, {**control, **({RIG.name: arrays} if own else {})}
    chunks = request.num_chunks if request.task == "extend" else 1
    total_frames = chunks * (num_frames - overlap) + overlap
    layouts = None
    if LAYOUT.name in signals and LAYOUT.name in control:
        layouts = GivenLayouts.open(control[LAYOUT.name], views)
    if layouts is not None:  # read below; what is left are arrays
        layouts.check(total_frames, options.fps or 0)
        signals = {name: one for name, one in signals.items() if name != LAYOUT.name}
        control = {name: one for name, one in control.items() if name != LAYOUT.name}
    values = fit_cameras(
        _check_control(control, signals, total_frames, request.task, options.embodiment),
        given if isinstance(given, GivenFrames) else None,
        (height, width),
    )
    given_THWC = times_s = None
    if isinstance(given, GivenFrames):
        numbers = given.choose(num_given, options.fps or 0, begin)
        times_s = given.times_s(numbers)
        given_THWC = given.read(numbers, (height, width)) if decode else None
    of_views: dict[str, np.ndarray] = {}
    if isinstance(given, GivenViews):
        for view in given.by_view:
            wanted = total_frames if view in given.whole else num_given
            numbers = given.choose(view, wanted, options.fps or 0, begin)
            times_s = given.by_view[view].times_s(numbers) if times_s is None else times_s
        if decode:
            of_views = given.read(num_given, total_frames, options.fps or 0, begin, (height, width))
    return CheckedRequest(
        task=request.task,
        prompt=request.prompt,
        options=options,
        family_options=family_options,
        given_THWC=given_THWC,
        num_given=num_given,
        given_times_s=times_s,
        overlap=overlap,
        num_chunks=chunks,
        signals=signals,
        values=values,
        views=views,
        given_by_view=of_views,
        whole=given.whole if isinstance(given, GivenViews) else (),
        view_prompts=view_prompts,
        layouts=_read_layouts(layouts, views, total_frames, options.fps or 0, (height, width))
        if decode
        else {},
    )


def _check_family(unknown: Collection[str]) -> None:
    """Name the family that has an option, where this one has not.

    Raises:
        ConfigError: an option is another family's.
    """
    for family, options_class in generation_options().items():
        theirs = {item.name for item in option_fields(options_class)}
        if found := sorted(theirs.intersection(unknown)):
            raise ConfigError(
                f"{', '.join(found)} is an option of {family} models, which this one is not. Leave "
                "it out; the help lists the options of each family."
            )


def _check_negative_prompt(
    options: GenerationOptions, family_options: Any, generator: Generator
) -> None:
    """Refuse a negative prompt that nothing would look at.

    Raises:
        ConfigError: there is no guidance, or no text to guide.
    """
    if options.negative_prompt is None:
        return
    if not generator.takes_text:
        raise ConfigError("This model takes no text, so no negative_prompt either. Leave it out.")
    strengths = [getattr(family_options, name, None) for name in ("guidance", "control_guidance")]
    if not any(strengths):
        raise ConfigError(
            "Guidance keeps away from the negative_prompt, but it is 0. Set guidance above 0, or "
            "leave the negative prompt out."
        )


def _view_prompts(request: Request, views: Views) -> dict[str, str | None]:
    """What each camera shows; empty where all show the same."""
    for view in request.view_prompts:
        if view not in views or len(views) == 1:
            cameras = f"has {', '.join(views)}" if len(views) > 1 else "makes one camera's video"
            raise InputError(
                f"There is a prompt for the view '{view}', but the request {cameras}. Name one of "
                "several cameras, or write one prompt for all."
            )
    if not request.view_prompts:
        return {}
    return {view: request.view_prompts.get(view, request.prompt) for view in views}


def _read_layouts(
    layouts: GivenLayouts | None,
    views: Views,
    num_frames: int,
    fps: float,
    size_hw: tuple[int, int],
) -> dict[str, np.ndarray]:
    """The layout frames of the whole video in the order of the cameras."""
    if layouts is None:
        return {}
    read = layouts.read(num_frames, fps, size_hw)
    return {view: read[view] for view in views}


def _options(
    request: Request, generator: Generator, trained: Mapping[str, Any]
) -> tuple[GenerationOptions, Any]:
    """Split the options into shared ones, filled in from the model, and the family's."""
    shared = {item.name for item in option_fields(GenerationOptions)}
    own = {item.name for item in option_fields(generator.options_class)}
    _check_family(request.options.keys() - shared - own)
    check_names(request.options, shared | own)
    family_options = build_options(
        generator.options_class, {n: v for n, v in request.options.items() if n in own}
    )
    options = request.shared_options()
    left_open = {
        name: trained[name]
        for name in ("num_frames", "height", "width", "fps")
        if getattr(options, name) is None
    }
    return dataclasses.replace(options, **left_open), family_options


def _num_given(
    request: Request, generator: Generator, num_frames: int, available: int
) -> tuple[int, int]:
    """Return how many frames the first chunk is given, and how many the later ones."""
    if not generator.takes_frames:
        raise InputError(
            "This model makes video from text alone (Text2World) and takes no frames. Use "
            "'generate', or a Video2World model."
        )
    legal = generator.legal_given(num_frames)
    if not legal:
        raise WrongFrameCountError(
            f"A video of {counted(num_frames, 'frame')} leaves none to generate after the given "
            "ones. Ask for a longer video."
        )
    usual = legal[-1] if request.task == "extend" else 1
    wanted = request.num_condition_frames or usual
    if wanted not in legal:
        raise WrongFrameCountError(
            f"num_condition_frames is {wanted}, but of a video of {num_frames} frames this model "
            f"takes {' or '.join(map(str, legal))} as given. Choose one of these."
        )
    if request.task == "predict":
        return wanted, wanted
    # The first chunk of a long video takes what there is: an image is enough to begin with.
    fitting = [count for count in legal if count <= min(wanted, available)]
    if not fitting:
        raise WrongFrameCountError("There is no frame to continue. Give an image or a video.")
    return fitting[-1], wanted


def _check_control(
    control: Controls,
    signals: Mapping[str, Signal],
    num_frames: int,
    task: Task,
    embodiment: str | None = None,
) -> dict[str, Values]:
    """Return the arrays of each signal; they must be for exactly the frames of the video."""
    if sorted(control) != sorted(signals):
        raise InputError(
            f"The model takes {_listed(signals)} as control, but got {_listed(control)}. "
            "Give exactly those; a model learns a control in post-training."
        )
    if embodiment is not None and all(one.complete is None for one in signals.values()):
        raise ConfigError(
            f"The embodiment '{embodiment}' is asked for, but no action steers this model. Leave "
            "it out, or use a model that was post-trained on actions."
        )
    record = {} if embodiment is None else {EMBODIMENT: embodiment}
    values: dict[str, Values] = {}
    for name, signal in signals.items():
        given = control[name]
        where = f" of '{given}'" if isinstance(given, str | PathLike) else ""
        values[name] = signal.completed(signal.values(given), record, where.removeprefix(" of "))
        _check_rows(signal, values[name], num_frames, task, where)
        _check_numbers(signal, values[name], where)
        signal.check(values[name], num_frames, where.removeprefix(" of "))
    return values


def _check_rows(
    signal: Signal, values: Values, num_frames: int, task: Task, where: str = ""
) -> None:
    """Refuse missing and surplus rows in words that fit a generation."""
    longer = (
        "another num_frames or number of chunks"
        if task == "extend"
        else "another num_frames; 'extend' makes longer videos"
    )
    for array in signal.arrays:
        if array.time is None or array.name not in values or values[array.name].ndim == 0:
            continue
        rows, expected = len(values[array.name]), array.num_rows(num_frames)
        if rows != expected:
            raise SampleError(
                f"The control '{array.name}'{where} has {counted(rows, 'row')}, but this video of "
                f"{num_frames} frames takes {expected}, the first of them for the first given "
                f"frame. Give {expected} rows, or ask for {longer}."
            )


def _check_numbers(signal: Signal, values: Values, where: str = "") -> None:
    """Refuse numbers that cannot be meant: what a person gave is wrong, not our arithmetic."""
    for array in signal.arrays:
        if array.name in values and (problem := array.bad_values(values[array.name])) is not None:
            raise SampleError(
                f"The control '{array.name}'{where} {problem}. Give the numbers that the model was "
                "trained on."
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"
