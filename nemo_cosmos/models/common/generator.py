"""What every world-model family offers to whoever generates: one shot in, one video out.

A :class:`Shot` is one run of the model: a whole video, or one chunk of a long one. It holds tensors
and numbers alone; prompts, files, guards and the cutting into chunks are the business of
``nemo_cosmos.inference``. A family implements :class:`Generator`; what only that family can choose
(guidance, temperature, ...) is a dataclass of its own, whose fields are made with
:func:`nemo_cosmos.options.option`, so that commands and servers can show them.

Every rank that holds a part of the model calls the generator alike. Ranks stop together: see
:func:`on_all_ranks`.

Shape suffixes: B batch, C channels, T frames, H height, W width, L text tokens, D text channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.errors import Cancelled, InputError
from nemo_cosmos.progress import Progress


@dataclass(frozen=True)
class Shot:
    """The inputs of one run of a model; the same on every rank, on any device.

    Attributes:
        text_BLD: the prompt's embedding, zeros beyond the text.
        negative_text_BLD: the negative prompt's embedding; zeros without one.
        num_frames: frames of the video, the given ones included.
        height: height in pixels.
        width: width in pixels.
        fps: frame rate in Hz.
        seed: seed of all randomness.
        options: the family's own choices, an instance of :attr:`Generator.options_class`.
        given_BCTHW: the first frames, in [-1, 1]; None where nothing is given.
        views: names of the cameras, one or more; ``num_frames`` are those of each, and ``text_BLD``
            may be (B, V, L, D), one a view.
        given_by_view: of several views, the first frames of each, or all of a view that is given as
            a whole; None for a view of which nothing is given. Empty where nothing is, and for one
            view, which has ``given_BCTHW``.
        controls: the arrays of the model's controls for exactly these frames, by batch key
            (``Signal.batch``) and without the batch dimension.
        chunk: number of this shot in a long video, from 0.
    """

    text_BLD: Tensor
    negative_text_BLD: Tensor
    num_frames: int
    height: int
    width: int
    fps: float
    seed: int
    options: Any
    given_BCTHW: Tensor | None = None
    views: Views = DEFAULT_VIEWS
    given_by_view: tuple[Tensor | None, ...] = ()
    controls: Mapping[str, np.ndarray] = field(default_factory=dict)
    chunk: int = 0


class Generator(Protocol):
    """A loaded model that makes videos."""

    @property
    def options_class(self) -> type[Any]:
        """The dataclass of the family's own choices; every field has a default and a help."""
        ...

    @property
    def takes_frames(self) -> bool:
        """Whether a video can begin with given frames, or is made from text alone."""
        ...

    @property
    def needs_frames(self) -> bool:
        """Whether a video must begin with given frames."""
        ...

    @property
    def takes_text(self) -> bool:
        """Whether a prompt steers the video; where it does not, none is needed."""
        ...

    @property
    def last_run(self) -> Mapping[str, object]:
        """What the last video took, for its provenance: plain values, or nothing."""
        ...

    def legal_given(self, num_frames: int) -> list[int]:
        """Return the numbers of given frames that a video of this length may begin with.

        Returns:
            Rising numbers below ``num_frames``.
        """
        ...

    def check(self, num_frames: int, height: int, width: int, options: Any) -> None:
        """Refuse what the model cannot make, before anything is computed.

        Raises:
            WrongFrameCountError: a length that the model cannot make; names those that it can.
            WrongSizeError: a height or width that it cannot make.
            ConfigError: options that contradict each other.
        """
        ...

    def generate(self, shot: Shot, progress: Progress | None = None) -> Tensor:
        """Make one video; every rank calls it.

        Args:
            shot: the inputs, checked before.
            progress: called on each rank that gave one, after every step.

        Returns:
            video_BCTHW in [-1, 1], the given frames included, the same on every rank; the views one
            after another along T.

        Raises:
            Cancelled: the progress of any rank raised it.
            SampleError: control arrays that do not fit the video.
            NumericsError: the result is NaN or infinite.
        """
        ...


@runtime_checkable
class ViewsGenerator(Generator, Protocol):
    """A generator that can make what several synchronous cameras see."""

    @property
    def max_views(self) -> int:
        """The most cameras of a video; 1 for a model of one camera."""
        ...

    @property
    def max_given_views(self) -> int:
        """The most cameras whose whole videos the model was trained to be given."""
        ...


