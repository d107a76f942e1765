"""Shards of cosmos-curate are read as our own: metas, videos and T5 pickles."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.cosmos_curate import own_fields
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import list_shards, read_samples
from nemo_cosmos.errors import NumericsError, SampleError

KEY = "0b7c3a52-8a44-5d0a-9a6f-2f1f64c3a111"
META = {
    "span_uuid": KEY,
    "source_video": "s3://raw/street.mp4",
    "duration_span": [2.0, 14.0],
    "width_source": 1280,
    "height_source": 720,
    "framerate_source": 30.0,
    "clip_location": f"s3://clips/{KEY}.mp4",
    "motion_score": {"global_mean": 0.0024, "per_patch_min_256": 0.0015},
    "aesthetic_score": 4.5,
    "windows": [
        {"start_frame": 0, "end_frame": 255, "qwen_caption": "A street. "},
        {
            "start_frame": 256,
            "end_frame": 358,
            "qwen_caption": "A dog.",
            "qwen_enhanced_caption": "A dog runs.",
        },
    ],
    "filtered_windows": [],
    "valid": True,
    "has_caption": True,
}
FOLDER = "v0/resolution_720/aspect_ratio_16_9/duration_10_30"


def write_tar(path: Path, name: str, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def curated(tmp_path):
    """A data set as cosmos-curate's shard pipeline leaves it."""

    def curated(arrays: object, meta: dict | None = None) -> Path:
        for kind, suffix, content in (
            ("video", "mp4", b"frames"),
            ("metas", "json", json.dumps(meta or META).encode()),
            ("t5_xxl", "pickle", pickle.dumps(arrays)),
        ):
            tar = tmp_path / FOLDER / kind / "part_000000" / "000000.tar"
            write_tar(tar, f"{KEY}.{suffix}", content)
        return tmp_path

    return curated


def test_a_whole_sample_is_read(curated):
    arrays = [np.full((3, 8), 0.5, np.float16), np.full((2, 8), 2.0, np.float16)]
    folder = curated(arrays)
    assert [Path(shard).parts[-3] for shard in list_shards(folder)] == ["video"]
    (sample,) = read_samples(folder)
    assert set(sample.members) == {"mp4", "json", "pickle"}
    record = sample.record
    assert (record.key, record.source, record.span_s) == (KEY, "s3://raw/street.mp4", (2.0, 14.0))
    assert (record.width, record.height, record.fps, record.num_frames) == (1280, 720, 30.0, 359)
    assert (record.caption, record.caption_source) == ("A street. A dog runs.", "qwen")
    assert record.scores["motion_global_mean"] == 0.0024 and record.scores["aesthetic"] == 4.5
    assert record.extra["valid"] is True and "span_uuid" not in record.extra
    assert sample.read("mp4") == b"frames"
    assert np.array_equal(sample.text_embedding(), np.concatenate(arrays).astype(np.float32))
    assert load_index(sample.shard).shape_N3.tolist() == [[359, 720, 1280]]


def test_what_its_writer_measured_of_the_clip_counts_more_than_the_source():
    found = own_fields({**META, "width": 640, "height": 360, "framerate": 24.0, "num_frames": 288})
    record = ClipRecord.from_json(json.dumps(found))
    assert (record.width, record.height, record.fps, record.num_frames) == (640, 360, 24.0, 288)


def test_without_windows_the_span_gives_the_length_and_a_caption_is_missing(curated):
    meta = {**META, "windows": []}
    assert own_fields(meta)["num_frames"] == 360
    (sample,) = read_samples(curated([np.ones((1, 2), np.float32)], meta))
    with pytest.raises(SampleError, match=r"has no 'caption'"):
        _ = sample.record


def test_a_pickle_that_names_code_is_refused_and_runs_nothing(curated, capsys):
    class Malicious:
        def __reduce__(self):
            return print, ("this must not run",)

    (sample,) = read_samples(curated([np.ones((1, 2), np.float32)]))
    sample.text_embedding()
    with pytest.raises(SampleError, match=f"sample '{KEY}'"):
        read_samples(curated(b""))[0].text_embedding()
    tar = Path(sample.shard).parents[2] / "t5_xxl" / "part_000000" / "000000.tar"
    write_tar(tar, f"{KEY}.pickle", b"cbuiltins\nprint\n(S'this must not run'\ntR.")
    (sample,) = read_samples(Path(sample.shard).parents[2])
    with pytest.raises(SampleError, match=r"builtins\.print"):
        sample.text_embedding()
    assert capsys.readouterr().out == ""


def test_infinite_embeddings_are_refused(curated):
    (sample,) = read_samples(curated([np.full((1, 2), np.inf, np.float32)]))
    with pytest.raises(NumericsError):
        sample.text_embedding()


def test_our_own_json_is_left_alone():
    ours = {"key": "a", "span_uuid": "kept"}
    assert own_fields(ours) is ours
    assert own_fields([1]) == [1]
