"""``torchrun ... evaluate``: the ranks share the videos, and the result is that of one process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from nemo_cosmos.evaluation.files.folders import Comparison, compare_folders
from nemo_cosmos.testing.processes import ProcessPool
from nemo_cosmos.video import Video, encode_video

NUM_VIDEOS = 5


def evaluate(folder: str) -> tuple[str, int]:
    """What a rank prints, and its exit code."""
    from nemo_cosmos.cli.main import main

    printed, code = io.StringIO(), 0
    words = ["evaluate", f"{folder}/generated", f"{folder}/truth", "-m", "psnr,ssim", "--json"]
    with redirect_stdout(printed):
        try:
            main([*words, "--out", f"{folder}/out"])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return printed.getvalue(), code


def test_ranks_share_the_videos(two_processes: ProcessPool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(NUM_VIDEOS):
        frames_THWC = generator.integers(0, 255, (4, 32, 48, 3), dtype=np.uint8)
        for name, crf in (("truth", 15), ("generated", 35)):
            file = tmp_path / name / f"{number}.mp4"
            encode_video(file, Video(frames_THWC, fps=10), crf=crf)
    (tmp_path / "generated" / "3.mp4").write_bytes(b"noise")
    (first, code), (second, other) = two_processes.run(evaluate, str(tmp_path))
    assert (code, other, second) == (0, 0, ""), "the first rank reports for all"
    record = json.loads(first)
    asked = Comparison(tmp_path / "generated", tmp_path / "truth", ("psnr", "ssim"))
    alone, _ = compare_folders(asked)
    assert record["clips"] == {name: clip.scores for name, clip in alone.clips.items()}
    assert record["scores"] == {name: score.to_json() for name, score in alone.scores.items()}
    assert list(record["skipped"]) == ["3.mp4"] == list(alone.skipped)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == record
