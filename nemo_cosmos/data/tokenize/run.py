"""Turn curated shards into shards of latents, text embeddings and control slices.

Each input shard becomes one output shard, which appears when it is complete; a run that was
stopped goes on with the first shard that is missing. The encoders are handed in as functions, so
this module knows no models.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from nemo_cosmos.data.loading.buckets import Size, nearest_size
from nemo_cosmos.data.loading.latents import (
    CODES_SUFFIX,
    LATENT_SUFFIX,
    TEXT_SUFFIX,
    is_plausible,
    pack_codes,
    pack_embedding,
    pack_latent,
)
from nemo_cosmos.data.sample import Sample, sha256_of
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.layout import shard_name
from nemo_cosmos.data.shards.writer import SHARDS_PER_PART, ShardWriter, list_shards, read_shard
from nemo_cosmos.data.tokenize.dataset_info import DATASET_FILE
from nemo_cosmos.data.tokenize.windows import Window, cut_signals, cut_windows
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.storage import atomic_path, path_from_folder
from nemo_cosmos.video import Video, encode_video, frames_to_tensor

FORMAT, VERSION = "nemo_cosmos.latents", 1
TOO_SHORT = "too_short"
OUT_OF_RANGE = "latent_out_of_range"
TEXTS_PER_CALL = 16

Encode = Callable[[torch.Tensor], torch.Tensor]
"""``video_BCTHW`` in [-1, 1] to normalised latents ``(B,16,T,H,W)``, or to codes ``(B,T,H,W)``."""
EncodeText = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]
"""Captions to ``(embeddings_BLD, mask_BL)``."""
OnClip = Callable[[int, int], None]
"""Called with the numbers of clips done and of all clips."""


@dataclass(frozen=True)
class TokenizeConfig:
    """How clips are cut and stored.

    Attributes:
        window_frames: frames N of a window; 1 makes images.
        window_stride: frames between the starts of windows; the last window ends with the clip.
        size: (height, width) of a window; clips of another aspect are padded by reflection.
        more_sizes: further ones; a clip takes the size whose aspect is nearest to its own.
        batch_size: windows encoded at once.
        keep_video: write the window's frames as mp4, too.
        latent_dtype: type on disk: ``float16``, ``bfloat16`` or ``float32``.
    """

    window_frames: int = 17
    window_stride: int = 8
    size: Size = (96, 128)
    more_sizes: tuple[Size, ...] = ()
    batch_size: int = 4
    keep_video: bool = False
    latent_dtype: str = "float16"

    def __post_init__(self) -> None:
        sides = itertools.chain.from_iterable(self.sizes)
        numbers = (self.window_frames, self.window_stride, *sides, self.batch_size)
        if min(numbers) < 1:
            raise ConfigError(
                f"Window of {self.window_frames} frames every {self.window_stride}, sizes "
                f"{self.sizes}, batches of {self.batch_size}: expected positive numbers only."
            )
        if self.latent_dtype not in _DTYPES:
            raise ConfigError(
                f"latent_dtype is '{self.latent_dtype}'; expected {', '.join(_DTYPES)}."
            )

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All sizes of windows."""
        return (self.size, *self.more_sizes)

    def size_of(self, clip: Sample) -> Size:
        """The size of a clip's windows."""
        return nearest_size(clip.record.height, clip.record.width, self.sizes)


_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


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


