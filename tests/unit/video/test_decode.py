"""Decoding: the right frames, upright, at the right size, from whatever a camera wrote."""

from __future__ import annotations

import gc
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from nemo_cosmos.errors import InputError, VideoError
from nemo_cosmos.platform import device
from nemo_cosmos.video import (
    Video,
    decode,
    encode_video,
    index_frames,
    preferred_backend,
    probe,
)
from nemo_cosmos.video.backends import dali
from nemo_cosmos.video.backends.pyav import ForwardReader
from nemo_cosmos.video.decode import automatic_backend, stream_frames


@pytest.fixture
def clip(tmp_path, moving_square_THWC):
    path = tmp_path / "a clip.mp4"
    encode_video(path, Video(moving_square_THWC, fps=24), crf=1, keyframe_interval=8)
    return path


def test_decodes_every_frame_in_order(clip, moving_square_THWC, numbers_of):
    video = decode(clip)
    assert numbers_of(video.frames_THWC) == list(range(25))
    assert video.fps == 24
    assert video.pts_s is None
    error = np.abs(video.frames_THWC.astype(int) - moving_square_THWC)
    assert error.mean() < 3


def test_bytes_and_path_give_the_same(clip):
    from_bytes = decode(clip.read_bytes())
    np.testing.assert_array_equal(from_bytes.frames_THWC, decode(clip).frames_THWC)


@pytest.mark.parametrize("wanted", [[0], [24], [7, 8, 9], [20, 3, 3, 11], [23, 0]])
def test_seeks_to_exactly_the_frames_asked_for(clip, wanted):
    everything = decode(clip).frames_THWC
    picked = decode(clip, frame_indices=wanted)
    np.testing.assert_array_equal(picked.frames_THWC, everything[wanted])


def test_frames_that_nobody_wants_or_needs_are_not_decoded(tmp_path, moving_square_THWC):
    path = tmp_path / "b frames.mp4"
    encode_video(path, Video(moving_square_THWC, fps=24))
    everything, index = decode(path).frames_THWC, index_frames(path)
    for wanted in ([5], [1, 12, 13], [0, 24], list(range(2, 25, 5))):
        picked = decode(path, frame_indices=wanted).frames_THWC
        np.testing.assert_array_equal(picked, everything[wanted])
    with ForwardReader(path, index, np.array([5])) as reader:
        reader.want(np.array([20]))
        decoded = list(reader._decode())
    assert {5, 20} <= {int(np.searchsorted(index.pts, frame.pts)) for frame in decoded}
    assert len(decoded) < 25


def test_frames_can_be_streamed_one_by_one(clip):
    numbers = np.array([3, 3, 4, 20])
    streamed = list(stream_frames(clip, index_frames(clip), numbers, (20, 30)))
    wanted = decode(clip, frame_indices=numbers, size=(20, 30)).frames_THWC
    np.testing.assert_array_equal(np.stack(streamed), wanted)


def test_timestamps_come_with_frames_that_are_not_consecutive(clip):
    np.testing.assert_allclose(
        decode(clip, frame_indices=[2, 12]).pts_s, [2 / 24, 12 / 24], atol=1e-6
    )
    assert decode(clip, frame_indices=[5, 6, 7]).pts_s is None


@pytest.mark.parametrize("frame_indices", [[25], [-1], [0, 99]])
def test_frame_out_of_range_names_the_range(clip, frame_indices):
    with pytest.raises(VideoError, match="frames 0 to 24"):
        decode(clip, frame_indices=frame_indices)


def test_no_frames_asked_for(clip):
    with pytest.raises(InputError, match="frame_indices is empty"):
        decode(clip, frame_indices=[])


def test_by_number_and_by_time_at_once(clip):
    with pytest.raises(InputError, match="not both"):
        decode(clip, frame_indices=[1], fps=12)


