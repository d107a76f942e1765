"""Encode the clips of one shard: windows to latents, captions to embeddings, signals cut along."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_cosmos.batch import view_suffix
from nemo_cosmos.controls import encode_arrays
from nemo_cosmos.controls.rig import LAYOUT
from nemo_cosmos.data.loading.buckets import Size
from nemo_cosmos.data.loading.latents import (
    CODES_SUFFIX,
    LATENT_SUFFIX,
    TEXT_SUFFIX,
    is_plausible,
    pack_codes,
    pack_embedding,
    pack_latent,
)
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.layout import shard_name
from nemo_cosmos.data.shards.writer import ShardWriter, with_checksums
from nemo_cosmos.data.tokenize.config import LATENT_DTYPES, TokenizeConfig
from nemo_cosmos.data.tokenize.variants import cut_variants, mirrored_caption
from nemo_cosmos.data.tokenize.windows import Window, cut_signals, cut_windows
from nemo_cosmos.errors import SampleError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, encode_video, frames_to_tensor

TOO_SHORT = "too_short"
OUT_OF_RANGE = "latent_out_of_range"
TEXTS_PER_CALL = 16

Encode: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""``video_BCTHW`` in [-1, 1] to normalised latents ``(B,16,T,H,W)``, or to codes ``(B,T,H,W)``."""
EncodeText: TypeAlias = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]
"""Captions to ``(embeddings_BLD, mask_BL)``."""


