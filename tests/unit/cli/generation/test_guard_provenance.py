"""``nemo-cosmos guard provenance``: what a video says of itself, also after its tags are gone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.cli import main as cli
from nemo_cosmos.guardrails import AuditLog, GuardPolicy
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.guardrails.video.watermark import WatermarkFilter
from nemo_cosmos.inference.result import Result
from nemo_cosmos.video import Video, encode_video


@pytest.fixture(autouse=True)
def audit_log(tmp_path, monkeypatch):
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    return tmp_path / "audit.jsonl"


def ask(capsys, *arguments) -> dict:
    with pytest.raises(SystemExit) as stop:
        cli.main(["guard", "provenance", *map(str, arguments), "--json"])
    assert not stop.value.code
    return json.loads(capsys.readouterr().out)


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["guard", *map(str, arguments)])
    return int(stop.value.code or 0)


@pytest.fixture
def marked() -> Video:
    """A smooth moving scene with the watermark, which the audit log knows."""
    y, x = np.mgrid[:256, :320] / 20
    scene = 120 + 60 * np.sin(x + np.cos(y))
    frames = np.stack([np.roll(scene, 4 * n, 1) for n in range(4)])[..., None].repeat(3, -1)
    policy = GuardPolicy([WatermarkFilter()], audit=AuditLog())
    return Video(policy.check_video(frames.astype(np.uint8), {"seed": 11})[0], 8.0)


def test_a_saved_result_says_all_and_a_bare_copy_still_has_its_watermark(marked, tmp_path, capsys):
    record = {"created_utc": "2026-01-02T03:04:05+00:00"}
    Result(marked, record).save(tmp_path / "world.mp4")
    told = ask(capsys, tmp_path / "world.mp4")
    assert (told["synthetic"], told["manifest_matches"]) == (True, True)
    assert told["digital_source_type"].endswith("trainedAlgorithmicMedia")
    assert told["audit_record"]["seed"] == 11
    encode_video(tmp_path / "bare.mp4", marked, crf=28)
    bare = ask(capsys, tmp_path / "bare.mp4")
    assert (bare["synthetic"], bare["manifest_matches"]) == (False, None)
    assert bare["watermark"] == told["watermark"] is not None
    assert run("provenance", tmp_path / "bare.mp4") == 0
    shown = capsys.readouterr().out
    assert "marked as synthetic: no" in shown and "audit log: record 1" in shown


def test_a_camera_video_says_nothing(tmp_path, capsys, moving_square_THWC):
    encode_video(tmp_path / "clip.mp4", Video(moving_square_THWC, 10.0))
    told = ask(capsys, tmp_path / "clip.mp4")
    assert told == {
        "synthetic": False,
        "digital_source_type": None,
        "manifest_matches": None,
        "watermark": None,
        "audit_record": None,
    }


def test_the_safe_copy_of_a_synthetic_video_stays_marked(tmp_path, capsys, moving_square_THWC):
    video = Video(moving_square_THWC[:3], 10.0)
    Result(video, {"created_utc": "2026-01-02T03:04:05+00:00"}).save(tmp_path / "w.mp4")
    off = ["--disable-guard", "face_blur"]
    assert run("video", tmp_path / "w.mp4", "--out", tmp_path / "safe.mp4", *off) == 0
    capsys.readouterr()
    assert ask(capsys, tmp_path / "safe.mp4")["synthetic"]


def test_the_watermark_is_enabled_by_its_name(marked, tmp_path, capsys):
    encode_video(tmp_path / "w.mp4", marked)
    on = ["--enable-guard", "watermark", "--disable-guard", "video_classifier"]
    assert run("video", tmp_path / "w.mp4", *on, "--disable-guard", "face_blur") == 0
    assert "passed watermark" in capsys.readouterr().out
