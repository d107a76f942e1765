"""The whole road, a few steps of everything: real parts from simulation to report."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from nemo_cosmos.evaluation import psnr
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.video import decode, frames_to_tensor, tensor_to_frames

pytest.importorskip("mujoco")
pytestmark = pytest.mark.slow


def run_quickstart(folder):
    command = [sys.executable, "-m", "nemo_cosmos", "quickstart", "--tiny", "--out", str(folder)]
    environment = {**os.environ, "NEMO_COSMOS_AUDIT_LOG": str(folder.parent / "audit.jsonl")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A finished tiny quickstart, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("a road") / "quick start"
    result = run_quickstart(folder)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def test_report_shows_videos_curves_and_metrics(workspace):
    page = (workspace / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 8
    assert page.count("<svg") == 3
    assert "with the episode&#39;s own actions" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_predictions_begin_with_the_frame_that_was_given(workspace):
    """The first frame is the given one, as far as this tokenizer can show it, and others follow."""
    tokenizer = VideoTokenizer.from_folder(workspace / "tokenizer" / "export")
    for truth_file in (workspace / "videos" / "truth").glob("*.mp4"):
        truth = decode(truth_file).frames_THWC
        start = decode(workspace / "videos" / "starts" / f"{truth_file.stem}.png").frames_THWC
        latents = tokenizer.encode(frames_to_tensor(start)[None])
        restored = tensor_to_frames(tokenizer.decode(latents)[0])
        predicted = decode(workspace / "videos" / "actions" / truth_file.name).frames_THWC
        assert predicted.shape == truth.shape
        assert psnr(predicted[:1], restored) > 30  # what encoding as mp4 leaves
        assert psnr(predicted[-1:], restored) < psnr(predicted[:1], restored)


def test_direction_actions_point_where_their_names_say(workspace):
    """In the gripper's frame, which looks down, up is -z and left is -x."""
    folder = workspace / "videos" / "direction_actions"
    actions = {path.stem: np.load(path)[0] for path in folder.glob("*.npy")}
    assert actions["left"][0] < 0 < actions["right"][0]
    assert actions["up"][2] < 0 < actions["down"][2]


def test_every_generated_video_has_provenance_with_guard_verdicts(workspace):
    for kind in ("prompt", "frame", "actions", "other_actions", "directions"):
        videos = list((workspace / "videos" / kind).glob("*.mp4"))
        assert videos
        for video in videos:
            record = json.loads(video.with_suffix(".json").read_text())
            assert {verdict["guard"] for verdict in record["guards"]} >= {"keywords", "face_blur"}


def test_second_run_reuses_everything(workspace):
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*.safetensors")}
    result = run_quickstart(workspace)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stderr.count("finished earlier") == 8
    assert {path: path.stat().st_mtime_ns for path in before} == before