@dataclass
class ShardReport:
    """What became of one input shard; kept beside the output shard.

    Attributes:
        source: the input shard.
        num_clips: clips in it.
        num_windows: samples written.
        skipped: numbers of clips that are too short for a window, and of windows that were left
            out, by reason.
        latent_shape: ``[16, T, H, W]``, or ``[T, H, W]`` of codes, of the first window; empty when
            nothing was written.
    """

    source: str
    num_clips: int
    num_windows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    latent_shape: list[int] = field(default_factory=list)

    def count(self, reason: str) -> None:
        """Count a clip or window that is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


class ShardEncoder:
    """Turns one curated shard into one shard of latents.

    Args:
        config: settings of windows and storage.
        encode: the tokenizer's encoder.
        encode_text: the text encoder; None to take the embeddings that the shards hold.
    """

    def __init__(
        self,
        config: TokenizeConfig,
        encode: Encode,
        encode_text: EncodeText | None,
    ) -> None:
        self.config = config
        self.encode = encode
        self.encode_text = encode_text
        # Each distinct caption of a run is encoded once.
        self._captions: dict[str, bytes] = {}
        self._text_dim: int | None = None

    def write(
        self,
        clips: Sequence[Sample],
        source: str,
        folder: Path,
        place: tuple[int, int],
        on_clip: Callable[[int], None],
    ) -> ShardReport:
        """Write the output shard and its report, each whole or not at all.

        Args:
            clips: the samples of the input shard.
            source: path or URL of the input shard.
            folder: output folder.
            place: part and number of the output shard.
            on_clip: called with the number of clips done in this shard.

        Raises:
            SampleError: a clip is incomplete or damaged.
            NumericsError: a latent holds NaN or infinity.
            StorageFullError: no space left.
        """
        report = ShardReport(source, num_clips=len(clips))
        if self.encode_text is not None:
            self._embed(self._texts(clips), self.encode_text)
        windows = self._windows(clips, report, on_clip)
        with ShardWriter(folder, first=place, max_bytes=1 << 62) as writer:
            for batch in _by_size(windows, self.config.batch_size):
                latents = self._encode_views(batch, [window.frames_THWC for window in batch])
                layouts = self._encode_layouts(batch)
                for window, latent_CTHW, layout_CTHW in zip(batch, latents, layouts, strict=True):
                    given = [one for one in (latent_CTHW, layout_CTHW) if one is not None]
                    if not all(is_plausible(one) for one in given if one.is_floating_point()):
                        report.count(OUT_OF_RANGE)
                        continue
                    self._add(writer, window, latent_CTHW, layout_CTHW)
                    report.latent_shape = report.latent_shape or list(latent_CTHW.shape)
                    report.num_windows += 1
        with atomic_path(report_path(folder, place)) as temporary:
            temporary.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
        return report

    def _encode_views(
        self, batch: Sequence[Window], frames: Sequence[NDArray[np.uint8]]
    ) -> list[torch.Tensor]:
        """Encode each view of each window for itself, and join those of a window along time.

        Args:
            batch: the windows.
            frames: their frames, ``(V N, H, W, 3)`` each.
        """
        counts = [len(window.record.views) for window in batch]
        videos = [
            frames_to_tensor(view_THWC)
            for frames_THWC, count in zip(frames, counts, strict=True)
            for view_THWC in np.split(frames_THWC, count)
        ]
        latents: list[torch.Tensor] = []
        for begin in range(0, len(videos), self.config.batch_size):
            latents += self.encode(torch.stack(videos[begin : begin + self.config.batch_size]))
        each = iter(latents)
        # The time axis of codes (T, H, W) is the third from behind, too.
        return [torch.cat([next(each) for _ in range(count)], dim=-3) for count in counts]

    def _encode_layouts(self, batch: Sequence[Window]) -> list[torch.Tensor | None]:
        """The layout videos of windows as latents; None for a window without them."""
        drawn = [window for window in batch if window.layout_THWC is not None]
        frames = [window.layout_THWC for window in drawn if window.layout_THWC is not None]
        latents = iter(self._encode_views(drawn, frames))
        return [None if window.layout_THWC is None else next(latents) for window in batch]

    def _windows(
        self, clips: Sequence[Sample], report: ShardReport, on_clip: Callable[[int], None]
    ) -> Iterator[Window]:
        for number, clip in enumerate(clips):
            if clip.record.num_frames < self.config.window_frames:
                report.count(TOO_SHORT)
            size = self.config.size_of(clip)
            yield from cut_windows(clip, self.config.window_frames, self.config.window_stride, size)
            if (variants := self.config.variants) is not None:
                yield from cut_variants(clip, self.config, variants, self.encode_text is None)
            on_clip(number + 1)

    def _texts(self, clips: Sequence[Sample]) -> dict[str, str]:
        """The captions to encode, also those of mirrored copies, and where each was met."""
        texts = {clip.record.caption: clip.where for clip in clips}
        if (variants := self.config.variants) is not None and variants.flip:
            mirrored = {mirrored_caption(clip.record, False): clip.where for clip in clips}
            texts |= {text: where for text, where in mirrored.items() if text is not None}
        return texts

    def _add(
        self,
        writer: ShardWriter,
        window: Window,
        latent_CTHW: torch.Tensor,
        layout_CTHW: torch.Tensor | None,
    ) -> None:
        where = f"window {window.start} of {window.clip.where}"
        files = {TEXT_SUFFIX: self._text_of(window)}
        if latent_CTHW.is_floating_point():
            dtype = LATENT_DTYPES[self.config.latent_dtype]
            files[LATENT_SUFFIX] = pack_latent(latent_CTHW, dtype, where)
        else:
            files[CODES_SUFFIX] = pack_codes(latent_CTHW, where)
        record, signals = cut_signals(window)
        files |= signals
        if layout_CTHW is not None:
            files[LAYOUT.suffix] = self._pack_layout(layout_CTHW, where)
        if self.config.keep_video:
            views = np.split(window.frames_THWC, len(record.views))
            for view, frames_THWC in zip(record.views, views, strict=True):
                files[view_suffix(record.views, view)] = _to_mp4(frames_THWC, record.fps)
            record = with_checksums(record, files)
        writer.add(record, files)

    def _pack_layout(self, layout_CTHW: torch.Tensor, where: str) -> bytes:
        """The latent of the layout videos as the file of a signal, which has no bfloat16."""
        if not layout_CTHW.is_floating_point():
            raise SampleError(
                f"{where} has layout videos, which become latents, but the tokenizer gives codes. "
                "Choose a continuous tokenizer, or leave the layout videos out."
            )
        dtype = torch.float32 if self.config.latent_dtype == "float32" else torch.float16
        array = layout_CTHW.detach().cpu().to(dtype).numpy()
        return encode_arrays(LAYOUT.suffix, {LAYOUT.name: array})

    def _text_of(self, window: Window) -> bytes:
        """The packed embedding of a window's caption, encoded here or stored with the clip."""
        clip = window.clip
        if self.encode_text is not None:
            return self._captions[window.record.caption]
        embedding_LD = torch.from_numpy(clip.text_embedding())
        dim = self._text_dim = self._text_dim or embedding_LD.shape[1]
        if embedding_LD.shape[1] != dim:
            raise SampleError(
                f"The text embedding of {clip.where} has {embedding_LD.shape[1]} channels, but "
                f"those before it have {dim}. The shards were embedded by different encoders; "
                "tokenize them without stored embeddings."
            )
        return pack_embedding(embedding_LD, clip.where)

    def _embed(self, captions: Mapping[str, str], encode_text: EncodeText) -> None:
        """Encode the captions that no earlier shard had, trimmed to their lengths."""
        new = [caption for caption in captions if caption not in self._captions]
        for begin in range(0, len(new), TEXTS_PER_CALL):
            texts = new[begin : begin + TEXTS_PER_CALL]
            embeddings_BLD, mask_BL = encode_text(texts)
            for text, embedding_LD, mask_L in zip(texts, embeddings_BLD, mask_BL, strict=True):
                length = max(1, int(mask_L.sum()))
                packed = pack_embedding(embedding_LD[:length], f"the caption of {captions[text]}")
                self._captions[text] = packed


def _by_size(windows: Iterable[Window], batch_size: int) -> Iterator[list[Window]]:
    """Batches of one size each; no more windows wait than a batch of each size."""
    waiting: dict[Size, list[Window]] = {}
    for window in windows:
        batch = waiting.setdefault((window.record.height, window.record.width), [])
        batch.append(window)
        if len(batch) == batch_size:
            yield waiting.pop((window.record.height, window.record.width))
    yield from waiting.values()


def _to_mp4(frames_THWC: NDArray[np.uint8], fps: float) -> bytes:
    with tempfile.TemporaryDirectory(prefix="nemo-cosmos-") as folder:
        path = Path(folder) / "window.mp4"
        encode_video(path, Video(frames_THWC, fps=fps))
        return path.read_bytes()


def report_path(folder: Path, place: tuple[int, int]) -> Path:
    """Return where the report of an output shard is kept."""
    return (folder / shard_name(*place)).with_suffix(".report.json")
