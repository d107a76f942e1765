"""The picture that a viewer would see: square pixels, whole frames of interlaced video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph
from PIL import Image

from nemo_cosmos.errors import VideoError
from nemo_cosmos.testing.pictures import INTERLACED, RATE, scenery, woven, write_video
from nemo_cosmos.video import decode, encode_video, index_frames, probe
from nemo_cosmos.video.frames import Video
from nemo_cosmos.video.index.interlace import scan_of


def by_ffmpeg(path: Path, *filters: tuple[str, str]) -> np.ndarray:
    """Frames as FFmpeg's own filters make them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = Graph()
        nodes = [graph.add_buffer(template=stream)]
        nodes += [graph.add(name, options) for name, options in filters]
        nodes += [graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        frames = []
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    frames.append(graph.pull().to_ndarray(format="rgb24"))
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return np.stack(frames)


def mean_error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize(
    ("name", "codec", "pixel_aspect", "width"),
    [
        ("pal.mp4", "libx264", Fraction(64, 45), 182),
        ("pal.mkv", "libx264", Fraction(16, 15), 136),
        ("hdv.ts", "mpeg2video", Fraction(4, 3), 170),
        ("ntsc.mov", "libx264", Fraction(8, 9), 114),
        ("nearly.mp4", "libx264", Fraction(4095, 4096), 128),
    ],
)
def test_pixels_are_made_square(tmp_path, name, codec, pixel_aspect, width):
    path = write_video(tmp_path / name, scenery(6), pixel_aspect, codec)
    info = probe(path)
    assert (info.height, info.width) == (96, width)
    assert (info.pixel_aspect == 1) == (width == 128)
    frames_THWC = decode(path).frames_THWC
    wanted_THWC = by_ffmpeg(path, ("scale", f"{width}:96:flags=bicubic"))
    assert frames_THWC.shape == wanted_THWC.shape
    assert mean_error(frames_THWC, wanted_THWC) < 3
    assert decode(path, size=(48, 64)).frames_THWC.shape == (6, 48, 64, 3)


def test_pixels_of_a_rotated_video_are_made_square_before_it_is_turned(tmp_path, rotate_mp4):
    path = write_video(tmp_path / "phone.mp4", scenery(6), Fraction(3, 2))
    rotate_mp4(path)
    info = probe(path)
    assert info.rotation and (info.height, info.width) == (192, 96)
    assert decode(path).frames_THWC.shape == (6, 192, 96, 3)


def test_a_pixel_shape_that_cannot_be_right_is_an_error(tmp_path):
    path = write_video(tmp_path / "odd.mp4", scenery(3), Fraction(1, 100))
    with pytest.raises(VideoError, match="pixels of 1:100"):
        probe(path)


@pytest.mark.parametrize("top_first", [True, False])
@pytest.mark.parametrize("is_flagged", [True, False])
def test_interlaced_video_is_found_and_made_whole(tmp_path, top_first, is_flagged):
    smooth = scenery(60)
    options = INTERLACED[top_first] if is_flagged else {}
    path = write_video(tmp_path / "tape.mp4", woven(smooth, top_first), crf="10", **options)
    index = index_frames(path, find_fields=True)
    assert index.info.scan == ("top_first" if top_first else "bottom_first")
    frames_THWC = decode(path, index=index).frames_THWC
    parity = "tff" if top_first else "bff"
    wanted_THWC = by_ffmpeg(path, ("bwdif", f"mode=send_frame:deint=all:parity={parity}"))
    np.testing.assert_array_equal(frames_THWC, wanted_THWC)
    stored_THWC = by_ffmpeg(path)
    first_field_THWC = smooth[::2]
    assert mean_error(frames_THWC, first_field_THWC) < 0.4 * mean_error(
        stored_THWC, first_field_THWC
    )


def test_flags_alone_are_enough_for_a_reader_that_does_not_look(tmp_path):
    path = write_video(tmp_path / "tape.ts", woven(scenery(60)), **INTERLACED[True])
    assert probe(path).scan == "top_first"
    still = write_video(
        tmp_path / "still.ts", np.repeat(scenery(1), 20, axis=0), **INTERLACED[True]
    )
    assert probe(still).scan == "flagged"


def test_whole_frames_that_are_sent_as_fields_stay_as_they_are(tmp_path):
    path = write_video(tmp_path / "psf.mp4", scenery(30), **INTERLACED[True])
    assert probe(path).scan == "progressive"


def test_single_frames_of_interlaced_video_are_those_of_all(tmp_path):
    path = write_video(tmp_path / "tape.mp4", woven(scenery(80)), **INTERLACED[True])
    everything = decode(path).frames_THWC
    for wanted in ([0], [39], [1, 2, 17], [38, 20, 20, 5]):
        picked = decode(path, frame_indices=wanted).frames_THWC
        np.testing.assert_array_equal(picked, everything[wanted])


def test_another_decoder_is_not_asked_for_interlaced_video(tmp_path):
    path = write_video(tmp_path / "tape.mp4", woven(scenery(60)), **INTERLACED[True])
    with pytest.raises(VideoError, match="interlaced, which the backend 'torchcodec'"):
        decode(path, backend="torchcodec")


def test_combs_without_an_order_are_unsure():
    still = scenery(1)[0, ..., 0]
    rng = np.random.default_rng(0)
    looks = []
    for _ in range(6):
        fields = [np.roll(still, int(rng.integers(-30, 30)), axis=1) for _ in range(6)]
        frames = []
        for top, bottom in zip(fields[::2], fields[1::2], strict=True):
            frame = top.copy()
            frame[1::2] = bottom[1::2]
            frames.append(frame)
        looks.append(tuple(frames))
    assert scan_of(looks) == "unsure"
    assert scan_of([(still, still, still)] * 6) is None


def test_our_own_videos_are_not_looked_at(tmp_path):
    encode_video(tmp_path / "ours.mp4", Video(woven(scenery(60)), fps=RATE))
    assert index_frames(tmp_path / "ours.mp4", find_fields=True).info.scan == "progressive"


REAL = "curation/test_clip_10s.mp4", "robotics_bridge/videos/val/1996/rgb.mp4"


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_are_progressive(samples_dir, name):
    assert index_frames(samples_dir / name, find_fields=True).info.scan == "progressive"


def test_what_is_transparent_shows_white_and_not_the_colour_below_it(tmp_path):
    picture_HW4 = np.zeros((48, 64, 4), np.uint8)
    picture_HW4[..., 0] = 200
    picture_HW4[:, 32:, 3] = 255
    picture_HW4[:16, :, 3] = 128
    Image.fromarray(picture_HW4).save(tmp_path / "a.png")
    Image.fromarray(picture_HW4).quantize(8).save(tmp_path / "p.png")
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "argb"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HW4, format="rgba")))
        container.mux(stream.encode(None))
    for name in ("a.png", "p.png", "a.mov"):
        frame_HWC = decode(tmp_path / name).frames_THWC[0].astype(int)
        assert np.abs(frame_HWC[40, 10] - (255, 255, 255)).max() <= 2, name
        assert np.abs(frame_HWC[40, 50] - (200, 0, 0)).max() <= 2, name
        assert np.abs(frame_HWC[5, 10] - (227, 127, 127)).max() <= 3, name