def test_span_is_closed_at_the_start_and_open_at_the_end(clip, numbers_of):
    video = decode(clip, start_s=8 / 24, end_s=12 / 24)
    assert numbers_of(video.frames_THWC) == [8, 9, 10, 11]


def test_span_beyond_the_end_is_cut(clip, numbers_of):
    assert numbers_of(decode(clip, start_s=22.5 / 24, end_s=99).frames_THWC) == [23, 24]


@pytest.mark.parametrize(("start_s", "end_s"), [(5, 6), (-1, 0.5), (0.5, 0.5)])
def test_empty_span_names_the_duration(clip, start_s, end_s):
    with pytest.raises(VideoError, match=r"lasts 1\.04"):
        decode(clip, start_s=start_s, end_s=end_s)


def test_half_the_rate_takes_every_second_frame(clip, numbers_of):
    video = decode(clip, fps=12)
    assert numbers_of(video.frames_THWC) == list(range(0, 25, 2))
    assert video.fps == 12
    assert video.pts_s is None


def test_twice_the_rate_repeats_frames(clip, numbers_of):
    video = decode(clip, fps=48, start_s=0.5, end_s=0.75)
    assert numbers_of(video.frames_THWC) == [12, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17, 17]


def test_rate_must_be_positive(clip):
    with pytest.raises(InputError, match="positive number of frames"):
        decode(clip, fps=0)


def test_size_resizes_to_exactly_that(clip):
    assert decode(clip, size=(27, 48)).frames_THWC.shape == (25, 27, 48, 3)


def test_unknown_backend_names_the_valid_ones(clip):
    with pytest.raises(InputError, match="'pyav'"):
        decode(clip, backend="pyaw")


