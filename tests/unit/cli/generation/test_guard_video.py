"""``nemo-cosmos guard video``: a verdict, a safe copy, and an exit code that scripts can read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.cli import main as cli
from nemo_cosmos.guardrails import Verdict
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE, read_log
from nemo_cosmos.guardrails.registry import BUILTIN_GUARDS, BuiltinGuard
from nemo_cosmos.video import Video, decode, encode_video


class PaintsLeftHalf:
    name, kind = "face_blur", "filter"

    def apply(self, frames_THWC):
        frames_THWC[:, :, : frames_THWC.shape[2] // 2] = 255
        measures = {"faces": 1, "frames": len(frames_THWC), "share_pixelated": 0.5}
        return frames_THWC, Verdict(True, self.name, "safe", "painted", measures)


class RefusesBright:
    name, kind, frames_per_s = "video_classifier", "video", 2.0

    def check(self, x):
        bright = bool(x.mean(axis=(1, 2, 3)).max() > 200)
        category = "brightness" if bright else "safe"
        return Verdict(not bright, self.name, category, f"{len(x)} frames")


@pytest.fixture(autouse=True)
def audit_log(tmp_path, monkeypatch):
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    for guard in (PaintsLeftHalf, RefusesBright):
        entry = BUILTIN_GUARDS[guard.name]
        module = entry.target.split(":")[0]
        monkeypatch.setattr(f"{module}.stand_in", guard, raising=False)
        stand_in = BuiltinGuard(f"{module}:stand_in", entry.kind)
        monkeypatch.setitem(BUILTIN_GUARDS, guard.name, stand_in)
    return tmp_path / "audit.jsonl"


@pytest.fixture
def clip(tmp_path, moving_square_THWC):
    encode_video(tmp_path / "clip.mp4", Video(moving_square_THWC, 10.0), crf=1)
    return tmp_path / "clip.mp4"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["guard", "video", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_a_safe_copy_is_written_and_the_original_stays(clip, tmp_path, capsys, audit_log):
    before = clip.read_bytes()
    assert run(clip, "--out", tmp_path / "safe.mp4", "--json") == 0
    verdict = json.loads(capsys.readouterr().out)
    assert {"allowed", "guard", "category", "reason"} < {*verdict}
    assert verdict["allowed"] and "face_blur" in verdict["reason"]
    assert (verdict["faces"], verdict["frames"], verdict["share_pixelated"]) == (1, 25, 0.5)
    assert clip.read_bytes() == before
    copy, original = decode(tmp_path / "safe.mp4"), decode(clip)
    assert (copy.num_frames, copy.fps) == (25, 10.0)
    assert copy.frames_THWC[:, :, :40].min() > 235
    difference = copy.frames_THWC[:, :, 60:].astype(int) - original.frames_THWC[:, :, 60:]
    assert np.abs(difference).mean() < 3
    (record,) = read_log(audit_log)
    assert record["file"] == "clip.mp4"
    assert record["verdicts"][0]["reason"] == "6 frames"  # every 5th of 25, and the last
    assert record["verdicts"][1]["share_pixelated"] == 0.5


def test_a_refused_video_has_no_copy(tmp_path, capsys):
    frames = np.full((5, 32, 32, 3), 30, np.uint8)
    frames[-1] = 250
    encode_video(tmp_path / "flash.mp4", Video(frames, 25.0), crf=1)
    assert run(tmp_path / "flash.mp4", "--out", tmp_path / "safe.mp4") == cli.Exit.REFUSED
    assert capsys.readouterr().out.startswith("refused by video_classifier (brightness)")
    assert not (tmp_path / "safe.mp4").exists()


@pytest.mark.parametrize("fps", [0.5, 1.0])
def test_a_video_of_under_two_frames_a_second(tmp_path, capsys, fps):
    encode_video(tmp_path / "slow.mp4", Video(np.full((4, 32, 32, 3), 30, np.uint8), fps))
    assert run(tmp_path / "slow.mp4", "--json") == 0


def test_turning_a_guard_off_is_told_and_recorded(clip, capsys, audit_log):
    assert run(clip, "--disable-guard", "face_blur", "--json") == 0
    assert "turned off: face_blur" in json.loads(capsys.readouterr().out)["reason"]
    verdicts = read_log(audit_log)[0]["verdicts"]
    assert ("face_blur", "disabled") in [(v["guard"], v["category"]) for v in verdicts]


def test_what_is_no_video_or_not_there_is_one_paragraph(tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    assert run(tmp_path / "text.mp4") == cli.Exit.WRONG_USE
    assert "text.mp4" in capsys.readouterr().err
    assert run(tmp_path / "none.mp4") == cli.Exit.WRONG_USE


def test_the_original_is_never_replaced(clip, capsys):
    before = clip.read_bytes()
    assert run(clip, "--out", clip) == cli.Exit.WRONG_USE
    assert "--out" in capsys.readouterr().err
    assert clip.read_bytes() == before
