"""One setting chooses what decodes video in all stages; DALI does it on the CPU here."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation import CurateSettings, SplitSettings, curate
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.settings import OPTIONAL_STAGES
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video, decode, encode_video

SETTINGS = CurateSettings(
    split=SplitSettings(min_clip_s=1),
    skip=tuple(name for name in OPTIONAL_STAGES if name != "embed"),
)


def test_stages_see_with_dali_what_they_see_with_pyav(tmp_path):
    pytest.importorskip("nvidia.dali", reason="DALI is not installed: pip install '.[gpu]'")
    raw = tmp_path / "raw"
    for name, picture in (("cat", data.cat()), ("cup", data.coffee())):
        wide = cv2.resize(picture, (312, 256))
        views = np.stack([wide[:, 4 * t : 4 * t + 256] for t in range(12)])
        encode_video(raw / f"{name}.mp4", Video(views, fps=10))
    found = {}
    for decoder in ("pyav", "dali"):
        output = tmp_path / decoder
        summary = curate(raw, output, replace(SETTINGS, decoder=decoder))
        assert summary.num_clips == 2
        found[decoder] = read_samples(output)
    for ours, theirs in zip(found["pyav"], found["dali"], strict=True):
        assert ours.key == theirs.key
        frames = [decode(sample.read("mp4")).frames_THWC.astype(int) for sample in (ours, theirs)]
        assert np.abs(frames[0] - frames[1]).mean() < 2
        vectors = [
            ClipEmbedding.from_bytes(sample.read(EMBEDDING_SUFFIX), sample.key).vector_D
            for sample in (ours, theirs)
        ]
        assert vectors[0].astype(float) @ vectors[1].astype(float) > 0.99
        # It was another decoder: colours are rounded otherwise.
        assert ours.record.extra["content_sha256"] != theirs.record.extra["content_sha256"]
    settings = json.loads((tmp_path / "dali" / "summary.json").read_text())["settings"]
    assert settings["decoder"] == "dali"


def test_another_decoder_makes_everything_anew(raw, tmp_path):
    settings = replace(SETTINGS, skip=OPTIONAL_STAGES)
    curate(raw, tmp_path / "out", settings)
    assert curate(raw, tmp_path / "out", settings).num_reused == 4
    assert curate(raw, tmp_path / "out", replace(settings, decoder="pyav")).num_reused == 0


def test_a_decoder_that_is_not_there():
    with pytest.raises(ConfigError, match=r"no decoder 'dahli'.*'dali'"):
        CurateSettings(decoder="dahli")
