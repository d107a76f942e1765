"""Every length is one of presentation time, whatever frames stand for."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from data_curation.pipeline import curate
from data_curation.settings import CurateSettings
from data_curation.shots.transition import Transition, shot_spans
from data_curation.stages.motion import MotionSettings
from data_curation.timeline import find_holds, parts_by_time, strides, widened, without
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.video import decode, index_frames

#: 30 frames a second up to 4.0 s, ten a second up to 8.1 s.
TIMES_S = [*(number / 30 for number in range(120)), *(4 + number / 10 for number in range(41))]
EDGES_S = np.round([*TIMES_S, 8.1], 6)


def lengths_s(spans) -> list[float]:
    return [round(float(EDGES_S[end] - EDGES_S[start]), 3) for start, end in spans]


def test_strides_are_measured_in_time():
    spans = strides(EDGES_S, 2.0)
    assert spans == [(0, 60), (60, 120), (120, 140), (140, 160), (160, 161)]
    assert lengths_s(spans) == [2, 2, 2, 2, 0.1]


@pytest.mark.parametrize("longest_s", [0.5, 3.0, 5.0, 8.1, 60.0])
def test_parts_cover_everything_in_as_few_as_fit(longest_s):
    parts = parts_by_time(EDGES_S, 5, 160, longest_s)
    assert (parts[0][0], parts[-1][1]) == (5, 160)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))
    assert max(lengths_s(parts)) <= longest_s
    whole_s = EDGES_S[160] - EDGES_S[5]
    assert len(parts) <= np.ceil(whole_s / longest_s) + 1
    assert max(lengths_s(parts)) - min(lengths_s(parts)) <= 0.21


@pytest.mark.parametrize("num_frames", [1, 7, 100, 101, 250])
def test_parts_of_an_even_rate_differ_by_a_frame(num_frames):
    edges_s = np.arange(num_frames + 1) / 29.97
    parts = parts_by_time(edges_s, 0, num_frames, 100 / 29.97)
    lengths = [end - start for start, end in parts]
    assert sum(lengths) == num_frames
    assert len(parts) == -(-num_frames // 100)
    assert max(lengths) - min(lengths) <= 1


def test_what_is_left_out_at_a_change_is_measured_in_time():
    wide = widened([Transition(120, 120)], EDGES_S, 0.1)
    assert wide == [Transition(117, 121)]  # three frames of a thirtieth, one of a tenth
    assert shot_spans(wide, 161) == [(0, 117), (121, 161)]
    assert widened([Transition(120, 120)], EDGES_S, 0.0) == [Transition(120, 120)]
    assert widened([Transition(120, 120)], EDGES_S, 0.001) == [Transition(119, 121)]


def test_a_picture_that_stands_too_long_is_no_video():
    edges_s = np.array([0, 0.1, 0.2, 3600.0, 3600.1, 3600.2])
    (hold,) = find_holds(edges_s)
    assert (hold.start, hold.end, hold.reason) == (2, 3, "gap")
    assert without([(0, 5)], [hold], cuts=[4]) == [(0, 2), (3, 4), (4, 5)]
    assert find_holds(np.arange(10) * 30.0) == []  # a slide show
    steady_s = np.arange(60) / 24
    steady_s[30:] += 2.0  # two seconds of a steady recording are lost
    assert [(hold.start, hold.end) for hold in find_holds(steady_s)] == [(29, 30)]
    assert find_holds(steady_s, max_hold_s=3600) == []


@pytest.fixture
def varying(tmp_path, scene):
    """The video of :data:`TIMES_S`, with a change of shot at 4.0 s."""
    path = tmp_path / "raw" / "varying.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        frames = np.concatenate([scene(1, 120), scene(2, 41)])
        for time_s, picture in zip(TIMES_S, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 90000), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_shots_of_a_variable_rate_have_their_times_and_rates(tmp_path, varying):
    settings = CurateSettings(
        motion=MotionSettings(0, 0), skip=("camera", "text_overlay", "embed", "video_type")
    )
    summary = curate(varying.parent, tmp_path / "out", settings)
    records = sorted(
        (sample.record for sample in read_samples(tmp_path / "out")), key=lambda r: r.span_s
    )
    assert [record.span_s for record in records] == [(0.0, 3.9), (4.1, 8.1)]
    assert [(record.fps, record.num_frames) for record in records] == [(30, 117), (10, 40)]
    assert (summary.sources_s, summary.clips_s, summary.left_out_s) == (8.1, 7.9, 0.2)
    assert summary.rejected == {}


def test_every_frame_of_an_even_part_is_kept_once(tmp_path, varying):
    index = index_frames(varying)
    assert index.span_s(0, 161) == (0.0, 8.1)
    assert index.fps_of(0, 120) == 30
    assert index.fps_of(120, 161) == 10
    assert decode(varying, start_s=4.0, end_s=5.0).num_frames == 10
