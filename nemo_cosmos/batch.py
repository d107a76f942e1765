"""What the data room hands to a model: one definition for who writes it and who reads it.

Data and models may not import each other; both import this file, which imports neither.

Shape suffixes: B samples, C channels, T latent frames, H W latent rows and columns, L text tokens,
D text channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Views = tuple[str, ...]
DEFAULT_VIEWS: Views = ("main",)
"""One camera. Its file is ``{key}.mp4``; those of further views are ``{key}.{view}.mp4``."""
MAX_VIEWS = 7
"""The most synchronous cameras of a sample: those of a car."""


def view_suffix(views: Views, view: str, ending: str = "mp4") -> str:
    """What follows the key in the name of one camera's file: ``mp4``, or ``left.mp4``.

    Args:
        views: all cameras of the sample; the first one's file has no name of its own.
        view: one of them.
        ending: the file's ending, such as ``layout.mp4``.
    """
    return ending if view == views[0] else f"{view}.{ending}"


class SampleFacts(TypedDict):
    """What is known of one tokenised sample beside its latent or codes.

    The control signals come beside these, under ``Signal.batch_key``.

    Attributes:
        key: the sample's name and its position in the order, which seeds its noise.
        views: names of its cameras.
        t5_text_embeddings: ``(L, D)``, zero beyond the text.
        t5_text_mask: ``(L,)``, 1 on the text.
        fps: frames per second.
        num_frames: pixel frames of each camera.
        image_size: ``(4,)``: height and width in pixels, twice.
        padding_mask: ``(1, H_px, W_px)``, 1 on padding.
    """

    key: str
    views: Views
    t5_text_embeddings: Tensor
    t5_text_mask: Tensor
    fps: Tensor
    num_frames: Tensor
    image_size: Tensor
    padding_mask: Tensor


class LatentSample(SampleFacts):
    """One sample of a continuous tokenizer.

    Attributes:
        latent: ``(C, V T, H, W)`` float32, normalised: V cameras of T latent frames each, one
            after another along the time axis, in the order of ``views``.
        is_finite: that whoever read the latent found no NaN or infinity in it, so that a step need
            not look again.
    """

    latent: Tensor
    is_finite: bool


class CodesSample(SampleFacts):
    """One sample of a discrete tokenizer.

    Attributes:
        codes: ``(T, H, W)`` int64, numbers of the tokenizer's codes.
    """

    codes: Tensor


class LatentBatch(TypedDict, total=False):
    """Samples of one shape: each tensor of :class:`LatentSample` with an axis B before the others.

    In a *pack* of samples of different shapes, ``latent``, ``padding_mask`` and the signals are
    lists of B tensors.

    All samples of a batch have as many views as the first. A latent holds them one after another
    along T, each of the same length; ``fps`` and ``num_frames`` are those of each view. The text
    may be one for all views, or ``(B, V, L, D)``, one a view.

    Attributes:
        box: this rank's part of the latents under context parallelism; the model sets it.
        relative_motion: (B, T, H, W) how much each place of the box moves; set with it.
        first_frames: (B, C, T, H, W) the first frame of each view, at every frame of the whole
            latents; set with it. Controls get it of samples whose first frames are given.
    """

    key: list[str]
    views: list[Views]
    latent: Tensor
    t5_text_embeddings: Tensor
    t5_text_mask: Tensor
    fps: Tensor
    num_frames: Tensor
    image_size: Tensor
    padding_mask: Tensor
    is_finite: list[bool]
    box: Any
    relative_motion: Tensor
    first_frames: Tensor


def batch_views(batch: Mapping[str, Any]) -> list[Views]:
    """Return the names of the cameras of each sample of a batch; one camera where it names none."""
    return [tuple(names) for names in batch.get("views") or [DEFAULT_VIEWS]]


def num_views_of(batch: Mapping[str, Any]) -> int:
    """Return the number of views that each sample of a batch has."""
    return len(batch_views(batch)[0])


class CodesBatch(TypedDict, total=False):
    """Samples of one shape: each tensor of :class:`CodesSample` with an axis B in front."""

    key: list[str]
    views: list[Views]
    codes: Tensor
    t5_text_embeddings: Tensor
    t5_text_mask: Tensor
    fps: Tensor
    num_frames: Tensor
    image_size: Tensor
    padding_mask: Tensor


class VideoSample(TypedDict):
    """One window of a clip for tokenizer training.

    Attributes:
        key: the sample's name and its position in the order.
        views: names of its cameras.
        video: ``(3, T, H, W)`` uint8 pixels.
        fps: frames per second.
    """

    key: str
    views: Views
    video: Tensor
    fps: Tensor


class VideoBatch(TypedDict, total=False):
    """Windows of one shape: each tensor of :class:`VideoSample` with an axis B before the others.

    ``video`` may also be float in [-1, 1].
    """

    key: list[str]
    views: list[Views]
    video: Tensor
    fps: Tensor


@dataclass(frozen=True)
class DataSpec:
    """What a data module knows of all its batches before the first one is read.

    Attributes:
        latents_thw: latent frames, rows and columns of all batches; samples of packs, which may
            have any shape, are left out.
        num_text_tokens: tokens of a text embedding.
        packed: whether training batches are packs.
        folders: all folders of tokenised data; the ``dataset.json`` of each names tokenizer and
            text encoder. Training data come first.
    """

    latents_thw: tuple[tuple[int, int, int], ...] = ()
    num_text_tokens: int = 0
    packed: bool = False
    folders: tuple[str, ...] = ()


@runtime_checkable
class SpecifiedData(Protocol):
    """A data module that says what its batches are."""

    def data_spec(self) -> DataSpec:
        """Return what is known of all batches."""
        ...


@runtime_checkable
class ChecksData(Protocol):
    """A Lightning module that says, before it is built, whether it can train on some data."""

    def check_data(self, spec: DataSpec, sharded: bool) -> None:
        """Require the data to fit the layout that the strategy has given the module."""
        ...


def spec_of(data: object) -> DataSpec:
    """Return what a data module says of its batches; nothing where it does not say."""
    return data.data_spec() if isinstance(data, SpecifiedData) else DataSpec()
