"""Metrics against analytic cases and scikit-image, and the registry."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, NumericsError, VideoError, WrongSizeError
from nemo_cosmos.evaluation import (
    Case,
    PairMetric,
    SetMetric,
    choose_metrics,
    evaluate_cases,
    evaluate_pair,
    psnr,
    psnr_per_frame,
    registry,
    repeat_first_frame_psnr,
    ssim,
)


def noise(seed: int, shape=(3, 40, 50, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr_of_a_constant_difference():
    dark = np.full((2, 8, 8, 3), 10, np.uint8)
    # A difference of 5 gives 20 log10(255 / 5), also where the generated value is the smaller one.
    assert psnr(dark, dark + 5) == pytest.approx(20 * np.log10(51), abs=1e-5)
    assert psnr(dark + 5, dark) == pytest.approx(20 * np.log10(51), abs=1e-5)


def test_psnr_is_taken_over_the_whole_video_and_per_frame():
    truth = np.zeros((2, 8, 8, 3), np.uint8)
    generated = truth.copy()
    generated[1] = 10
    assert psnr(generated, truth) == pytest.approx(20 * np.log10(255 / np.sqrt(50)), abs=1e-4)
    first, second = psnr_per_frame(generated, truth)
    assert first > 150
    assert second == pytest.approx(20 * np.log10(25.5), abs=1e-4)


def test_the_baseline_repeats_the_true_first_frame():
    truth = np.zeros((2, 8, 8, 3), np.uint8)
    truth[1] = 20
    expected = psnr(np.zeros_like(truth), truth)
    assert repeat_first_frame_psnr(noise(0, truth.shape), truth) == expected


@pytest.mark.parametrize("shape", [(2, 40, 50, 3), (1, 7, 7, 3), (1, 9, 31, 3)])
def test_ssim_equals_scikit_image(shape):
    metrics = pytest.importorskip("skimage.metrics")
    truth = noise(1, shape)
    generated = (0.7 * truth + 0.3 * noise(2, shape)).astype(np.uint8)
    expected = [
        metrics.structural_similarity(a, b, data_range=255, channel_axis=-1)
        for a, b in zip(generated, truth, strict=True)
    ]
    assert ssim(generated, truth) == pytest.approx(np.mean(expected), abs=1e-9)


def test_ssim_of_the_same_video_is_one():
    assert ssim(noise(3), noise(3)) == pytest.approx(1.0)


def test_ssim_needs_a_window():
    with pytest.raises(WrongSizeError, match="6x50"):
        ssim(noise(1, (1, 6, 50, 3)), noise(2, (1, 6, 50, 3)))


def test_all_metrics_of_a_pair(moving_square_THWC):
    scores = evaluate_pair(moving_square_THWC, moving_square_THWC)
    assert list(scores) == [metric.name for metric in choose_metrics()]
    assert scores["ssim"] == pytest.approx(1)
    assert scores["motion_following"] == pytest.approx(1)
    assert scores["psnr"] > scores["psnr_repeat_first"]


@pytest.mark.parametrize(
    ("generated", "error", "text"),
    [
        (noise(0, (2, 40, 50, 3)), VideoError, "has 2 frames"),
        (noise(0, (3, 40, 51, 3)), WrongSizeError, r"\(40, 51\)"),
        (np.zeros((3, 40, 50, 3), np.float32), VideoError, "float32"),
        (np.zeros((3, 40, 50), np.uint8), VideoError, "shape"),
        (np.zeros((0, 40, 50, 3), np.uint8), VideoError, "shape"),
    ],
)
def test_what_cannot_be_compared_is_an_error(generated, error, text):
    with pytest.raises(error, match=text):
        evaluate_pair(generated, noise(1))


def test_an_unknown_metric_is_an_error_with_the_nearest_names():
    with pytest.raises(ConfigError, match="'ssim'"):
        choose_metrics(["sssim"])


MINE = PairMetric(
    name="mine",
    description="a plugged-in metric",
    higher_is_better=True,
    compute=lambda generated, truth: 0.5,
)


def test_a_package_adds_a_metric(monkeypatch):
    point = EntryPoint("mine", "unused:unused", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: MINE)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert evaluate_pair(noise(0), noise(1), choose_metrics(["mine"])) == {"mine": 0.5}


def test_a_plug_in_that_is_no_metric_is_an_error(monkeypatch):
    point = EntryPoint("mine", "unused:unused", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: print)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=r"'mine'.*not a metric"):
        choose_metrics()


def test_a_plug_in_that_cannot_be_loaded_is_an_error_that_names_it(monkeypatch):
    point = EntryPoint("mine", "no_such_module:MINE", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(
        ConfigError, match=r"'mine' \(no_such_module:MINE\) cannot be loaded: Module"
    ):
        choose_metrics()


def test_a_metric_is_known_by_its_own_name_whatever_its_entry_is_called(monkeypatch):
    points = [EntryPoint(name, "unused:unused", registry.ENTRY_POINT_GROUP) for name in ("a", "b")]
    loaded = {"a": MINE, "b": replace(MINE, name="psnr")}
    monkeypatch.setattr(EntryPoint, "load", lambda self: loaded[self.name])
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    known = registry.metrics()
    assert known["mine"] is MINE and "a" not in known and "b" not in known
    assert known["psnr"].description != MINE.description


def boom(generated: np.ndarray, truth: np.ndarray) -> float:
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (boom, "'mine' failed: ValueError: boom"),
        (lambda generated, truth: None, "'mine' failed: TypeError"),
        (lambda generated, truth: "abc", "'mine' failed: ValueError"),
        (lambda generated, truth: float("nan"), "'mine' of .* is nan"),
    ],
)
def test_a_metric_that_fails_is_named(compute, said):
    with pytest.raises(NumericsError, match=said):
        evaluate_pair(noise(0), noise(1), [replace(MINE, compute=compute)])


@pytest.mark.parametrize(
    ("compare", "said"),
    [(boom, "'mine' failed: ValueError: boom"), (lambda a, b: np.nan, "is nan")],
)
def test_a_number_of_a_whole_set_that_fails_is_named(compare, said):
    metric = SetMetric(
        name="mine",
        description="a plugged-in metric",
        higher_is_better=False,
        extract=lambda frames_THWC: frames_THWC.reshape(len(frames_THWC), -1)[:, :3],
        compare=compare,
        min_rows=1,
    )
    cases = [Case(str(n), noise(n), noise(n + 1)) for n in range(2)]
    with pytest.raises(NumericsError, match=said):
        evaluate_cases(cases, [metric])


@pytest.mark.parametrize("name", registry.BUILTIN_METRICS)
def test_built_in_metrics_carry_the_name_of_their_entry(name, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_JUDGE_URL", "http://localhost:8000/v1")
    monkeypatch.setenv("NEMO_COSMOS_JUDGE_MODEL", "a-model")
    (metric,) = choose_metrics([name])
    assert metric.name == name and metric.description
    # What is computed unless asked for needs no weights, no server and no large set.
    assert not (metric.is_default and (metric.features is not None or metric.kind != "pair"))


def test_a_pair_metric_without_a_function_is_an_error():
    with pytest.raises(ConfigError, match="'empty' has neither"):
        PairMetric(name="empty", description="", higher_is_better=True)
