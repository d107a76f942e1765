"""DALI: one pipeline a file, colours where the frames are, and what a GPU's engine cannot take."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import Video, decode, encode_video, index_frames
from nemo_cosmos.video import preferred_backend as preferred
from nemo_cosmos.video.backends import dali

pytest.importorskip("nvidia.dali", reason="DALI is not installed: pip install '.[dev]'")


@pytest.fixture
def clip(tmp_path, moving_square_THWC):
    path = tmp_path / "clip.mp4"
    encode_video(path, Video(moving_square_THWC, fps=24), crf=1, keyframe_interval=8)
    return path


@pytest.fixture
def built(monkeypatch):
    """The pipelines that were built, in order."""
    pipelines, build = [], dali.build_pipeline

    def counted(device_id, matrix):
        pipelines.append(build(device_id, matrix))
        return pipelines[-1]

    monkeypatch.setattr(dali, "build_pipeline", counted)
    return pipelines


def test_a_file_has_one_pipeline_however_many_runs_it_takes(clip, built, monkeypatch):
    whole = decode(clip, backend="dali").frames_THWC
    monkeypatch.setattr(dali, "BYTES_PER_RUN", 4 * whole[0].nbytes + 1)
    in_runs = decode(clip, backend="dali").frames_THWC  # 4 frames a run, and 1 in the last
    np.testing.assert_array_equal(in_runs, whole)
    picked = decode(clip, backend="dali", frame_indices=[24, 2, 3, 11, 7, 5]).frames_THWC
    np.testing.assert_array_equal(picked, whole[[24, 2, 3, 11, 7, 5]])
    assert len(built) == 3


def test_a_frame_larger_than_a_run_is_a_run_of_its_own(clip, monkeypatch):
    whole = decode(clip, backend="dali").frames_THWC
    monkeypatch.setattr(dali, "BYTES_PER_RUN", 1)
    np.testing.assert_array_equal(decode(clip, backend="dali").frames_THWC, whole)


def test_frames_kept_from_a_run_are_not_overwritten_by_the_next(clip, monkeypatch):
    monkeypatch.setattr(dali, "BYTES_PER_RUN", 1)
    index = index_frames(clip)
    kept = list(dali.read_frames(clip, index, np.arange(6)))
    copies = [frame.copy() for frame in dali.read_frames(clip, index, np.arange(6))]
    np.testing.assert_array_equal(np.stack(kept), np.stack(copies))
    assert len({frame.tobytes() for frame in kept}) == 6


def test_the_pipeline_corrects_colours_as_the_cpu_does(clip):
    from nvidia.dali import fn, pipeline_def, types

    frames_THWC = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    matrix = dali._rgb_601_to(*dali._KR_KB_709)

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def pipeline():
        frames = fn.external_source(name="frames", dtype=types.UINT8, ndim=4)
        return dali.correct_colors(frames, matrix)

    run = pipeline()
    run.build()
    run.feed_input("frames", [frames_THWC])
    corrected = np.array(run.run()[0].as_array()[0])
    exact = np.clip(frames_THWC @ matrix.T.astype(float), 0, 255)
    assert np.abs(corrected - exact).max() <= 0.51
    index = replace(index_frames(clip), color_space=dali.BT709)
    plain = decode(clip, backend="dali").frames_THWC
    on_cpu = np.stack(list(dali.read_frames(clip, index, np.arange(25))))
    assert np.abs(on_cpu - np.clip(plain @ matrix.T.astype(float), 0, 255)).max() <= 1.51


class TestEngine:
    """What NVDEC cannot take is refused before DALI asks the driver, and PyAV decodes it."""

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch):
        """A GPU that must not be asked."""
        monkeypatch.setattr(dali, "_device_id", lambda: 0)

        def reached(device_id, matrix):
            raise AssertionError("the GPU was asked")

        monkeypatch.setattr(dali, "build_pipeline", reached)

    def write(self, path, codec, height, width, pixels="yuv420p"):
        grey_HWC = np.full((height, width, 3), 90, dtype=np.uint8)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=24)
            stream.height, stream.width, stream.pix_fmt = height, width, pixels
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey_HWC, format="rgb24")))
            container.mux(stream.encode(None))

    @pytest.mark.parametrize(
        ("codec", "height", "width", "pixels", "said"),
        [
            ("libx264", 32, 32, "yuv420p", r"h264 of 32x32 \(yuv420p\).*from 48x16"),
            ("libx265", 128, 160, "yuv420p", r"hevc of 160x128.*from 144x144"),
            ("libvpx-vp9", 64, 160, "yuv420p", r"vp9 of 160x64.*from 128x128"),
            ("libx264", 64, 96, "yuv444p", r"h264 of 96x64 \(yuv444p\).*in yuv420p"),
            ("ffv1", 64, 96, "yuv420p", r"ffv1 of 96x64.*takes h264, hevc"),
        ],
    )
    def test_is_refused_in_words_and_left_to_pyav(
        self, tmp_path, codec, height, width, pixels, said
    ):
        path = tmp_path / "clip.mkv"
        self.write(path, codec, height, width, pixels)
        with pytest.raises(VideoError, match=said + r".*backend='pyav'"):
            decode(path, backend="dali")
        with preferred("dali"):
            shown = decode(path).frames_THWC
        np.testing.assert_array_equal(shown, decode(path, backend="pyav").frames_THWC)

    def test_what_it_takes_reaches_it(self, clip):
        with pytest.raises(AssertionError, match="the GPU was asked"):
            decode(clip, backend="dali")
