"""A request checked against a model, and completed with what the model was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.controls import Signal
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    PromptError,
    WrongFrameCountError,
    counted,
)
from nemo_cosmos.inference.given import GivenFrames
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.inference.request import CheckedRequest, Request
from nemo_cosmos.inference.steering import steering_of
from nemo_cosmos.inference.views import GivenViews, Rig, find_rig
from nemo_cosmos.models.common.family import generation_options
from nemo_cosmos.options import build_options, check_names, option_fields

if TYPE_CHECKING:
    from nemo_cosmos.models.common.generator import Generator


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
    _check_frames(request, generator)
    views = DEFAULT_VIEWS if rig is None else rig.views
    view_prompts = _view_prompts(request, views)
    steered = bool(signals)
    _check_prompt(request, view_prompts, needed=generator.takes_text and not steered)
    start = _start(request, generator, options, rig, steered)
    num_chunks = request.num_chunks if request.task == "extend" else 1
    total_frames = num_chunks * (num_frames - start.overlap) + start.overlap
    steering = steering_of(request, signals, rig, options, total_frames, decode)
    given_THWC, given_by_view, times_s = start.read(options, total_frames, decode)
    return CheckedRequest(
        task=request.task,
        prompt=request.prompt,
        options=options,
        family_options=family_options,
        given_THWC=given_THWC,
        num_given=start.num_given,
        given_times_s=times_s,
        overlap=start.overlap,
        num_chunks=num_chunks,
        signals=steering.signals,
        values=steering.values,
        views=views,
        given_by_view=given_by_view,
        whole=start.given.whole if isinstance(start.given, GivenViews) else (),
        view_prompts=view_prompts,
        layouts=steering.layouts,
    )


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


def _check_frames(request: Request, generator: Generator) -> None:
    """Refuse to begin a video with a model that only goes on.

    Raises:
        InputError: the model needs frames, and there are none.
    """
    if request.frames is None and generator.needs_frames:
        raise InputError(
            "This model continues given frames and cannot begin a video. Use 'predict' with an "
            "image or a video."
        )


def _check_prompt(request: Request, view_prompts: Mapping[str, str | None], needed: bool) -> None:
    """Refuse a request in which nothing says what happens.

    Raises:
        PromptError: a text is needed, and one camera at least has none.
    """
    if needed and None in (view_prompts.values() or [request.prompt]):
        raise PromptError("There is no prompt. This model is steered by text; say what happens.")


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


@dataclass(frozen=True)
class _Start:
    """What a video begins with.

    Attributes:
        given: where the given frames come from; None when generating.
        begin: which of them are given, as of :class:`Request`.
        num_given: frames that the first chunk is given.
        overlap: frames that each later chunk takes from the one before.
    """

    given: GivenFrames | GivenViews | None
    begin: str | int
    num_given: int
    overlap: int

    def read(
        self, options: GenerationOptions, total_frames: int, decode: bool
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray], list[float] | None]:
        """Return the frames of one camera or by camera, and when the source shows them.

        Args:
            options: the options, completed.
            total_frames: the frames of the whole video.
            decode: whether to decode the frames; their times are known without.
        """
        fps, height, width = options.fps or 0, options.height or 0, options.width or 0
        if isinstance(self.given, GivenFrames):
            numbers = self.given.choose(self.num_given, fps, self.begin)
            frames_THWC = self.given.read(numbers, (height, width)) if decode else None
            return frames_THWC, {}, self.given.times_s(numbers)
        if self.given is None:
            return None, {}, None
        times_s = None
        for view, source in self.given.by_view.items():
            wanted = total_frames if view in self.given.whole else self.num_given
            numbers = self.given.choose(view, wanted, fps, self.begin)
            times_s = source.times_s(numbers) if times_s is None else times_s
        by_view = {}
        if decode:
            by_view = self.given.read(
                self.num_given, total_frames, fps, self.begin, (height, width)
            )
        return None, by_view, times_s


def _start(
    request: Request,
    generator: Generator,
    options: GenerationOptions,
    rig: Rig | None,
    steered: bool,
) -> _Start:
    """Choose what the video begins with.

    Args:
        request: the request.
        generator: the model.
        options: the options, completed.
        rig: the cameras of a model of several.
        steered: whether a control steers the model, whose arrays begin with the video.
    """
    given = request.frames
    if rig is not None and isinstance(given, GivenFrames):
        given = GivenViews({rig.views[0]: given})
    begin: str | int = "first" if steered else "last"
    begin = begin if request.begin is None else request.begin
    num_frames = options.num_frames or 0
    source = given.first if isinstance(given, GivenViews) else given
    num_given, overlap = 0, 0
    if isinstance(source, GivenFrames):
        available = source.num_frames(options.fps or 0, begin)
        num_given, overlap = _num_given(request, generator, num_frames, available)
    elif isinstance(given, GivenViews) and request.task == "extend":
        overlap = (generator.legal_given(num_frames) or [0])[-1]
    assert given is None or isinstance(given, GivenFrames | GivenViews)
    return _Start(given, begin, num_given, overlap)


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