def max_views_of(generator: Generator) -> int:
    """Return the most cameras of a generator's videos; 1 where its family knows no views."""
    return generator.max_views if isinstance(generator, ViewsGenerator) else 1


@runtime_checkable
class BatchGenerator(Generator, Protocol):
    """A generator that makes several videos of the same form in one run of the model."""

    def generate_batch(self, shots: Sequence[Shot], progress: Progress | None = None) -> Tensor:
        """Make several videos; every rank calls it.

        Args:
            shots: the inputs of each, alike in all but text, seed, the content of given frames and
                controls, and the chunk's number.
            progress: called on each rank that gave one, after every step.

        Returns:
            video_BCTHW in [-1, 1], one for each shot; each is what :meth:`generate` makes of it.

        Raises:
            InputError: there is no shot, or they are not alike.
            Cancelled, SampleError, NumericsError: as :meth:`generate`.
        """
        ...


def generate_all(generator: Generator, shots: Sequence[Shot]) -> Tensor:
    """Make several videos: in one run where the family can, else one after the other.

    Args:
        generator: the model.
        shots: the inputs; see :meth:`BatchGenerator.generate_batch`.
    """
    if isinstance(generator, BatchGenerator):
        return generator.generate_batch(shots)
    common_shot(shots)
    return torch.cat([generator.generate(shot) for shot in shots])


def common_shot(shots: Sequence[Shot]) -> Shot:
    """Return the first of several shots, which stands for all in what a batch shares.

    Raises:
        InputError: there is none, or they differ in what one run of a model shares.
    """
    forms = {
        (
            shot.num_frames,
            shot.height,
            shot.width,
            shot.fps,
            repr(shot.options),
            None if shot.given_BCTHW is None else shot.given_BCTHW.shape[2],
            len(shot.views),
            tuple(None if one is None else one.shape[2] for one in shot.given_by_view),
            tuple(sorted((name, value.shape) for name, value in shot.controls.items())),
        )
        for shot in shots
    }
    if len(forms) != 1:
        raise InputError(
            f"A batch holds {len(shots)} shots of {len(forms)} forms; expected one or more shots "
            "that agree in length, size, frame rate, options, number of given frames and shapes of "
            "controls. Generate the others in a batch of their own."
        )
    return shots[0]


def on_all_ranks(progress: Progress | None) -> Progress:
    """Wrap a callback so that whatever it raises on one rank stops every rank at the same step.

    Without this, a rank whose callback raises would leave the others waiting in their next
    collective for ever.

    Args:
        progress: the callback of this rank; None where it has none.

    Returns:
        A callback that every rank must call after every step. It raises what this rank's callback
        raised, or ``Cancelled`` where another rank's did.
    """

    def call(done: int, total: int) -> None:
        error: BaseException | None = None
        try:
            if progress is not None:
                progress(done, total)
        except BaseException as raised:  # noqa: BLE001  raised again below, with all ranks
            error = raised
        is_stopped = _any_rank(error is not None)
        if error is not None:
            raise error
        if is_stopped:
            raise Cancelled(f"Stopped by another process after step {done} of {total}.")

    return call


def from_first_rank(compute: Callable[[], Tensor]) -> Tensor:
    """Compute a tensor on the first rank alone, and return it on all.

    Args:
        compute: the work, such as decoding latents; what it raises is raised on every rank.
    """
    from nemo_cosmos.platform import default_device, on_first_process

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return compute()
    kept: list[Tensor] = []

    def first() -> tuple[torch.Size, torch.dtype]:
        kept.append(compute().contiguous())
        return kept[0].shape, kept[0].dtype

    # The shape travels as an object, with any error; the content, which is large, as a tensor.
    shape, dtype = on_first_process(first)
    tensor = kept[0] if kept else torch.empty(shape, dtype=dtype, device=default_device())
    with torch.inference_mode():  # a tokenizer's output may be changed in this mode alone
        dist.broadcast(tensor, src=0)
    return tensor


def _any_rank(is_true: bool) -> bool:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return is_true
    from nemo_cosmos.platform import default_device

    flag = torch.tensor(int(is_true), device=default_device())
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())