class TestAwkwardFiles:
    def test_variable_frame_rate_is_resampled_by_time(self, mux, numbers_of):
        # Ten frames 1/24 s apart, then five that stand for half a second each.
        pts = [*range(0, 1000, 100), *range(1000, 7000, 1200)]
        path = mux("vfr.mp4", pts, time_base=Fraction(1, 2400))
        info = probe(path)
        assert info.variable_frame_rate
        assert info.num_frames == 15
        video = decode(path, fps=4)
        times = np.arange(0, pts[-1], 600)
        expected = np.searchsorted(pts, times, side="right") - 1
        assert numbers_of(video.frames_THWC)[: len(expected)] == expected.tolist()
        np.testing.assert_allclose(decode(path).pts_s, np.array(pts) / 2400, atol=1e-3)

    def test_frames_before_the_edit_list_are_not_shown(self, mux, numbers_of):
        path = mux("edit.mp4", range(-5, 20))
        assert numbers_of(decode(path).frames_THWC) == list(range(5, 25))
        assert numbers_of(decode(path, frame_indices=[9, 3]).frames_THWC) == [14, 8]

    @pytest.mark.parametrize("name", ["negative.ts", "negative.mkv", "no_timestamps.avi"])
    def test_negative_or_missing_timestamps(self, mux, numbers_of, name):
        path = mux(name, range(-5, 20))
        assert numbers_of(decode(path).frames_THWC) == list(range(25))
        assert numbers_of(decode(path, frame_indices=[20, 3, 11]).frames_THWC) == [20, 3, 11]
        assert numbers_of(decode(path, start_s=9.9 / 24, end_s=12.9 / 24).frames_THWC) == [
            10,
            11,
            12,
        ]

    @pytest.mark.parametrize("first", [-1, -2, -6])
    def test_matroska_that_starts_before_zero_is_whole(self, mux, numbers_of, first):
        path = mux("early.mkv", range(first, 25 + first))
        assert not index_frames(path).damaged_T.any()
        assert numbers_of(decode(path).frames_THWC) == list(range(25))

    def test_open_groups_of_pictures(self, mux, numbers_of):
        path = mux("open.mp4", range(25), **{"x264-params": "open-gop=1:bframes=3"})
        everything = decode(path).frames_THWC
        for number in range(25):
            alone = decode(path, frame_indices=[number]).frames_THWC
            np.testing.assert_array_equal(alone[0], everything[number])

    def test_odd_size_comes_back(self, tmp_path):
        frames_THWC = np.random.default_rng(0).integers(0, 256, (3, 33, 47, 3), dtype=np.uint8)
        encode_video(tmp_path / "odd.mp4", Video(frames_THWC, fps=10))
        assert decode(tmp_path / "odd.mp4").frames_THWC.shape == frames_THWC.shape
        info = probe(tmp_path / "odd.mp4")
        assert (info.width, info.height) == (47, 33)

    def test_odd_stored_size_of_another_encoder(self, tmp_path):
        path = tmp_path / "odd.mkv"
        frames_THWC = np.full((3, 33, 47, 3), 90, dtype=np.uint8)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=24)
            stream.height, stream.width, stream.pix_fmt = 33, 47, "yuv444p"
            for frame_HWC in frames_THWC:
                frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        video = decode(path)
        assert video.frames_THWC.shape == (3, 33, 47, 3)
        assert np.abs(video.frames_THWC.astype(int) - 90).max() <= 2

    def test_rotation_of_the_container_is_applied(self, clip, rotate_mp4, moving_square_THWC):
        upright = decode(clip).frames_THWC
        rotate_mp4(clip)
        info = probe(clip)
        assert (info.rotation, info.width, info.height) == (270, 64, 96)
        turned = decode(clip).frames_THWC
        np.testing.assert_array_equal(turned, np.rot90(upright, k=3, axes=(1, 2)))

    def test_sound_beside_the_pictures_is_ignored(self, tmp_path, clip, numbers_of):
        path = tmp_path / "with_sound.mp4"
        with av.open(str(clip)) as source, av.open(str(path), "w") as target:
            sound = target.add_stream("aac", rate=16000, layout="mono")
            pictures = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = pictures
                    target.mux(packet)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 16000
            target.mux(sound.encode(frame))
            target.mux(sound.encode(None))
        assert probe(path).has_audio
        assert numbers_of(decode(path).frames_THWC) == list(range(25))

    def test_bt709_colours(self, tmp_path):
        colours = np.array([[200, 60, 40], [40, 180, 70], [50, 60, 190]], dtype=np.uint8)
        frame_HWC = np.broadcast_to(np.repeat(colours, 32, axis=0), (64, 96, 3)).copy()
        path = tmp_path / "bt709.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=24, options={"crf": "1"})
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
            stream.codec_context.colorspace = stream.codec_context.color_range = 1
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for backend in ("pyav", "dali"):
            if backend == "dali":
                pytest.importorskip("nvidia.dali")
            shown = decode(path, backend=backend).frames_THWC[0]
            for column, colour in zip((16, 48, 80), colours, strict=True):
                assert np.abs(shown[32, column].astype(int) - colour).max() <= 4, backend


class TestBrokenFiles:
    def test_truncated_in_the_middle(self, tmp_path, clip):
        path = tmp_path / "half.mp4"
        content = clip.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(VideoError, match=r"half\.mp4.*truncated"):
            decode(path)

    def test_damaged_in_the_middle(self, tmp_path, clip):
        path = tmp_path / "damaged.mp4"
        content = bytearray(clip.read_bytes())
        middle = len(content) * 3 // 4
        content[middle : middle + 400] = b"\xff" * 400
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"damaged\.mp4"):
            decode(path)

    @pytest.mark.parametrize("place", [0.3, 0.5, 0.8])
    def test_three_wrong_bytes_are_noticed(self, samples_dir, place):
        # FFmpeg conceals such damage and goes on; a training set must not.
        content = bytearray((samples_dir / "autoregressive" / "1.mp4").read_bytes())
        middle = int(len(content) * place)
        content[middle : middle + 3] = bytes(255 - byte for byte in content[middle : middle + 3])
        with pytest.raises(VideoError, match=r"Frame \d+ of .* is damaged"):
            decode(bytes(content), size=(64, 96))

    def test_damaged_frames_do_not_hide_good_ones(self, tmp_path, clip, numbers_of):
        path = tmp_path / "damaged.mp4"
        content = bytearray(clip.read_bytes())
        content[-300:-100] = b"\xff" * 200
        path.write_bytes(content)
        assert numbers_of(decode(path, frame_indices=[0, 9]).frames_THWC) == [0, 9]


