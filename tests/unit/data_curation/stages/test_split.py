"""Cuts by shot, stride and length."""

from __future__ import annotations

import uuid

import pytest

from data_curation.clip import Clip, Rejection
from data_curation.stages.split import SplitSettings, SplitStage, clip_id
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video, encode_video


def test_clip_ids_are_made_as_in_cosmos_curate():
    expected = str(uuid.uuid5(uuid.NAMESPACE_URL, "a/b.mp4_0.0_2.5"))
    assert clip_id("a/b.mp4", 0.0, 2.5) == expected


@pytest.fixture
def split(raw, store, make_clip):
    def split(**settings):
        clip = make_clip(raw / "a two shots.mp4")
        return SplitStage(SplitSettings(**settings), store).process(clip)

    return split


def spans(results) -> list[tuple[int, int]]:
    return [(item.start_frame, item.end_frame) for item in results if isinstance(item, Clip)]


def test_by_shot(split):
    results = split(min_clip_s=1)
    assert spans(results) == [(0, 19), (21, 45)]
    assert results[1].span_s == (2.1, 4.5)
    assert results[1].clip_id == clip_id("a two shots.mp4", 2.1, 4.5)
    assert spans(split(min_clip_s=1, boundary_s=0)) == [(0, 20), (20, 45)]


def test_by_pyscenedetect(split):
    assert spans(split(method="scenedetect", min_clip_s=1)) == [(0, 19), (21, 45)]


def test_a_short_piece_is_rejected_with_its_length_and_a_thumbnail(split, store):
    rejection, clip = split(min_clip_s=2.2)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.span_s) == ("too_short", (0.0, 1.9))
    assert "1.90 s" in rejection.detail
    assert store.thumbnail(rejection.clip_id) is not None
    assert isinstance(clip, Clip)


def test_by_stride(split):
    assert spans(split(method="stride", stride_s=2, min_clip_s=0)) == [(0, 20), (20, 40), (40, 45)]


def test_not_at_all_but_for_the_greatest_length(split):
    assert spans(split(method="none")) == [(0, 45)]
    assert spans(split(method="none", max_clip_s=3)) == [(0, 22), (22, 45)]


def test_half_a_frame_does_not_make_a_clip_too_short(tmp_path, store, make_clip, scene):
    # 48 frames at 23.976 fps are 2.002 s, 47 are 1.96 s.
    encode_video(tmp_path / "v.mp4", Video(scene(1, 47), fps=24000 / 1001))
    clip = make_clip(tmp_path / "v.mp4")
    (result,) = SplitStage(SplitSettings(method="none", min_clip_s=1.98), store).process(clip)
    assert isinstance(result, Clip)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "shots"},
        {"min_clip_s": 5, "max_clip_s": 2},
        {"stride_s": 0},
        {"min_clip_s": -1},
        {"boundary_s": -1},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        SplitSettings(**settings)
