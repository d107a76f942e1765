"""Shards of recordings as they are: nothing is cut, filtered or encoded again.

A recording is ``{key}.json`` beside ``{key}.mp4``, the videos of further views, layout videos and
signals. Curation looks at one video at a time; what several cameras show together stays so here.
Each video is compared with the JSON, so that views of other lengths are found before training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.batch import view_suffix
from nemo_cosmos.controls import decode_arrays, infer_signal, known_signal
from nemo_cosmos.controls.rig import LAYOUT_VIDEO
from nemo_cosmos.data.schema import ClipRecord, views_of
from nemo_cosmos.data.shards.writer import CuratedWriter
from nemo_cosmos.errors import InputError, MissingFileError, SampleError, VideoError
from nemo_cosmos.progress import Progress
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.outputs import check_apart, check_output_folder
from nemo_cosmos.video import probe

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RecordedShards:
    """What :func:`shard_recordings` wrote.

    Attributes:
        folder: folder of the shards.
        num_samples: recordings in them.
        views: the cameras of each set, and how many recordings have them.
    """

    folder: str
    num_samples: int
    views: Mapping[str, int]


def shard_recordings(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    split: str | None = None,
    progress: Progress | None = None,
) -> RecordedShards:
    """Write all recordings of a folder into curated shards, one folder for each set of cameras.

    Args:
        folder: folder of recordings.
        out: folder for the shards, which must not hold any.
        split: ``train`` or ``val``, of those whose JSON names one; by default all.
        progress: called with the number of recordings done and the number in all.

    Raises:
        MissingFileError: there is no recording, or a view is missing.
        SampleError: a recording is damaged, or its parts do not fit together.
        InputError: ``out`` is no new folder.
        StorageFullError: no space left; nothing is left behind.
    """
    check_apart(out, [folder])
    target = check_output_folder(out)
    if target.exists() and any(target.iterdir()):
        raise InputError(
            f"'{target}' is not empty; shards of recordings are written at once. Choose a new "
            "folder, or delete it."
        )
    found = _recordings(Path(folder), split)
    counts: dict[str, int] = {}
    with atomic_path(target) as draft:
        for views, files in found.items():
            name = "_".join(views) if len(found) > 1 else ""
            with CuratedWriter(draft / name) as writer:
                for file in files:
                    writer.add(*_read(file))
                    counts[", ".join(views)] = counts.get(", ".join(views), 0) + 1
                    if progress:
                        progress(sum(counts.values()), sum(map(len, found.values())))
    return RecordedShards(str(target), sum(counts.values()), counts)


def _recordings(folder: Path, split: str | None) -> dict[tuple[str, ...], list[Path]]:
    """The JSON files of the wanted recordings by their views."""
    found: dict[tuple[str, ...], list[Path]] = {}
    for file in sorted(folder.glob("*.json")):
        if file.name == _MANIFEST:
            continue
        record = _record(file)
        if split is None or record.get("split", split) == split:
            found.setdefault(views_of(record), []).append(file)
    if not found:
        of = f" of the split '{split}'" if split else ""
        raise MissingFileError(
            f"'{folder}' holds no recording{of}: expected KEY.json beside KEY.mp4. Name a folder "
            "that 'nemo-cosmos convert' or 'nemo-cosmos simulate' wrote."
        )
    return found


def _record(file: Path) -> JsonObject:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}. Write it again.") from error
    if not isinstance(record, dict):
        raise SampleError(f"'{file}' holds no JSON object; expected the facts of a recording.")
    return record


def _read(file: Path) -> tuple[ClipRecord, dict[str, bytes]]:
    """One recording as a sample."""
    data = _record(file)
    stem, where = file.with_suffix(""), f"'{file}'"
    num_frames, fps = int(data.get("num_frames") or 0), float(data.get("fps") or 0)
    facts: dict[str, Any] = {
        **data,
        "key": stem.name,
        "source": f"{data.get('source', 'recording')}/{stem.name}",
        "span_s": [0.0, num_frames / fps if fps > 0 else 0.0],
        "fps": fps,
        "num_frames": num_frames,
    }
    record = ClipRecord.from_json(json.dumps(facts), where)
    names = [view_suffix(record.views, view) for view in record.views]
    if Path(f"{stem}.{LAYOUT_VIDEO}").exists():
        names += [view_suffix(record.views, view, LAYOUT_VIDEO) for view in record.views]
    for name in names:
        _check_video(Path(f"{stem}.{name}"), record)
    files = {name: Path(f"{stem}.{name}").read_bytes() for name in names}
    for array in sorted(file.parent.glob(f"{stem.name}.*.np[yz]")):
        suffix = array.name.removeprefix(f"{stem.name}.")
        if suffix.partition(".")[0] in record.views[1:]:
            continue  # a further camera's path, which rig and trajectory say as well
        files[suffix] = array.read_bytes()
        values = decode_arrays(suffix, files[suffix], where)
        signal = infer_signal(suffix, values, record.num_frames, known_signal(suffix))
        signal.check_given(values, record.num_frames, where)
    return record, files


def _check_video(file: Path, record: ClipRecord) -> None:
    """Require a video to show what its recording's JSON says."""
    if not file.exists():
        raise MissingFileError(
            f"There is no '{file}': '{record.key}.json' names the views {', '.join(record.views)}. "
            "Put it there, or leave the recording out."
        )
    try:
        info = probe(file)
    except VideoError as error:
        raise SampleError(f"'{file}' cannot be read: {error}") from error
    found = (info.num_frames, info.height, info.width)
    wanted = (record.num_frames, record.height, record.width)
    if found != wanted or not is_same_rate(info.fps, record.fps):
        raise SampleError(
            f"'{file}' has {info.num_frames} frames of {info.height}x{info.width} at "
            f"{info.fps:g}/s, but '{record.key}.json' says {record.num_frames} of "
            f"{record.height}x{record.width} at {record.fps:g}/s. Cameras must show the same "
            "moments in one size; convert the recording again."
        )
