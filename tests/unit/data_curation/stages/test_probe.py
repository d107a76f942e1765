"""Bad input is a counted rejection with its reason, odd input is worked on."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from data_curation.clip import Clip, Rejection
from data_curation.stages.probe import ProbeSettings, ProbeStage
from data_curation.stages.transcode import TranscodeSettings, TranscodeStage
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.testing.pictures import scenery, woven, write_video
from nemo_cosmos.video import Video, encode_video, probe

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


def write(path, frames, *, codec="libx264", rate=10, first_pts=0, options=None) -> None:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + first_pts, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def reason(tmp_path):
    def reason(path, **settings) -> str:
        clip = Clip(source=path, name=path.name)
        result = ProbeStage(ProbeSettings(**settings)).process(clip)
        if isinstance(result, Rejection):
            assert result.stage == "probe"
            assert result.detail
            return result.reason
        assert result.info is not None
        return "passed"

    return reason


def test_what_is_no_video(tmp_path, reason, scene, write_sound):
    write(tmp_path / "good.mp4", scene(1, 12))
    content = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "fake.mp4").write_text("<html>404 not found</html>" * 20)
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "header.mp4").write_bytes(content[:32])
    write_sound(tmp_path / "sound.mp4")
    for name in ("empty", "fake", "cut", "header", "sound"):
        assert reason(tmp_path / f"{name}.mp4") == "not_a_video", name
    assert reason(tmp_path / "nowhere.mp4") == "unreadable"
    assert reason(tmp_path / "good.mp4") == "passed"


def test_encrypted(tmp_path, reason):
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8)
    write(tmp_path / "secret.mp4", noise, options=CENC)
    assert reason(tmp_path / "secret.mp4") == "encrypted"


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_still_image_with_the_name_of_a_video(tmp_path, reason, scene, ending):
    import cv2

    cv2.imwrite(str(tmp_path / f"v.{ending}"), scene(1, 1)[0])
    (tmp_path / f"v.{ending}").rename(tmp_path / "v.mp4")
    assert reason(tmp_path / "v.mp4") == "still_image"


def test_sizes(tmp_path, reason):
    write(tmp_path / "dot.mkv", np.zeros((3, 1, 1, 3), np.uint8), codec="ffv1")
    write(tmp_path / "wide.mkv", np.zeros((2, 16, 16384, 3), np.uint8), codec="ffv1")
    assert reason(tmp_path / "dot.mkv") == "too_small"
    assert reason(tmp_path / "wide.mkv") == "too_large"
    assert reason(tmp_path / "wide.mkv", max_side_px=20000) == "passed"
    with pytest.raises(ConfigError):
        ProbeSettings(min_side_px=100, max_side_px=50)


@pytest.mark.parametrize("fps", [1, 240])
def test_slow_and_fast_rates_are_kept(tmp_path, reason, scene, store, make_clip, fps):
    encode_video(tmp_path / "v.mp4", Video(scene(1, 12), fps=fps), keyframe_interval=5)
    assert reason(tmp_path / "v.mp4") == "passed"
    clip = make_clip(tmp_path / "v.mp4", span=(2, 10))
    out = TranscodeStage(TranscodeSettings(), store).process(clip)
    info = probe(store.get(out.clip_id, "mp4"))
    assert (info.fps, info.num_frames, info.variable_frame_rate) == (fps, 8, False)


def test_odd_sizes_come_back_at_their_size(tmp_path, reason, scene, store, make_clip):
    encode_video(tmp_path / "v.mp4", Video(scene(1, 12)[:, :61, :85], fps=10))
    assert reason(tmp_path / "v.mp4") == "passed"
    out = TranscodeStage(TranscodeSettings(), store).process(
        make_clip(tmp_path / "v.mp4", span=(1, 9))
    )
    info = probe(store.get(out.clip_id, "mp4"))
    assert (info.height, info.width) == (out.height, out.width) == (61, 85)


def test_negative_timestamps(tmp_path, reason, scene, store, make_clip):
    write(tmp_path / "v.mkv", scene(1, 12), first_pts=-5)
    assert reason(tmp_path / "v.mkv") == "passed"
    out = TranscodeStage(TranscodeSettings(), store).process(make_clip(tmp_path / "v.mkv"))
    assert probe(store.get(out.clip_id, "mp4")).num_frames == out.num_frames
    assert out.num_frames in (7, 12)  # players drop what lies before zero, or shift it


def test_combs_whose_fields_have_no_order_are_refused(tmp_path, reason):
    """As after a change of size, which blends the lines of both fields here and there."""
    shuffled = scenery(240)[np.random.default_rng(1).permutation(240)]
    path = write_video(tmp_path / "combed.mp4", woven(shuffled), crf="10")
    assert reason(path) == "interlaced"
    assert reason(write_video(tmp_path / "tape.mp4", woven(scenery(60)))) == "passed"


def test_spoilt_pictures_that_cannot_be_left_out_are_not_taken_for_combs(tmp_path, reason):
    """Two recordings in one file, whose frames have no timestamps of their own."""
    shuffled = scenery(240)[np.random.default_rng(1).permutation(240)]
    path = write_video(tmp_path / "combed.ts", woven(shuffled), crf="10")
    content = path.read_bytes()
    path.write_bytes(content + content)
    assert reason(path) == "interlaced"
    middle = len(content) // 2 // 188 * 188
    path.write_bytes(content[:middle] + content[middle + 188 :] + content)
    assert reason(path) == "passed"
