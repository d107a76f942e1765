"""Frames to continue: which ones, at the model's rate, and no more than needed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nemo_cosmos.controls.camera import pixel_rays
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    SampleError,
    VideoError,
    WrongFrameCountError,
)
from nemo_cosmos.inference import given as module
from nemo_cosmos.inference.given import GivenFrames, fit_cameras, parse_begin
from nemo_cosmos.testing.pictures import scenery, woven, write_video
from nemo_cosmos.video import Video, encode_video

SIZE = (32, 48)


def numbered(num_frames: int) -> np.ndarray:
    """Frames whose brightness is their number, times four."""
    number_T = np.arange(num_frames, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(4 * number_T, (num_frames, *SIZE, 3)).copy()


def read(given: GivenFrames, num_frames: int, fps: float, begin: str | int) -> np.ndarray:
    return given.read(given.choose(num_frames, fps, begin), SIZE)


def numbers(frames_THWC: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 4) for frame in frames_THWC]


@pytest.mark.parametrize(
    ("begin", "expected"), [("first", [0, 1, 2]), ("last", [17, 18, 19]), (5, [5, 6, 7])]
)
def test_arrays_are_taken_as_they_are(begin, expected):
    given = GivenFrames.open(numbered(20))
    assert numbers(read(given, 3, 10.0, begin)) == expected
    assert not given.is_resampled(10.0)
    assert given.times_s(np.array([1])) is None


@pytest.mark.parametrize(
    ("fps", "begin", "expected"),
    [
        (30.0, "first", [0, 1, 2]),
        (29.97, "last", [27, 28, 29]),
        (10.0, "first", [0, 3, 6]),
        (10.0, "last", [23, 26, 29]),
        (10.0, 2, [6, 9, 12]),
        (60.0, "first", [0, 0, 1]),
    ],
)
@pytest.mark.parametrize("kind", ["video", "file"])
def test_frames_of_a_video_are_at_the_models_rate(tmp_path, kind, fps, begin, expected):
    video = Video(numbered(30), fps=30)
    source: Video | Path = video
    if kind == "file":
        source = tmp_path / "clip.mp4"
        encode_video(source, video)
    given = GivenFrames.open(source)
    assert numbers(read(given, 3, fps, begin)) == expected


def test_a_variable_rate_is_resampled_by_presentation_time():
    pts_s = np.concatenate([np.arange(10) / 30, 1 / 3 + np.arange(10) / 10])  # 30 fps, then 10
    given = GivenFrames.open(Video(numbered(20), fps=15, pts_s=pts_s))
    assert numbers(read(given, 5, 10.0, "first")) == [0, 3, 6, 9, 11]
    assert given.num_frames(10.0, "first") == given.num_frames(10.0, "last") == 13
    assert numbers(read(given, 3, 10.0, "last")) == [17, 18, 19]
    assert given.times_s(given.choose(2, 10.0, 5)) == [0.533333, 0.633333]


def test_only_the_frames_that_are_needed_are_decoded(tmp_path, monkeypatch):
    encode_video(tmp_path / "clip.mp4", Video(numbered(60), fps=10))
    decoded = []
    decode = module.decode

    def recording(path, frame_indices, **options):
        decoded.extend(frame_indices)
        return decode(path, frame_indices=frame_indices, **options)

    monkeypatch.setattr(module, "decode", recording)
    given = GivenFrames.open(tmp_path / "clip.mp4")
    assert not decoded
    read(given, 5, 10.0, "last")
    assert decoded == [55, 56, 57, 58, 59]


def test_an_image_is_one_frame_and_is_fitted(tmp_path):
    Image.fromarray(np.full((90, 70, 3), 200, np.uint8)).save(tmp_path / "a.png")
    given = GivenFrames.open(tmp_path / "a.png")
    assert given.num_frames(24.0, "last") == 1
    assert read(given, 1, 24.0, "last").shape == (1, *SIZE, 3)
    with pytest.raises(WrongFrameCountError, match="1 frame, but 5"):
        read(given, 5, 24.0, "first")


def test_too_short_an_input_names_the_rate():
    given = GivenFrames.open(Video(numbered(30), fps=30))
    with pytest.raises(WrongFrameCountError, match="2 frames at 10 frames a second from frame 8"):
        read(given, 5, 10.0, 8)


def test_what_is_no_video_is_an_error(tmp_path):
    with pytest.raises(MissingFileError):
        GivenFrames.open(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="is a list"):
        GivenFrames.open([1, 2])  # type: ignore[arg-type]
    with pytest.raises(WrongFrameCountError, match="no frame"):
        GivenFrames.open(numbered(0))


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), ("first", "first"), ("7", 7), (7, 7), (0, 0)]
)
def test_begin_is_a_word_or_a_number(given, expected):
    assert parse_begin(given) == expected


@pytest.mark.parametrize("given", ["middle", -1, "-3", 2.5, True, ""])
def test_begin_is_nothing_else(given):
    with pytest.raises(ConfigError, match="'first', 'last'"):
        parse_begin(given)


def test_given_frames_are_whole_and_have_square_pixels(tmp_path):
    wide = write_video(tmp_path / "wide.mp4", scenery(12), Fraction(3, 2))
    round_trip = read(GivenFrames.open(wide), 2, 25.0, "last")
    assert round_trip.shape == (2, *SIZE, 3)
    squeezed = GivenFrames.open(write_video(tmp_path / "square.mp4", scenery(12)))
    assert np.abs(round_trip.astype(int) - read(squeezed, 2, 25.0, "last")).mean() > 5
    tape = GivenFrames.open(write_video(tmp_path / "tape.mp4", woven(scenery(60))))
    whole = tape.read(tape.choose(3, 25.0, "last"), (96, 128))
    lines = np.abs(np.diff(whole.astype(int), axis=1)).mean()
    assert lines < 1.3 * np.abs(np.diff(scenery(3).astype(int), axis=1)).mean()


def test_given_frames_that_are_combed_beyond_repair_are_refused(tmp_path):
    shuffled = scenery(240)[np.random.default_rng(1).permutation(240)]
    with pytest.raises(VideoError, match="which field comes first"):
        GivenFrames.open(write_video(tmp_path / "combed.mp4", woven(shuffled), crf="10"))


def test_no_frame_is_held_in_its_full_size(tmp_path, monkeypatch):
    held = []
    decode = module.decode

    def recording(*arguments, **options):
        video = decode(*arguments, **options)
        held.append(video.frames_THWC.shape[1:3])
        return video

    large = write_video(tmp_path / "large.mp4", scenery(6, 360, 640))
    whole = decode(large, frame_indices=[4, 5]).frames_THWC
    monkeypatch.setattr(module, "decode", recording)
    given = read(GivenFrames.open(large), 2, 25.0, "last")
    assert held == [(32, 57)]
    np.testing.assert_array_equal(given, module.center_crop(whole, SIZE))


@pytest.mark.parametrize("begin", ["middle", "-1", -3, True, 10**25, "2.5"])
def test_a_beginning_that_cannot_be(begin):
    with pytest.raises(ConfigError, match="begin is"):
        parse_begin(begin)


def pinhole(height: int, width: int) -> dict[str, np.ndarray]:
    """A camera whose focal length is the picture's width."""
    lens = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    return {
        "poses": np.eye(4)[None],
        "intrinsics": lens[None],
        "size": np.array([height, width]),
    }


