"""Clips hold the frames of their span, their sidecars too, and what fits is kept as it is."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from data_curation.clip import Clip, Rejection
from data_curation.stages import transcode
from data_curation.stages.probe import ProbeStage
from data_curation.stages.transcode import TranscodeSettings, TranscodeStage, fits, scaled_size
from nemo_cosmos.errors import ConfigError, MissingDependencyError
from nemo_cosmos.testing.pictures import INTERLACED, scenery, woven, write_video
from nemo_cosmos.video import Video, decode, encode_video, encoders, index_frames, probe


@pytest.fixture
def run(store):
    def run(clip, **settings):
        return TranscodeStage(TranscodeSettings(**settings), store).process(clip)

    return run


def test_a_span_holds_its_frames(raw, run, store, make_clip):
    clip = run(make_clip(raw / "a two shots.mp4", span=(20, 45)))
    assert (clip.num_frames, clip.fps, clip.width, clip.height) == (25, 10, 96, 64)
    found = decode(store.get(clip.clip_id, "mp4")).frames_THWC
    wanted = decode(raw / "a two shots.mp4").frames_THWC[20:45]
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 4
    assert store.thumbnail(clip.clip_id) is not None


def test_chunks_make_no_difference(raw, run, store, make_clip, monkeypatch):
    clip = make_clip(raw / "a two shots.mp4", span=(3, 40))
    at_once, content = run(clip), store.get(clip.clip_id, "mp4")
    monkeypatch.setattr(transcode, "CHUNK_BYTES", 7 * 64 * 96 * 3)
    assert run(clip) == at_once
    assert store.get(clip.clip_id, "mp4") == content


def test_a_whole_source_that_fits_is_kept_as_it_is(raw, run, store, make_clip):
    clip = run(make_clip(raw / "still.mp4"))
    assert store.get(clip.clip_id, "mp4") == (raw / "still.mp4").read_bytes()


def test_sound_is_left_out_without_encoding_anew(
    tmp_path, run, store, make_clip, write_sound, scene
):
    write_sound(tmp_path / "sound.mp4", scene(1, 12))
    clip = run(make_clip(tmp_path / "sound.mp4"))
    content = store.get(clip.clip_id, "mp4")
    assert not probe(content).has_audio
    assert np.array_equal(decode(content).frames_THWC, decode(tmp_path / "sound.mp4").frames_THWC)
    with av.open(str(tmp_path / "sound.mp4")) as source, av.open(io.BytesIO(content)) as copy:
        sizes = [
            [packet.size for packet in container.demux(video=0) if packet.size]
            for container in (source, copy)
        ]
    assert sizes[0] == sizes[1]


def test_another_codec_is_encoded_anew(tmp_path, run, store, make_clip, scene):
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for frame in scene(1, 12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    clip = run(make_clip(tmp_path / "v.avi"))
    assert probe(store.get(clip.clip_id, "mp4")).codec == "h264"
    assert clip.num_frames == 12


def test_large_videos_are_scaled_to_the_shorter_side(raw, run, store, make_clip):
    clip = run(make_clip(raw / "still.mp4"), short_side_px=32)
    assert (clip.height, clip.width) == (32, 48)
    info = probe(store.get(clip.clip_id, "mp4"))
    assert (info.height, info.width) == (32, 48)
    assert scaled_size(replace(info, width=1921, height=1080), 720) == (720, 1280)
    assert scaled_size(replace(info, width=63, height=31), 32) == (31, 63)


def test_a_variable_rate_keeps_every_frame_at_the_mean_rate(tmp_path, run, store, make_clip, scene):
    times_s = np.cumsum([0, *([0.1] * 10), *([0.3] * 10)])
    encode_video(tmp_path / "v.mp4", Video(scene(1, 21), fps=5, pts_s=times_s))
    clip = make_clip(tmp_path / "v.mp4")
    assert clip.info.variable_frame_rate
    clip = run(clip)
    info = probe(store.get(clip.clip_id, "mp4"))
    assert not info.variable_frame_rate
    assert info.num_frames == clip.num_frames == 21


def test_a_variable_rate_keeps_the_speed_of_motion(tmp_path, run, store, make_clip, scene):
    times_s = np.cumsum([0, *([0.1] * 10), *([0.3] * 10)])
    frames = scene(1, 21)
    encode_video(tmp_path / "v.mp4", Video(frames, fps=5, pts_s=times_s), crf=1)
    clip = run(make_clip(tmp_path / "v.mp4"))
    found = decode(store.get(clip.clip_id, "mp4")).frames_THWC.astype(int)
    # At 5 frames a second, the second frame is the one at 0.2 s, the last but one that at 3.8 s.
    for place, number in ((0, 0), (1, 2), (5, 10), (10, 13), (19, 19), (20, 20)):
        distances = np.abs(frames.astype(int) - found[place]).mean(axis=(1, 2, 3))
        assert distances.argmin() == number


def test_with_sidecars_every_frame_of_a_variable_rate_is_kept(
    tmp_path, run, store, make_clip, scene
):
    times_s = np.cumsum([0, *([0.1] * 10), *([0.3] * 10)])
    frames = scene(1, 21)
    encode_video(tmp_path / "v.mp4", Video(frames, fps=5, pts_s=times_s), crf=1)
    np.save(tmp_path / "v.action.npy", np.zeros((20, 7)))
    clip = run(make_clip(tmp_path / "v.mp4"))
    found = decode(store.get(clip.clip_id, "mp4")).frames_THWC.astype(int)
    for number, frame in enumerate(found):
        assert np.abs(frames.astype(int) - frame).mean(axis=(1, 2, 3)).argmin() == number


def test_long_groups_of_pictures_are_encoded_anew(tmp_path, run, store, make_clip, scene):
    encode_video(tmp_path / "v.mp4", Video(scene(1, 60), fps=10), keyframe_interval=60)
    clip = make_clip(tmp_path / "v.mp4")
    assert not fits(clip.source, clip.info, (64, 96), 2.0)
    assert fits(clip.source, clip.info, (64, 96), 6.0)
    run(clip)
    index = index_frames(store.get(clip.clip_id, "mp4"))
    assert np.diff(index.keyframe_pts).max() * float(index.time_base) == pytest.approx(2.0)


def test_open_groups_of_pictures_are_encoded_anew(tmp_path, make_clip, scene):
    for is_open in (0, 1):
        with av.open(str(tmp_path / f"{is_open}.mp4"), "w") as container:
            options = {"x264-params": f"open-gop={is_open}:keyint=10:bframes=3:b-adapt=0"}
            stream = container.add_stream("libx264", rate=10, options=options)
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
            for frame in scene(1, 40):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    assert transcode.has_closed_groups(tmp_path / "0.mp4")
    assert not transcode.has_closed_groups(tmp_path / "1.mp4")


def test_profiles_limit_the_shorter_side():
    assert TranscodeSettings(profile="720p").largest_side_px == 720
    assert TranscodeSettings(profile="1080p", short_side_px=480).largest_side_px == 480
    assert TranscodeSettings().largest_side_px == 0


@pytest.mark.parametrize(
    "settings",
    [{"profile": "4k"}, {"keyframe_s": 0}, {"short_side_px": -1}, {"encoder": "h265"}],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        TranscodeSettings(**settings)


def test_an_encoder_that_is_not_there_ends_the_run_before_it_starts(store, monkeypatch):
    monkeypatch.setattr(encoders, "can_open", lambda encoder: encoder == "libx264")
    TranscodeStage(TranscodeSettings(), store).prepare()
    with pytest.raises(MissingDependencyError, match="h264_nvenc"):
        TranscodeStage(TranscodeSettings(encoder="h264_nvenc"), store).prepare()


def test_sidecars_are_cut_with_the_span(raw, run, store, make_clip):
    source = raw / "sub" / "robot.mp4"
    gauge = {"pose": np.arange(24 * 4).reshape(24, 4), "constants": np.arange(5)}
    np.savez(source.with_suffix(".gauge.npz"), **gauge)
    clip = run(make_clip(source, span=(4, 14)))
    assert clip.suffixes == ("mp4", "action.npy", "gauge.npz")
    actions = np.load(io.BytesIO(store.get(clip.clip_id, "action.npy")))
    assert np.array_equal(actions, np.load(source.with_suffix(".action.npy"))[4:13])
    with np.load(io.BytesIO(store.get(clip.clip_id, "gauge.npz"))) as found:
        assert np.array_equal(found["pose"], gauge["pose"][4:14])
        assert np.array_equal(found["constants"], gauge["constants"])


def test_a_sidecar_of_a_longer_name_belongs_to_the_other_video(raw, run, make_clip):
    np.save(raw / "still.1.action.npy", np.zeros((3, 7)))
    assert run(make_clip(raw / "still.mp4")).suffixes == ("mp4",)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (np.zeros((24, 7)), "24 rows"),
        (np.full((23, 7), np.nan), "NaN"),
        (np.array([{"an": "object"}], dtype=object), "numpy.save"),
        (b"no array", "numpy.save"),
        (b"", "numpy.save"),
    ],
)
def test_a_sidecar_that_does_not_fit_rejects_the_clip(raw, run, make_clip, content, text):
    path = raw / "sub" / "robot.action.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    result = run(make_clip(raw / "sub" / "robot.mp4"))
    assert isinstance(result, Rejection)
    assert result.reason == "sidecar"
    assert text in result.detail


@pytest.mark.parametrize("span", [None, (0, 20)])
def test_a_damaged_stream_is_a_decode_failure_and_leaves_no_file(raw, run, store, make_clip, span):
    source = raw / "a two shots.mp4"
    clip = make_clip(source, span=span)
    content = bytearray(source.read_bytes())
    middle = content.index(b"mdat") + 700
    content[middle : middle + 3000] = bytes(3000)
    source.write_bytes(content)
    result = run(clip)
    assert isinstance(result, Rejection)
    assert result.reason == "decode_failure"
    assert not store.path(clip.clip_id, "mp4").exists()


def test_the_checksum_is_of_the_content(raw, run, store, make_clip, tmp_path):
    whole = run(make_clip(raw / "still.mp4"))
    (tmp_path / "other.mkv").write_bytes((raw / "still.mp4").read_bytes())
    assert isinstance(whole, Clip)
    assert run(make_clip(tmp_path / "other.mkv")).content_sha256 == whole.content_sha256
    assert run(make_clip(raw / "sub" / "robot.mp4")).content_sha256 != whole.content_sha256


def test_clips_have_square_pixels_and_whole_frames(tmp_path, run, store):
    wide = write_video(tmp_path / "wide.mp4", scenery(12), Fraction(64, 45))
    tape = write_video(tmp_path / "tape.mp4", woven(scenery(60)))
    flagged = write_video(tmp_path / "flagged.mp4", woven(scenery(60)), **INTERLACED[True])
    for path, size in ((wide, (96, 182)), (tape, (96, 128)), (flagged, (96, 128))):
        probed = ProbeStage().process(Clip(source=path, name=path.name))
        clip = run(replace(probed, end_frame=probed.info.num_frames, clip_id=path.stem))
        content = store.get(clip.clip_id, "mp4")
        assert (clip.height, clip.width) == size
        info = index_frames(content, find_fields=True).info
        assert (info.height, info.width, info.pixel_aspect) == (*size, 1)
        found = decode(content).frames_THWC
        index = index_frames(path, find_fields=True)
        assert np.abs(found.astype(int) - decode(path, index=index).frames_THWC).mean() < 4
        small = run(
            replace(probed, end_frame=probed.info.num_frames, clip_id=path.stem), short_side_px=48
        )
        assert (small.height, small.width) == (48, 2 * round(size[1] / 4))


PLACE = "+48.8577+002.2950/"


@pytest.fixture
def phone(tmp_path, scene):
    """A video as telephones write it, with its place under two names and in a box of its own."""

    def phone(name="phone.mp4", **tags):
        encode_video(tmp_path / "plain.mp4", Video(scene(1, 20), fps=10))
        with (
            av.open(str(tmp_path / "plain.mp4")) as given,
            av.open(
                str(tmp_path / name), "w", options={"movflags": "+use_metadata_tags"}
            ) as container,
        ):
            container.metadata.update(tags)
            stream = container.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
        return tmp_path / name

    return phone


@pytest.mark.parametrize("tag", ["location", "com.apple.quicktime.location.ISO6709", "where"])
@pytest.mark.parametrize("span", [None, (2, 15)])  # copied, and encoded
def test_where_a_video_was_taken_is_left_out(phone, run, store, make_clip, tag, span):
    source = phone(**{tag: PLACE, "title": "A walk"})
    clip = run(make_clip(source, span=span) if span else make_clip(source))
    content = store.get(clip.clip_id, "mp4")
    assert PLACE.encode() in source.read_bytes() and PLACE.encode() not in content
    assert span or probe(content).metadata["title"] == "A walk"
    kept = run(make_clip(source, span=span) if span else make_clip(source), keep_location=True)
    assert probe(store.get(kept.clip_id, "mp4")).metadata[tag] == PLACE


def test_boxes_that_no_reader_reports_are_left_out(phone, run, store, make_clip):
    source = phone()
    note = b"<exif:GPSLatitude>48,51.46N</exif:GPSLatitude>"
    box = (24 + len(note)).to_bytes(4, "big") + b"uuid" + bytes(16) + note
    source.write_bytes(source.read_bytes() + box)
    clip = run(make_clip(source))
    assert note not in store.get(clip.clip_id, "mp4")
    clip = run(make_clip(source), keep_location=True)
    assert store.get(clip.clip_id, "mp4") == source.read_bytes()
