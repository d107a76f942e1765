"""Where a video can be saved is known before it is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import InputError
from nemo_cosmos.inference import Result, check_output
from nemo_cosmos.inference.result import notices
from nemo_cosmos.storage import outputs
from nemo_cosmos.video import Video


def test_a_place_that_can_be_written_stays_as_it_was(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new" / "folder" / "a.mp4").name == "a.mp4"
    (tmp_path / "there.mp4").write_bytes(b"before")
    check_output(str(tmp_path / "there.mp4"))
    assert (tmp_path / "there.mp4").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["there.mp4"]


def test_other_places_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for path, message in (
        ("folder.mp4", "is a folder"),
        ("file/a.mp4", "is a file, not a folder"),
        ("a.gif", r"does not end in \.mp4.* Write '.*a\.mp4'"),
        ("a", r"does not end in \.mp4"),
    ):
        with pytest.raises(InputError, match=message):
            check_output(tmp_path / path)

    def read_only(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", read_only)
    with pytest.raises(InputError, match="Read-only file system"):
        check_output(tmp_path / "a.mp4")


def test_what_filters_changed_is_a_notice() -> None:
    verdicts = [
        {"guard": "keywords", "reason": "no term"},
        {"guard": "face_blur", "reason": "faces pixelated in 0 of 9 frames", "frames_pixelated": 0},
        {"guard": "face_blur", "reason": "faces pixelated in 9 of 9 frames", "frames_pixelated": 9},
    ]
    assert notices({"guards": verdicts}) == ["faces pixelated in 9 of 9 frames"]


def test_a_result_shows_one_view(tmp_path: Path) -> None:
    result = Result(Video(np.zeros((1, 8, 8, 3), np.uint8), fps=10), {})
    assert result.views == ("main",)
    with pytest.raises(InputError, match=r"\.mp4"):
        result.save(tmp_path / "a.avi")