@pytest.fixture(params=["dali", "torchcodec"])
def other_backend(request):
    if request.param == "dali":
        pytest.importorskip("nvidia.dali")
    else:
        from nemo_cosmos.video.backends import torchcodec

        if not torchcodec.available():
            pytest.skip("torchcodec or FFmpeg's libraries are not installed")
    return request.param


class TestBackendsAgree:
    """Every backend gives PyAV's frames, within the rounding of the colour conversion."""

    @pytest.mark.parametrize("name", ["plain.mp4", "edit.mp4", "stream.ts", "film.mkv"])
    def test_frame_by_frame(self, mux, other_backend, name, numbers_of):
        first = -5 if name == "edit.mp4" else 0
        path = mux(name, range(first, 25 + first))
        reference = decode(path, backend="pyav")
        if other_backend == "torchcodec" and name in ("edit.mp4", "stream.ts"):
            # It loses some frames of these: refused rather than wrong.
            with pytest.raises(VideoError, match="backend='pyav'"):
                decode(path, backend=other_backend)
            for number in range(reference.num_frames):
                try:
                    alone = decode(path, backend=other_backend, frame_indices=[number])
                except VideoError as error:
                    assert "backend='pyav'" in str(error)
                else:
                    assert numbers_of(alone.frames_THWC) == numbers_of(
                        reference.frames_THWC[[number]]
                    )
            return
        frames_THWC = decode(path, backend=other_backend).frames_THWC
        difference = np.abs(frames_THWC.astype(int) - reference.frames_THWC)
        assert difference.mean(axis=(1, 2, 3)).max() < 2
        picked = decode(path, backend=other_backend, frame_indices=[17, 3, 3]).frames_THWC
        np.testing.assert_array_equal(picked, frames_THWC[[17, 3, 3]])

    def test_variable_rate(self, mux, other_backend, numbers_of):
        pts = [*range(0, 1000, 100), *range(1000, 7000, 1200)]
        path = mux("vfr.mp4", pts, time_base=Fraction(1, 2400))
        expected = numbers_of(decode(path, fps=4, backend="pyav").frames_THWC)
        assert numbers_of(decode(path, fps=4, backend=other_backend).frames_THWC) == expected

    def test_rotation(self, clip, rotate_mp4, other_backend):
        rotate_mp4(clip)
        reference = decode(clip, backend="pyav").frames_THWC
        frames_THWC = decode(clip, backend=other_backend).frames_THWC
        assert frames_THWC.shape == reference.shape
        assert np.abs(frames_THWC.astype(int) - reference).mean() < 2

    def test_real_clip(self, samples_dir, other_backend):
        path = samples_dir / "curation" / "test_clip_10s.mp4"
        wanted = [0, 1, 57, 120, 239]
        reference = decode(path, frame_indices=wanted, backend="pyav").frames_THWC
        frames_THWC = decode(path, frame_indices=wanted, backend=other_backend).frames_THWC
        difference = np.abs(frames_THWC.astype(int) - reference)
        assert difference.mean(axis=(1, 2, 3)).max() < 2

    def test_unreadable_stream_points_to_pyav(self, other_backend, mux):
        path = mux("x.mp4", range(25))
        index = index_frames(path)
        from nemo_cosmos.video.decode import BACKENDS

        with pytest.raises(VideoError, match="backend='pyav'"):
            list(BACKENDS[other_backend](b"not a video at all", index, np.arange(3)))


