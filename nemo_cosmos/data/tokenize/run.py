"""Turn curated shards into shards of latents, text embeddings and the signals of each window.

Each input shard becomes one output shard, which appears when it is complete; a run that was stopped
resumes with the first shard that is missing. The encoders are handed in as functions, so this room
knows no models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import SHARDS_PER_PART, list_shards, read_shard
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.dataset_info import (
    DATASET_FILE,
    FORMAT,
    VERSION,
    parts_of_info,
)
from nemo_cosmos.data.tokenize.shard_encoder import (
    Encode,
    EncodeText,
    ShardEncoder,
    ShardReport,
    report_path,
)
from nemo_cosmos.data.tokenize.windows import cut_windows
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.exits import note_work
from nemo_cosmos.provenance.belonging import ALLOWED_KEY, check_together
from nemo_cosmos.storage import atomic_path, path_from_folder
from nemo_cosmos.video import frames_to_tensor

RUN_FILE = "tokenize.json"
"""The settings that an output folder was begun with."""

Location: TypeAlias = str | os.PathLike[str]
"""A shard, or a folder of shards, on disk or in a bucket."""
OnClip: TypeAlias = Callable[[int, int], None]
"""Called with the numbers of clips done and of all clips."""


def tokenize_shards(
    shards: Location | Sequence[Location],
    out: Location,
    *,
    encode: Encode,
    encode_text: EncodeText | None,
    config: TokenizeConfig,
    describe: Mapping[str, Any] | None = None,
    on_clip: OnClip | None = None,
    moved_to: Location | None = None,
    allow_mismatch: Collection[str] = (),
) -> JsonObject:
    """Encode every clip of some shards, or resume where an earlier call stopped.

    Args:
        shards: curated shards, or folders of them, on disk or in a bucket.
        out: output folder.
        encode: the tokenizer's encoder.
        encode_text: the text encoder, which encodes each distinct caption once; None to take the
            embeddings that the shards hold (``curate --text-encoder``, or cosmos-curate's pickles).
        config: settings of windows and storage.
        describe: further entries of ``dataset.json`` (tokenizer, statistics, text encoder); the
            path under ``tokenizer`` is written relative to ``out``. A change of it, of ``config``
            or of the list of shards needs a new folder.
        on_clip: called after each clip.
        moved_to: final place of the folder, if it is moved after the run.
        allow_mismatch: kinds of difference to what the folder was begun with that are meant; see
            :mod:`nemo_cosmos.provenance.belonging`.

    Returns:
        The content of ``dataset.json``.

    Raises:
        MissingFileError: there is no shard.
        SampleError: a sample is incomplete or damaged, or no clip gives a window.
        NumericsError: a latent holds NaN or infinity, or a signal implausible values.
        ConfigError: ``out`` was begun with other settings.
        StorageFullError: no space left; finished shards are intact.
    """
    sources = _list_all(shards)
    folder = Path(out)
    described = dict(describe or {})
    if "tokenizer" in described:  # given relative to this working folder, read from any other
        described["tokenizer"] = path_from_folder(described["tokenizer"], moved_to or folder)
    wanted = {"config": _plain(asdict(config)), "describe": _plain(described)}
    meant = _check_same_run(folder, wanted, sources, allow_mismatch)
    if meant:
        described[ALLOWED_KEY] = meant
    clips = {source: read_shard(source, ("json", "mp4")) for source in sources}
    total = sum(len(samples) for samples in clips.values())
    encoder = ShardEncoder(config, encode, encode_text)
    reports: list[ShardReport] = []
    done = 0
    for number, source in enumerate(sources):
        place = divmod(number, SHARDS_PER_PART)
        report = _finished_report(folder, place, source)
        if report is None:
            progress = _offset(on_clip, done, total)
            report = encoder.write(clips[source], source, folder, place, progress)
            note_work()
        reports.append(report)
        done += len(clips[source])
        if on_clip is not None:
            on_clip(done, total)
    return _write_dataset(folder, reports, config, described)


def sample_videos(
    shards: Location | Sequence[Location], config: TokenizeConfig, max_videos: int = 64
) -> Iterator[torch.Tensor]:
    """Yield one window as ``video_BCTHW`` of each of some clips, spread over all shards.

    Latent statistics are measured on these. Of several cameras each is a video of its own.

    Raises:
        SampleError: no clip is long enough.
    """
    clips = [
        clip
        for shard in _list_all(shards)
        for clip in read_shard(shard, ("json", "mp4"))
        if clip.record.num_frames >= config.window_frames
    ]
    if not clips:
        raise _nothing_long_enough(config)
    step = max(1, len(clips) // max_videos)
    for clip in clips[::step][:max_videos]:
        size = config.size_of(clip)
        windows = cut_windows(clip, config.window_frames, clip.record.num_frames, size)
        for view_THWC in np.split(next(windows).frames_THWC, len(clip.record.views)):
            yield frames_to_tensor(view_THWC)[None]


def stored_text_dim(shards: Location | Sequence[Location]) -> int:
    """Return the channels of the text embeddings that curated shards hold.

    Raises:
        MissingFileError: there is no shard.
        SampleError: the first sample has no embedding.
    """
    first = read_shard(_list_all(shards)[0])[0]
    return int(first.text_embedding().shape[1])


def _list_all(shards: Location | Sequence[Location]) -> list[str]:
    locations = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    return [shard for location in locations for shard in list_shards(location)]


def _offset(on_clip: OnClip | None, done: int, total: int) -> Callable[[int], None]:
    """Report progress inside a shard as progress of the whole run."""

    def report(clips: int) -> None:
        if on_clip is not None:
            on_clip(done + clips, total)

    return report


def _finished_report(folder: Path, place: tuple[int, int], source: str) -> ShardReport | None:
    path = report_path(folder, place)
    if not path.exists():
        return None
    report = ShardReport(**json.loads(path.read_text(encoding="utf-8")))
    return report if report.source == source else None


def check_same_run(
    folder: Path,
    config: TokenizeConfig,
    described: Mapping[str, object],
    sources: Sequence[Location],
    allowed: Collection[str] = (),
) -> None:
    """Require a folder to be new, or begun with the same settings; nothing is written.

    Args:
        folder: the output folder.
        config: settings of windows and storage.
        described: what ``dataset.json`` will say of tokenizer and text encoder.
        sources: the shards, or folders of them.
        allowed: kinds of difference that are meant.

    Raises:
        ConfigError: it was begun with others.
    """
    path = folder / RUN_FILE
    if path.exists():
        wanted = {"config": _plain(asdict(config)), "describe": _plain(described)}
        _compare(
            folder,
            json.loads(path.read_text(encoding="utf-8")),
            wanted,
            _list_all(sources),
            allowed,
        )


def _check_same_run(
    folder: Path, wanted: JsonObject, sources: Sequence[str], allowed: Collection[str]
) -> list[str]:
    """Record the settings, or compare them with those that the folder was begun with.

    Returns:
        the differences that were allowed, now or earlier.
    """
    path = folder / RUN_FILE
    begun = {**wanted, "sources_sha256": _sources_sha256(sources)}
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        meant = _compare(folder, begun, wanted, sources, allowed)
        if not meant:
            return list(begun.get(ALLOWED_KEY, ()))
        begun[ALLOWED_KEY] = [*begun.get(ALLOWED_KEY, ()), *meant]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(begun, indent=1), encoding="utf-8")
    return list(begun.get(ALLOWED_KEY, ()))


def _compare(
    folder: Path,
    begun: JsonObject,
    wanted: JsonObject,
    sources: Sequence[str],
    allowed: Collection[str],
) -> list[str]:
    """Return the differences that were allowed.

    Raises:
        ConfigError: one is not.
    """
    other = "Tokenize into a new folder, or delete this one."
    for name, value in wanted["config"].items():
        if begun["config"].get(name) != value:
            raise ConfigError(
                f"'{folder}' was begun with {name}={begun['config'].get(name)}, now {name}={value}."
                f" {other}"
            )
    if begun["sources_sha256"] != _sources_sha256(sources):
        raise ConfigError(f"'{folder}' was begun with another list of shards. {other}")
    before, now = begun["describe"], wanted["describe"]
    texts = [(one.get("text_encoder") or {}).get("max_length") for one in (before, now)]
    one = replace(parts_of_info(before, f"{folder}/{RUN_FILE}"), text_length=texts[0])
    return check_together(
        [one, replace(parts_of_info(now, "this command"), text_length=texts[1])], allowed
    )


def _sources_sha256(sources: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _write_dataset(
    folder: Path,
    reports: Sequence[ShardReport],
    config: TokenizeConfig,
    describe: Mapping[str, Any],
) -> dict[str, object]:
    skipped: Counter[str] = Counter()
    for report in reports:
        skipped.update(report.skipped)
    num_samples = sum(report.num_windows for report in reports)
    if not num_samples:
        raise _nothing_long_enough(config, skipped)
    dataset = {
        "format": FORMAT,
        "version": VERSION,
        "num_samples": num_samples,
        "num_clips": sum(report.num_clips for report in reports),
        "skipped": dict(skipped),
        "latent_shape": next(report.latent_shape for report in reports if report.num_windows),
        "window": _plain(asdict(config)),
        **_plain(describe),
    }
    for shard in list_shards(folder):
        load_index(shard)  # built here once, instead of on every rank when training starts
    with atomic_path(folder / DATASET_FILE) as temporary:
        temporary.write_text(json.dumps(dataset, indent=1) + "\n", encoding="utf-8")
    return dataset


def _nothing_long_enough(
    config: TokenizeConfig, skipped: Mapping[str, int] | None = None
) -> SampleError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in (skipped or {}).items())
    return SampleError(
        f"No clip has the {config.window_frames} frames of a window"
        f"{f' ({reasons})' if reasons else ''}. Choose fewer with --window-frames, or curate "
        "longer clips."
    )


def _plain(value: object) -> Any:
    """The value as JSON reads it back, so that settings can be compared."""
    return json.loads(json.dumps(value, default=str))
