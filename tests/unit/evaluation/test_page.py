"""The page shows figures, curves, and the worst, median and best videos; slopes are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.evaluation import Case, PairMetric, choose_metrics, evaluate_cases, make_record
from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.drift import drift
from nemo_cosmos.evaluation.metric import MeasuredMetric
from nemo_cosmos.evaluation.page import Shown, write_page
from nemo_cosmos.evaluation.page.failures import by_reason
from nemo_cosmos.evaluation.page.plots import control_plots
from nemo_cosmos.evaluation.scoring import summarise
from nemo_cosmos.video import Video, encode_video

TOLD = [
    MeasuredMetric(name="psnr.other", description="told another's", higher_is_better=True),
    MeasuredMetric(name="psnr.x0", description="told nothing", higher_is_better=True),
    MeasuredMetric(name="psnr.x0.5", description="told half", higher_is_better=True),
    MeasuredMetric(name="action_sensitivity", description="what it gains", higher_is_better=True),
]
FALLING = PairMetric(
    name="falling",
    description="falls by 0.5 a frame",
    higher_is_better=True,
    per_frame=lambda generated, truth: 30.0 - 0.5 * np.arange(len(truth)),
)


def frames(value: int) -> np.ndarray:
    video = np.full((8, 32, 48, 3), 100, np.uint8)
    video[:, 8:20, 10:30] = value
    return video


def test_the_slope_is_per_hundred_frames():
    evaluation = evaluate_cases([Case(str(n), frames(n), frames(9)) for n in (1, 2)], [FALLING])
    assert drift(evaluation)["falling"].value == pytest.approx(-50.0)
    short = evaluate_cases([Case("a", frames(1)[:2], frames(9)[:2])], [FALLING])
    assert drift(short) == {}, "two frames are no curve"


def test_the_page_stands_alone_and_shows_the_extremes(tmp_path: Path):
    names = ["a", "b", "c", "d", "e"]
    cases = [Case(name, frames(150 + 10 * n), frames(150)) for n, name in enumerate(names)]
    metrics = choose_metrics(["psnr"])
    evaluation = evaluate_cases(cases, metrics)
    for name, clip in evaluation.clips.items():
        clip.scores |= dict.fromkeys(["psnr.other", "psnr.x0", "psnr.x0.5"], 10.0)
        clip.scores |= {"action_sensitivity": ord(name) / 100}
    evaluation = summarise(evaluation.clips, [*metrics, *TOLD])
    evaluation.skipped["bad<b>"] = "it is damaged"
    videos = {}
    for case in cases:
        videos[case.name] = {"truth": tmp_path / "t" / f"{case.name}.mp4"}
        encode_video(videos[case.name]["truth"], Video(case.truth_THWC, fps=10))
    videos["e"]["own"] = tmp_path / "gone.mp4"
    lines = [{"step": n, "loss": 9.0 - n, "lr": 0.1, "odd": float("nan")} for n in range(5)]
    shown = Shown(videos, lambda name: {"action": {"action": np.eye(8)}}, [*lines, {"loss": "cut"}])
    record = make_record(evaluation, {"kind": "world", "world": "runs/my_world"}, 3.0)
    page = write_page(evaluation, record, tmp_path / "out", shown).read_text()
    assert "runs/my_world" in page and "5 videos" in page and "--repeat" in page
    assert page.count("data:video/mp4") == 2, "worst and median, once for two metrics; e has gone"
    assert page.count("data-clip=") == 4
    assert "What the model was told" in page
    assert page.count("<svg") == 3 + 4, "what was told, psnr, the loss, and four controls"
    assert "bad&lt;b&gt;" in page and "it is damaged" in page
    assert page.index("action_sensitivity") < page.index("psnr"), "obedience comes first"
    assert 'src="http' not in page and "<link" not in page
    table = (tmp_path / "out" / "evaluation.md").read_text()
    assert "| action_sensitivity | 0.990 |" in table and "- 1 skipped: bad<b>" in table


def test_figures_alone_without_videos(tmp_path: Path):
    evaluation = evaluate_cases([Case("a", frames(1), frames(2))], choose_metrics(["psnr"]))
    record = make_record(evaluation, {"kind": "folders", "generated": "x"})
    page = write_page(evaluation, record, tmp_path).read_text()
    assert (
        "data:video" not in page and "<script" not in page and "What the model was told" not in page
    )


def test_a_reason_of_many_is_said_once():
    skipped = {f"{n}.mp4": f"'{n}.mp4' has {n} frames, the truth 9" for n in range(8)}
    many, one = by_reason({"x.mp4": "it is damaged", **skipped})
    assert len(many.names) == 8 and many.shown.endswith("4.mp4 and 3 more")
    assert one.names == ["x.mp4"] and one.text == "it is damaged"


def test_a_page_of_many_videos_and_metrics_stays_small(tmp_path: Path):
    metrics = [
        PairMetric(
            name=f"m{k}", description="", higher_is_better=True, compute=lambda a, b: 1.0,
            per_frame=lambda a, b: np.arange(8.0),
        )
        for k in range(12)
    ]  # fmt: skip
    generator = np.random.default_rng(0)
    clips = {
        str(n): CaseScores(
            {metric.name: float(generator.normal()) for metric in metrics},
            {metrics[0].name: generator.normal(size=8).tolist()},
        )
        for n in range(100)
    }
    evaluation = summarise(clips, metrics)
    file = tmp_path / "a.mp4"
    encode_video(file, Video(frames(200), fps=10))
    record = make_record(evaluation, {})
    shown = Shown({name: {"generated": file} for name in clips})
    page = write_page(evaluation, record, tmp_path, shown).read_text()
    assert page.count("data:video/mp4") == 24 and page.count("<figcaption>") == 36
    assert len(page) < 1_000_000


def test_a_camera_is_drawn_as_its_path_and_not_as_numbers():
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 0.4, 5)
    poses[-1, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    lens = np.tile(np.diag([50.0, 50, 1]), (5, 1, 1))
    camera = {"poses": poses, "intrinsics": lens, "size": np.array([48, 64])}
    (drawing,) = control_plots({"camera": camera})
    assert "from above" in drawing and "turns 90.0 degrees in all" in drawing
    still = {**camera, "poses": np.tile(np.eye(4), (5, 1, 1))}
    assert "turns 0.0 degrees in all" in control_plots({"camera": still})[0]
