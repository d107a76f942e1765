"""The Video value, tensors, resizing and pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from nemo_cosmos.errors import MissingFileError, NumericsError, VideoError, WrongSizeError
from nemo_cosmos.video import (
    Video,
    center_crop,
    decode,
    frames_to_tensor,
    is_image,
    read_image,
    resize_and_pad,
    resize_frames,
    resize_longest_side,
    tensor_to_frames,
)


class TestVideo:
    def test_properties(self, moving_square_THWC):
        video = Video(moving_square_THWC, fps=10)
        assert (video.num_frames, video.height, video.width) == (25, 64, 96)
        assert video.duration_s == 2.5

    def test_duration_by_timestamps(self, moving_square_THWC):
        video = Video(moving_square_THWC[:3], fps=2, pts_s=np.array([1.0, 1.1, 4.0]))
        assert video.duration_s == pytest.approx(3.5)

    @pytest.mark.parametrize(
        "frames",
        [
            np.zeros((2, 4, 4), np.uint8),
            np.zeros((2, 4, 4, 4), np.uint8),
            np.zeros((2, 4, 4, 3), np.float32),
            np.zeros((0, 4, 4, 3), np.uint8),
        ],
    )
    def test_wrong_array(self, frames):
        with pytest.raises(VideoError, match="expected"):
            Video(frames, fps=24)

    @pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
    def test_wrong_rate(self, fps):
        with pytest.raises(VideoError, match="positive"):
            Video(np.zeros((1, 2, 2, 3), np.uint8), fps=fps)

    def test_wrong_number_of_timestamps(self):
        with pytest.raises(VideoError, match="one timestamp"):
            Video(np.zeros((3, 2, 2, 3), np.uint8), fps=1, pts_s=np.zeros(2))


class TestTensors:
    def test_there_and_back(self, moving_square_THWC):
        video_CTHW = frames_to_tensor(moving_square_THWC)
        assert video_CTHW.shape == (3, 25, 64, 96)
        assert video_CTHW.min() >= -1
        assert video_CTHW.max() <= 1
        np.testing.assert_array_equal(tensor_to_frames(video_CTHW), moving_square_THWC)

    def test_black_and_white_are_the_ends(self):
        frames_THWC = np.stack([np.zeros((1, 1, 3)), np.full((1, 1, 3), 255)]).astype(np.uint8)
        assert frames_to_tensor(frames_THWC)[:, :, 0, 0].tolist() == [[-1.0, 1.0]] * 3

    def test_beyond_the_range_is_clipped(self):
        assert tensor_to_frames(torch.full((3, 1, 1, 1), 1.7)).max() == 255
        assert tensor_to_frames(torch.full((3, 1, 1, 1), -3.0)).max() == 0

    def test_nan_is_refused(self):
        with pytest.raises(NumericsError, match="NaN"):
            tensor_to_frames(torch.full((3, 1, 2, 2), float("nan")))

    def test_batch_is_refused(self):
        with pytest.raises(VideoError, match="one item of the batch"):
            tensor_to_frames(torch.zeros(1, 3, 2, 4, 4))


class TestResize:
    def test_bright_square_stays_where_it_was(self, moving_square_THWC):
        small = resize_frames(moving_square_THWC, (32, 48))
        assert small.shape == (25, 32, 48, 3)
        assert np.argmax(small[10, 14, :, 0] > 150) == pytest.approx(12, abs=1)
        large = resize_frames(moving_square_THWC, (128, 192))
        assert np.argmax(large[10, 56, :, 0] > 150) == pytest.approx(48, abs=1)

    def test_same_size_is_the_same_array(self, moving_square_THWC):
        assert resize_frames(moving_square_THWC, (64, 96)) is moving_square_THWC

    @pytest.mark.parametrize("size", [(0, 5), (5, -1)])
    def test_size_without_pixels(self, moving_square_THWC, size):
        with pytest.raises(WrongSizeError, match="no pixel"):
            resize_frames(moving_square_THWC, size)

    def test_longest_side(self, moving_square_THWC):
        assert resize_longest_side(moving_square_THWC, 48).shape == (25, 32, 48, 3)

    def test_padding_is_reflected_and_masked(self, moving_square_THWC):
        padded, mask_HW = resize_and_pad(moving_square_THWC, (96, 96))
        assert padded.shape == (25, 96, 96, 3)
        assert mask_HW[:16].all()
        assert mask_HW[80:].all()
        assert not mask_HW[16:80].any()
        np.testing.assert_array_equal(padded[:, 16:80], moving_square_THWC)
        np.testing.assert_array_equal(padded[:, 15], moving_square_THWC[:, 0])

    def test_padding_wider_than_the_picture(self):
        frames_THWC = np.arange(6, dtype=np.uint8).reshape(1, 2, 1, 3)
        padded, mask_HW = resize_and_pad(frames_THWC, (2, 9))
        assert padded.shape == (1, 2, 9, 3)
        assert mask_HW.sum() == 16

    def test_same_aspect_needs_no_padding(self, moving_square_THWC):
        padded, mask_HW = resize_and_pad(moving_square_THWC, (32, 48))
        assert padded.shape == (25, 32, 48, 3)
        assert not mask_HW.any()

    def test_center_crop_fills_the_size(self, moving_square_THWC):
        cropped = center_crop(moving_square_THWC, (64, 64))
        np.testing.assert_array_equal(cropped, moving_square_THWC[:, :, 16:80])


class TestImage:
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
    def test_picture_is_a_video_of_one_frame(self, tmp_path, moving_square_THWC, suffix):
        path = tmp_path / f"picture.{suffix}"
        Image.fromarray(moving_square_THWC[0]).save(path)
        video = decode(path)
        assert video.frames_THWC.shape == (1, 64, 96, 3)
        assert np.abs(video.frames_THWC[0].astype(int) - moving_square_THWC[0]).mean() < 6
        assert decode(path, size=(8, 12), frame_indices=[0, 0]).frames_THWC.shape == (2, 8, 12, 3)

    def test_exif_orientation(self, moving_square_THWC):
        exif = Image.Exif()
        exif[0x0112] = 6  # shown after a quarter turn clockwise
        buffer = io.BytesIO()
        Image.fromarray(moving_square_THWC[0]).save(buffer, "PNG", exif=exif)
        frame_HWC = read_image(buffer.getvalue()).frames_THWC[0]
        np.testing.assert_array_equal(frame_HWC, np.rot90(moving_square_THWC[0], k=3))

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_truncated_picture(self, tmp_path, suffix):
        path = tmp_path / f"cut.{suffix}"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(VideoError, match=rf"cut\.{suffix}"):
            read_image(path)

    def test_sixteen_bit_picture(self, tmp_path):
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
        with pytest.raises(VideoError, match="8 bits a channel"):
            read_image(tmp_path / "deep.png")

    def test_missing_picture(self, tmp_path):
        with pytest.raises(MissingFileError):
            read_image(tmp_path / "none.png")

    def test_second_frame_of_a_picture(self, tmp_path, moving_square_THWC):
        Image.fromarray(moving_square_THWC[0]).save(tmp_path / "a.png")
        with pytest.raises(VideoError, match="frames 0 to 0"):
            decode(tmp_path / "a.png", frame_indices=[1])

    def test_is_image_looks_at_the_content(self, tmp_path, moving_square_THWC):
        path = tmp_path / "really_a_png.mp4"
        Image.fromarray(moving_square_THWC[0]).save(path, "PNG")
        assert is_image(path)
        assert not is_image(b"\x00\x00\x00\x18ftypisom")

    def test_real_picture(self, samples_dir):
        assert read_image(samples_dir / "tokenizer" / "video2world_input0.jpg").height > 100