def tokenize_shards(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    encode: Encode,
    encode_text: EncodeText,
    config: TokenizeConfig,
    describe: Mapping[str, Any] | None = None,
    on_clip: OnClip | None = None,
    moved_to: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Encode every clip of some shards, or go on where an earlier call stopped.

    Args:
        shards: curated shards, or folders of them, on disk or in a bucket.
        out: output folder.
        encode: of the tokenizer.
        encode_text: of the text encoder; each distinct caption is encoded once.
        config: how to cut and store.
        describe: what else ``dataset.json`` should say (tokenizer, statistics, text encoder); the
            path under ``tokenizer`` is written relative to ``out``. A change of it, of ``config``
            or of the list of shards needs a new folder.
        on_clip: progress.
        moved_to: where the folder is put in the end, when that is somewhere else.

    Returns:
        The content of ``dataset.json``.

    Raises:
        MissingFileError: there is no shard.
        SampleError: a sample is incomplete or damaged, or no clip is long enough.
        NumericsError: a latent holds NaN.
        ConfigError: ``out`` was begun with other settings.
        StorageFullError: no space left; finished shards are intact.
    """
    locations = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    sources = [shard for location in locations for shard in list_shards(location)]
    folder = Path(out)
    described = dict(describe or {})
    if "tokenizer" in described:  # typed from the working folder of now, read from any other
        described["tokenizer"] = path_from_folder(described["tokenizer"], moved_to or folder)
    settings = {"config": _plain(asdict(config)), "describe": _plain(described)}
    _check_same_run(folder, settings, sources)
    clips = {source: read_shard(source, ("json", "mp4")) for source in sources}
    total = sum(len(samples) for samples in clips.values())
    captions: dict[str, bytes] = {}
    reports: list[ShardReport] = []
    done = 0
    for number, source in enumerate(sources):
        place = divmod(number, SHARDS_PER_PART)
        report = _finished_report(folder, place, source)
        if report is None:
            shard = _Shard(config, encode, encode_text, captions)
            progress = _offset(on_clip, done, total)
            report = shard.write(clips[source], source, folder, place, progress)
        reports.append(report)
        done += len(clips[source])
        if on_clip is not None:
            on_clip(done, total)
    return _write_dataset(folder, reports, config, described)


def sample_videos(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    config: TokenizeConfig,
    max_videos: int = 64,
) -> Iterator[torch.Tensor]:
    """Yield ``video_BCTHW`` batches of one window a clip, from clips spread over all shards.

    What latent statistics are measured on.
    """
    locations = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    clips = [
        clip
        for location in locations
        for shard in list_shards(location)
        for clip in read_shard(shard, ("json", "mp4"))
        if clip.record.num_frames >= config.window_frames
    ]
    if not clips:
        raise _nothing_long_enough(config)
    step = max(1, len(clips) // max_videos)
    for clip in clips[::step][:max_videos]:
        size = config.size_of(clip)
        windows = cut_windows(clip, config.window_frames, clip.record.num_frames, size)
        yield frames_to_tensor(next(windows).frames_THWC)[None]


class _Shard:
    """Encodes the clips of one shard."""

    def __init__(
        self,
        config: TokenizeConfig,
        encode: Encode,
        encode_text: EncodeText,
        captions: dict[str, bytes],
    ) -> None:
        self.config = config
        self.encode = encode
        self.encode_text = encode_text
        self.captions = captions

    def write(
        self,
        clips: Sequence[Sample],
        source: str,
        folder: Path,
        place: tuple[int, int],
        on_clip: Callable[[int], None],
    ) -> ShardReport:
        """Write the output shard and its report; neither is there before it is complete."""
        report = ShardReport(source, num_clips=len(clips))
        self._embed({clip.record.caption: clip.where for clip in clips})
        windows = self._windows(clips, report, on_clip)
        with ShardWriter(folder, first=place, max_bytes=1 << 62) as writer:
            for batch in _by_size(windows, self.config.batch_size):
                video_BCTHW = torch.stack(
                    [frames_to_tensor(window.frames_THWC) for window in batch]
                )
                for window, latent_CTHW in zip(batch, self.encode(video_BCTHW), strict=True):
                    if latent_CTHW.is_floating_point() and not is_plausible(latent_CTHW):
                        report.count(OUT_OF_RANGE)
                        continue
                    self._add(writer, window, latent_CTHW)
                    report.latent_shape = report.latent_shape or list(latent_CTHW.shape)
                    report.num_windows += 1
        with atomic_path(_report_path(folder, place)) as temporary:
            temporary.write_text(json.dumps(asdict(report), indent=1))
        return report

    def _windows(
        self, clips: Sequence[Sample], report: ShardReport, on_clip: Callable[[int], None]
    ) -> Iterator[Window]:
        for number, clip in enumerate(clips):
            if clip.record.num_frames < self.config.window_frames:
                report.count(TOO_SHORT)
            size = self.config.size_of(clip)
            yield from cut_windows(clip, self.config.window_frames, self.config.window_stride, size)
            on_clip(number + 1)

    def _add(self, writer: ShardWriter, window: Window, latent_CTHW: torch.Tensor) -> None:
        where = f"window {window.start} of {window.clip.where}"
        files = {TEXT_SUFFIX: self.captions[window.record.caption]}
        if latent_CTHW.is_floating_point():
            dtype = _DTYPES[self.config.latent_dtype]
            files[LATENT_SUFFIX] = pack_latent(latent_CTHW, dtype, where)
        else:
            files[CODES_SUFFIX] = pack_codes(latent_CTHW, where)
        record, signals = cut_signals(window)
        files |= signals
        if self.config.keep_video:
            files["mp4"] = _to_mp4(window)
            record = record.with_changes(sha256=sha256_of(files["mp4"]))
        writer.add(record, files)

    def _embed(self, captions: Mapping[str, str]) -> None:
        """Encode the captions that no earlier shard had, trimmed to their lengths."""
        new = [caption for caption in captions if caption not in self.captions]
        for begin in range(0, len(new), TEXTS_PER_CALL):
            texts = new[begin : begin + TEXTS_PER_CALL]
            embeddings_BLD, mask_BL = self.encode_text(texts)
            for text, embedding_LD, mask_L in zip(texts, embeddings_BLD, mask_BL, strict=True):
                length = max(1, int(mask_L.sum()))
                packed = pack_embedding(embedding_LD[:length], f"the caption of {captions[text]}")
                self.captions[text] = packed


def _by_size(windows: Iterable[Window], batch_size: int) -> Iterator[list[Window]]:
    """Batches of one size each; no more windows wait than a batch of each size."""
    waiting: dict[Size, list[Window]] = {}
    for window in windows:
        batch = waiting.setdefault((window.record.height, window.record.width), [])
        batch.append(window)
        if len(batch) == batch_size:
            yield waiting.pop((window.record.height, window.record.width))
    yield from waiting.values()


def _to_mp4(window: Window) -> bytes:
    with tempfile.TemporaryDirectory(prefix="nemo-cosmos-") as folder:
        path = Path(folder) / "window.mp4"
        encode_video(path, Video(window.frames_THWC, fps=window.record.fps))
        return path.read_bytes()


def _offset(on_clip: OnClip | None, done: int, total: int) -> Callable[[int], None]:
    """Progress inside a shard as progress of the whole run."""

    def report(clips: int) -> None:
        if on_clip is not None:
            on_clip(done + clips, total)

    return report


def _report_path(folder: Path, place: tuple[int, int]) -> Path:
    return (folder / shard_name(*place)).with_suffix(".report.json")


def _finished_report(folder: Path, place: tuple[int, int], source: str) -> ShardReport | None:
    path = _report_path(folder, place)
    if not path.exists():
        return None
    report = ShardReport(**json.loads(path.read_text()))
    return report if report.source == source else None


def _check_same_run(folder: Path, settings: Mapping[str, Any], sources: Sequence[str]) -> None:
    """Remember the settings, or compare them with those that the folder was begun with."""
    names = hashlib.sha256("\n".join(sources).encode()).hexdigest()
    wanted = {**settings, "sources_sha256": names}
    path = folder / "tokenize.json"
    if path.exists():
        begun = json.loads(path.read_text())
        different = sorted(name for name in wanted if begun.get(name) != wanted[name])
        if different:
            raise ConfigError(
                f"'{folder}' was begun with another {' and '.join(different)}: "
                f"{begun.get(different[0])}, now {wanted[different[0]]}. Tokenize into a new "
                "folder, or delete this one."
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1))


def _write_dataset(
    folder: Path,
    reports: Sequence[ShardReport],
    config: TokenizeConfig,
    describe: Mapping[str, Any],
) -> dict[str, Any]:
    num_samples = sum(report.num_windows for report in reports)
    if not num_samples:
        raise _nothing_long_enough(config)
    skipped: dict[str, int] = {}
    for report in reports:
        for reason, count in report.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    dataset = {
        "format": FORMAT,
        "version": VERSION,
        "num_samples": num_samples,
        "num_clips": sum(report.num_clips for report in reports),
        "skipped": skipped,
        "latent_shape": next(report.latent_shape for report in reports if report.num_windows),
        "window": _plain(asdict(config)),
        **_plain(describe),
    }
    for shard in list_shards(folder):
        load_index(shard)  # here once, instead of on every rank when training starts
    with atomic_path(folder / DATASET_FILE) as temporary:
        temporary.write_text(json.dumps(dataset, indent=1) + "\n")
    return dataset


def _nothing_long_enough(config: TokenizeConfig) -> SampleError:
    return SampleError(
        f"No clip has the {config.window_frames} frames of a window. Choose fewer with "
        "--window-frames, or curate longer clips."
    )


def _plain(value: Any) -> Any:
    """The value as JSON gives it back, so that settings can be compared."""
    return json.loads(json.dumps(value, default=str))
