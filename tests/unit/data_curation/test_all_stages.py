"""With every stage on: the same input gives the same bytes, wherever and however often it runs."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
from skimage import data

from data_curation import CurateSettings, EmbedTextSettings, SplitSettings, curate
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.video import Video, encode_video

SETTINGS = CurateSettings(
    split=SplitSettings(method="none", min_clip_s=0.5), embed_text=EmbedTextSettings("embedded")
)


def test_two_runs_leave_the_same_shards_and_embeddings(tmp_path):
    folder = tmp_path / "raw"
    for name, picture in (
        ("cat", data.cat()),
        ("cup", data.coffee()),
        ("cup again", data.coffee()),
    ):
        wide = cv2.resize(picture, (312, 256))
        views = np.stack([wide[:, 4 * t : 4 * t + 256] for t in range(12)])
        encode_video(folder / f"{name}.mp4", Video(views, fps=12), crf=23 if name == "cup" else 30)
    first = curate(folder, tmp_path / "first", SETTINGS)
    assert first.rejected == {"near_duplicate": 1}
    shutil.copytree(folder, tmp_path / "elsewhere")
    curate(tmp_path / "elsewhere", tmp_path / "second", SETTINGS)
    found = [
        {
            path.relative_to(tmp_path / run).as_posix(): path.read_bytes()
            for part in ("v0", "embeddings")
            for path in (tmp_path / run / part).rglob("*")
            if path.is_file() and path.suffix != ".index"
        }
        for run in ("first", "second")
    ]
    assert found[0] == found[1]
    assert any("/t5_xxl/" in name for name in found[0])
    for sample in read_samples(tmp_path / "first"):
        assert {"text_overlay_share", "video_type_confidence"} <= set(sample.record.scores)
        assert sample.record.extra["environment"]
        assert sample.text_embedding().shape[1] == 512
