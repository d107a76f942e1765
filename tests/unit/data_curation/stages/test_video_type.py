"""The stage *video_type* on real pictures, through whole runs."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation import CurateSettings, SplitSettings, curate
from data_curation.settings import OPTIONAL_STAGES
from data_curation.stages.video_type import VideoTypeSettings
from nemo_cosmos.data.shards import read_samples
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video, encode_video

SETTINGS = CurateSettings(
    split=SplitSettings(method="none", min_clip_s=0.5),
    skip=tuple(name for name in OPTIONAL_STAGES if name not in ("embed", "video_type")),
)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    for name, picture in (("cat", data.cat()), ("cup", data.coffee())):
        wide = cv2.resize(picture, (288, 256))
        views = np.stack([wide[:, 2 * t : 2 * t + 256] for t in range(12)])
        encode_video(folder / f"{name}.mp4", Video(views, fps=12))
    return folder


@pytest.fixture
def pets(tmp_path):
    """A taxonomy of one's own."""
    file = tmp_path / "pets.json"
    labels = {"cats": {"imagenet": ["281-285"]}, "crockery": {"imagenet": [504, 967, 968]}}
    file.write_text(json.dumps({"video_type": labels}))
    return str(file)


def test_real_pictures_are_sorted_by_ones_own_labels(videos, tmp_path, pets):
    settings = replace(SETTINGS, video_type=VideoTypeSettings(taxonomy=pets))
    curate(videos, tmp_path / "out", settings)
    records = {sample.record.source: sample.record for sample in read_samples(tmp_path / "out")}
    assert records["cat.mp4"].extra["video_type"] == "cats"
    assert records["cup.mp4"].extra["video_type"] == "crockery"
    assert records["cup.mp4"].extra["environment"] == "unknown"
    assert 0.3 <= records["cat.mp4"].scores["video_type_confidence"] <= 1


def test_another_taxonomy_sorts_anew_without_working_on_a_source(videos, tmp_path, pets):
    curate(videos, tmp_path / "out", SETTINGS)
    (sample, *_) = read_samples(tmp_path / "out")
    assert sample.record.extra["video_type"] == "unknown"
    only_cats = VideoTypeSettings(taxonomy=pets, keep=("cats",))
    summary = curate(videos, tmp_path / "out", replace(SETTINGS, video_type=only_cats))
    assert (summary.num_reused, summary.rejected) == (2, {"video_type": 1})
    assert [s.record.source for s in read_samples(tmp_path / "out")] == ["cat.mp4"]
    assert "shows crockery and unknown, not cats" in (tmp_path / "out/rejected.jsonl").read_text()


def test_without_an_embedding_nothing_is_said(videos, tmp_path):
    skip = (*SETTINGS.skip, "embed")
    curate(videos, tmp_path / "out", replace(SETTINGS, skip=skip))
    assert all("video_type" not in s.record.extra for s in read_samples(tmp_path / "out"))


def test_impossible_settings_are_refused(videos, tmp_path):
    with pytest.raises(ConfigError, match="0 to 1"):
        VideoTypeSettings(min_confidence=3)
    settings = replace(SETTINGS, video_type=VideoTypeSettings(keep=("dogs",)))
    with pytest.raises(ConfigError, match="no label 'dogs'"):
        curate(videos, tmp_path / "out", settings)
