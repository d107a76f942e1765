"""What cannot be opened is refused in one paragraph that names the file."""

from __future__ import annotations

import os

import numpy as np
import pytest

from nemo_cosmos.errors import MissingFileError, VideoError
from nemo_cosmos.video import Video, decode, encode_video, probe


def one_paragraph(error: BaseException) -> bool:
    return "\n" not in str(error) and str(error).rstrip().endswith((".", "'"))


@pytest.mark.parametrize("use", [probe, decode])
class TestRefused:
    def test_missing_file(self, use, tmp_path):
        with pytest.raises(MissingFileError, match=r"no file .*NoSuch\.mp4") as caught:
            use(tmp_path / "NoSuch.mp4")
        assert one_paragraph(caught.value)

    def test_folder(self, use, tmp_path):
        with pytest.raises(MissingFileError, match="is a folder"):
            use(tmp_path)

    def test_missing_url(self, use):
        with pytest.raises(MissingFileError, match=r"nothing\.mp4"):
            use("memory://nowhere/nothing.mp4")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_unreadable_file(self, use, tmp_path):
        path = tmp_path / "secret.mp4"
        path.write_bytes(b"x")
        path.chmod(0)
        with pytest.raises(MissingFileError, match="may not be read"):
            use(path)

    def test_unreadable_file_as_any_user(self, use, tmp_path, monkeypatch):
        path = tmp_path / "secret.mp4"
        path.write_bytes(b"x")
        monkeypatch.setattr(os, "access", lambda *args: False)
        with pytest.raises(MissingFileError, match="may not be read"):
            use(path)

    def test_zero_bytes(self, use, tmp_path):
        path = tmp_path / "Empty.mp4"
        path.touch()
        with pytest.raises(VideoError, match=r"Empty\.mp4' is empty"):
            use(path)
        with pytest.raises(VideoError, match="is empty"):
            use(b"")

    @pytest.mark.parametrize("content", [b"hello, I am text" * 100, bytes(4096), b"<html></html>"])
    def test_fake_mp4(self, use, tmp_path, content):
        path = tmp_path / "Fake.mp4"
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"Fake\.mp4") as caught:
            use(path)
        assert one_paragraph(caught.value)

    def test_sound_only(self, use, sound_only):
        with pytest.raises(VideoError, match=r"no video stream \(it contains: audio\)"):
            use(sound_only)

    def test_index_cut_off(self, use, tmp_path, mux):
        path = mux("late_index.mp4", range(25))  # without faststart the index is at the end
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(VideoError, match=r"late_index\.mp4"):
            use(path)

    def test_video_stream_without_frames(self, use, tmp_path, mux):
        path = mux("header.mkv", [])
        with pytest.raises(VideoError):
            use(path)


def test_url_is_read_like_a_path(tmp_path, moving_square_THWC):
    import fsspec

    encode_video(tmp_path / "a.mp4", Video(moving_square_THWC, fps=24))
    memory = fsspec.filesystem("memory")
    with memory.open("/clips/a.mp4", "wb") as handle:
        handle.write((tmp_path / "a.mp4").read_bytes())
    try:
        assert probe("memory://clips/a.mp4").num_frames == 25
        assert decode("memory://clips/a.mp4", frame_indices=[3]).num_frames == 1
    finally:
        memory.rm("/clips", recursive=True)


def test_a_file_that_was_cut_off_in_its_header_is_a_video_error(tmp_path):
    file = tmp_path / "whole.mp4"
    encode_video(file, Video(np.zeros((8, 48, 64, 3), np.uint8), fps=10))
    whole = file.read_bytes()
    messages = set()
    for length in range(0, 720, 6):
        with pytest.raises(VideoError) as caught:
            probe(whole[:length])
        messages.add(str(caught.value).partition(">' ")[2][:40])
    assert any("does not say how its video is coded" in one for one in messages)
