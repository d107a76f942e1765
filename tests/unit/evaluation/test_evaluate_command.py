"""``nemo-cosmos evaluate`` on folders of real mp4 files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nemo_cosmos.cli.evaluate import command
from nemo_cosmos.errors import MissingFileError, VideoError, WrongSizeError
from nemo_cosmos.video import Video, encode_video


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(command)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, Exception):
            raise result.exception
        return result

    return run


@pytest.fixture
def folders(tmp_path: Path, moving_square_THWC) -> tuple[Path, Path]:
    truth, generated = tmp_path / "truth", tmp_path / "generated"
    for name in ("a.mp4", "b.mp4"):
        encode_video(truth / name, Video(moving_square_THWC, fps=10))
        encode_video(generated / name, Video(moving_square_THWC, fps=10), crf=35)
    encode_video(truth / "unused.mp4", Video(moving_square_THWC, fps=10))
    return generated, truth


def test_json_files_and_plot(run, folders, tmp_path):
    out = tmp_path / "out"
    result = json.loads(run(*folders, "--json", "--skip-frames", 1, "--out", out).output)
    assert result["num_clips"] == 2
    assert set(result["clips"]) == {"a.mp4", "b.mp4"}
    assert result["mean"]["psnr"] > result["mean"]["psnr_repeat_first"]
    assert result["mean"]["motion_following"] > 0.9
    assert json.loads((out / "metrics.json").read_text()) == result
    picture = cv2.imread(str(out / "metrics.png"))
    assert picture is not None and np.ptp(picture) > 0


def test_table(run, folders):
    output = run(*folders, "-m", "psnr", "-m", "ssim").output
    assert "a.mp4" in output and "mean" in output and "psnr" in output


def test_lengths_and_sizes_must_agree_unless_told(run, folders, moving_square_THWC):
    generated, truth = folders
    small = np.ascontiguousarray(moving_square_THWC[:20, ::2, ::2])
    encode_video(generated / "a.mp4", Video(small, fps=10))
    with pytest.raises(VideoError, match="--trim"):
        run(generated / "a.mp4", truth / "a.mp4")
    with pytest.raises(WrongSizeError, match="--resize"):
        run(generated / "a.mp4", truth, "--trim")
    run(generated / "a.mp4", truth, "--trim", "--resize")
    with pytest.raises(VideoError, match="leaves none"):
        run(generated / "a.mp4", truth, "--trim", "--skip-frames", 20)


def test_missing_folders_and_counterparts(run, folders, tmp_path):
    generated, truth = folders
    with pytest.raises(MissingFileError, match="no file or folder"):
        run(generated, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"no \.mp4"):
        run(tmp_path / "empty", truth)
    (truth / "b.mp4").unlink()
    with pytest.raises(MissingFileError, match=r"b\.mp4"):
        run(generated, truth)