class AutomaticBackend(Dataset):
    """One item: what ``auto`` means in the process that reads it."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        return automatic_backend()


class TestPreferredBackend:
    """What ``auto`` means is set in one place, and gives way where it cannot decode."""

    def test_it_is_taken_within_the_block(self, clip, other_backend):
        expected = decode(clip, backend=other_backend).frames_THWC
        with preferred_backend(other_backend):
            np.testing.assert_array_equal(decode(clip).frames_THWC, expected)
            named = decode(clip, backend="pyav").frames_THWC
        after = decode(clip).frames_THWC
        np.testing.assert_array_equal(named, decode(clip, backend="pyav").frames_THWC)
        assert after.shape == expected.shape

    def test_pyav_decodes_what_it_cannot(self, tmp_path, moving_square_THWC):
        pytest.importorskip("nvidia.dali")
        path = tmp_path / "old.avi"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
            for frame in moving_square_THWC:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        with pytest.raises(VideoError, match="DALI"):
            decode(path, backend="dali")
        with preferred_backend("dali"):
            shown = decode(path).frames_THWC
        np.testing.assert_array_equal(shown, decode(path, backend="pyav").frames_THWC)

    def test_dali_is_left_to_processes_that_can_use_the_gpu(self, monkeypatch):
        monkeypatch.setattr(dali, "decodes_on_gpu", lambda: True)
        workers = {"num_workers": 1, "multiprocessing_context": "fork", "batch_size": None}
        assert automatic_backend() == "dali"
        assert list(DataLoader(AutomaticBackend(), **workers)) == ["pyav"]

    def test_the_named_one_gives_way_where_cuda_cannot_start(self, clip, monkeypatch):
        pytest.importorskip("nvidia.dali")

        def forked() -> torch.device:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")

        monkeypatch.setattr(device, "default_device", forked)
        with pytest.raises(VideoError, match=r"cannot use the GPU.*backend='pyav' in worker"):
            decode(clip, backend="dali")
        with preferred_backend("dali"):
            shown = decode(clip).frames_THWC
        np.testing.assert_array_equal(shown, decode(clip, backend="pyav").frames_THWC)

    def test_an_unknown_one(self, clip):
        with pytest.raises(InputError, match="no video backend 'vlc'"), preferred_backend("vlc"):
            decode(clip)


def test_real_clips_have_the_documented_shapes(samples_dir):
    info = probe(samples_dir / "curation" / "test_clip_10s.mp4")
    assert (info.codec, info.width, info.height, info.fps) == ("h264", 854, 480, 24)
    assert (info.num_frames, info.variable_frame_rate) == (240, False)
    assert probe(samples_dir / "tokenizer" / "video2world_input2.mp4").num_frames == 9


def test_seek_in_a_real_clip_equals_decoding_it_all(samples_dir):
    path = samples_dir / "tokenizer" / "text2world_example.mp4"
    everything = decode(path, size=(44, 80)).frames_THWC
    assert len(everything) == 121
    picked = decode(path, frame_indices=[120, 64, 7], size=(44, 80)).frames_THWC
    np.testing.assert_array_equal(picked, everything[[120, 64, 7]])


def test_a_reader_that_was_closed_is_freed_at_once(clip):
    """Its decoder has threads; a garbage collection in a forked worker would wait for them."""
    gc.disable()
    try:
        with ForwardReader(clip, index_frames(clip), np.arange(3)) as reader:
            reader.read(0)
        alive = weakref.ref(reader)
        del reader
        assert alive() is None
    finally:
        gc.enable()


def test_a_gpu_decodes_only_with_a_dali_that_knows_numbered_frames(monkeypatch):
    library = pytest.importorskip("nvidia.dali.backend", reason="DALI is not installed")
    assert not dali.decodes_on_gpu()  # no GPU
    monkeypatch.setattr(dali, "_device_id", lambda: 0)
    assert automatic_backend() == "dali"
    monkeypatch.setattr(library, "TryGetSchema", lambda name: None)  # as DALI 1 answers
    assert automatic_backend() == "pyav"