def test_a_camera_is_cropped_as_the_frames_are() -> None:
    """A pixel of the input and the ray through it are found together in the new video."""
    frames_THWC = np.zeros((1, 60, 160, 3), np.uint8)
    frames_THWC[:, 20:24, 100:104] = 255  # around (102, 22)
    given = GivenFrames.open(frames_THWC)
    camera = pinhole(60, 160)
    fitted = fit_cameras({"camera": camera, "speed": {}}, given, (30, 40))["camera"]
    rows, columns = np.nonzero(given.read(np.array([0]), (30, 40))[0, ..., 0] > 127)
    pixel = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]])
    np.testing.assert_allclose(pixel, [[31, 11]])
    np.testing.assert_allclose(
        pixel_rays(fitted, 0, pixel), pixel_rays(camera, 0, np.array([[102.0, 22.0]]))
    )
    assert fitted["size"].tolist() == [30, 40]


def test_a_camera_of_the_video_to_make_stays_and_another_aspect_is_refused() -> None:
    given = GivenFrames.open(np.zeros((1, 60, 160, 3), np.uint8))
    own = fit_cameras({"camera": pinhole(60, 80)}, given, (30, 40))["camera"]
    np.testing.assert_allclose(own["intrinsics"][0], pinhole(30, 40)["intrinsics"][0])
    with pytest.raises(
        SampleError, match=r"60x60 .*aspect.* 30x40 of the video or 60x160 of the in"
    ):
        fit_cameras({"camera": pinhole(60, 60)}, given, (30, 40))
