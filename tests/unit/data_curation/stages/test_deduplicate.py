"""The stage *deduplicate*: the best of each group is kept, in one run and over several."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation import CurateSettings, DeduplicateSettings, SplitSettings, curate
from data_curation.deduplication import KEPT
from data_curation.deduplication.index import INDEX_FOLDER, EmbeddingIndex
from data_curation.settings import OPTIONAL_STAGES
from data_curation.stages.deduplicate import best_of_pairs
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.video import Video, encode_video

SETTINGS = CurateSettings(
    split=SplitSettings(method="none", min_clip_s=0.5),
    skip=tuple(name for name in OPTIONAL_STAGES if name != "embed"),
)


def pan(picture: np.ndarray, size: tuple[int, int], step: int = 4) -> Video:
    views = [picture[20:280, step * t : step * t + 320] for t in range(20)]
    return Video(np.stack([cv2.resize(view, size) for view in views]), fps=20)


@pytest.fixture
def videos(tmp_path):
    """Two scenes; of the first a smaller, poorer copy, and a part that only means the same."""
    folder = tmp_path / "videos"
    encode_video(folder / "a small.mp4", pan(data.astronaut(), (160, 128)), crf=30)
    encode_video(folder / "b large.mp4", pan(data.astronaut(), (320, 256)))
    encode_video(folder / "c other.mp4", pan(data.coffee(), (160, 128)))
    return folder


def rejections(output) -> dict[str, dict[str, str]]:
    lines = (output / "rejected.jsonl").read_text().splitlines()
    return {entry["name"]: entry for entry in map(json.loads, lines)}


def test_the_largest_picture_is_kept(videos, tmp_path):
    summary = curate(videos, tmp_path / "out", SETTINGS)
    assert summary.rejected == {"near_duplicate": 1}
    found = rejections(tmp_path / "out")["a small.mp4"]
    assert "looks the same as 'b large.mp4' at 0.00 s" in found["detail"]


def test_what_means_the_same_is_rejected_unless_it_is_wanted(videos, tmp_path):
    encode_video(videos / "d slower.mp4", pan(data.astronaut()[:, 30:], (160, 128), step=1))
    strict = replace(SETTINGS, deduplicate=DeduplicateSettings(min_cosine=0.8))
    summary = curate(videos, tmp_path / "out", strict)
    assert summary.rejected == {"near_duplicate": 1, "semantic_duplicate": 1}
    assert "(cosine 0." in rejections(tmp_path / "out")["d slower.mp4"]["detail"]
    lax = replace(SETTINGS, deduplicate=DeduplicateSettings(min_cosine=1))
    summary = curate(videos, tmp_path / "out", lax)
    # What counts as the same decides nothing about a single source: none is worked on anew.
    assert (summary.num_reused, summary.rejected) == (4, {"near_duplicate": 1})
    assert not (tmp_path / "out" / ".work" / "deduplicate").exists()


def test_clips_of_an_earlier_run_are_not_taken_again(videos, tmp_path):
    curate(videos, tmp_path / "first", SETTINGS)
    later = tmp_path / "later"
    encode_video(later / "again.mp4", pan(data.coffee(), (320, 256)), crf=26)
    encode_video(later / "new.mp4", pan(data.cat(), (160, 128)))
    (later / "equal.mp4").write_bytes((videos / "c other.mp4").read_bytes())
    settings = replace(SETTINGS, deduplicate=DeduplicateSettings(known=(str(tmp_path / "first"),)))
    summary = curate(later, tmp_path / "second", settings)
    assert [sample.record.source for sample in read_samples(tmp_path / "second")] == ["new.mp4"]
    assert summary.rejected == {"duplicate": 1, "near_duplicate": 1}
    found = rejections(tmp_path / "second")
    assert "'c other.mp4' at 0.00 s of an earlier run" in found["again.mp4"]["detail"]
    assert "of an earlier run" in found["equal.mp4"]["detail"]


def test_the_index_holds_what_was_kept(videos, tmp_path):
    curate(videos, tmp_path / "out", SETTINGS)
    index = EmbeddingIndex.open(tmp_path / "out")
    keys = [sample.key for sample in read_samples(tmp_path / "out")]
    assert sorted(facts["key"] for facts in index.clips) == sorted(keys)
    norms = np.linalg.norm(index.vectors.read(slice(None)), axis=1)
    assert norms == pytest.approx(1, abs=2e-3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / INDEX_FOLDER).iterdir()}
    curate(videos, tmp_path / "out2", SETTINGS)
    after = {path.name: path.read_bytes() for path in (tmp_path / "out2" / INDEX_FOLDER).iterdir()}
    assert before == after


def test_an_earlier_run_that_cannot_be_compared_is_an_error(videos, tmp_path):
    known = tmp_path / "first"
    settings = replace(SETTINGS, deduplicate=DeduplicateSettings(known=(str(known),)))
    with pytest.raises(MissingFileError, match="no embeddings to compare with"):
        curate(videos, tmp_path / "out", settings)
    curate(videos, known, SETTINGS)
    (known / INDEX_FOLDER / "index.json").write_text('{"model": "clip-vit-large"}')
    with pytest.raises(ConfigError, match="'clip-vit-large'"):
        curate(videos, tmp_path / "out", settings)
    (known / INDEX_FOLDER / "clips.jsonl").write_text("")
    with pytest.raises(SampleError, match="0 clips"):
        curate(videos, tmp_path / "out", settings)


def test_the_best_of_a_group_is_kept_however_its_pairs_link_it():
    chain = np.array([[0, 1], [1, 2], [2, 3]])
    assert best_of_pairs(chain, np.arange(4), 0).tolist() == [KEPT, 0, 0, 0]
    assert best_of_pairs(chain, np.arange(4)[::-1], 0).tolist() == [3, 3, 3, KEPT]
    assert best_of_pairs(chain, np.arange(4), 2).tolist() == [KEPT, KEPT, 0, 0]
    star = np.array([[0, 1], [0, 2]])  # clips of equal hashes are paired with the first only
    assert best_of_pairs(star, np.array([1, 0, 2]), 0).tolist() == [1, KEPT, 1]
    assert best_of_pairs(star[:0], np.arange(3), 0).tolist() == [KEPT] * 3


def test_a_cosine_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="above 0"):
        DeduplicateSettings(min_cosine=0)
