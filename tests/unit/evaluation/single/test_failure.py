"""Constructed failures are found, each by its own kind, and good clips pass."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.scoring import evaluate_cases
from nemo_cosmos.evaluation.single.failure import KINDS, has_failed
from nemo_cosmos.video import decode

NUM_FRAMES, HEIGHT, WIDTH = 12, 72, 96


def scene(seed: int = 0) -> np.ndarray:
    """A smooth, still background before which a small square moves."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 220, (6, 8, 3)).astype(np.float32)
    base = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    frames = np.repeat(base[None], NUM_FRAMES, axis=0)
    for t, frame in enumerate(frames):
        frame[30:42, 10 + 4 * t : 22 + 4 * t] = (240, 240, 20)
    return np.clip(frames + rng.normal(0, 1.5, frames.shape), 0, 255).astype(np.uint8)


def kinds(frames_THWC: np.ndarray) -> set[str]:
    return {name for name, (has_kind, _) in KINDS.items() if has_kind(frames_THWC)}


def frozen() -> np.ndarray:
    return np.repeat(scene()[:1], NUM_FRAMES, axis=0)


def to_grey() -> np.ndarray:
    fade = np.linspace(1, 0, NUM_FRAMES)[:, None, None, None]
    return (scene() * fade + 128 * (1 - fade)).astype(np.uint8)


def to_noise() -> np.ndarray:
    frames = scene()
    frames[8:] = np.random.default_rng(1).integers(0, 256, frames[8:].shape)
    return frames


def to_wild_blocks() -> np.ndarray:
    """Random tokens: blocks that have nothing to do with those of the frame before."""
    frames = scene()
    blocks = np.random.default_rng(1).integers(0, 256, (4, HEIGHT // 8, WIDTH // 8, 3))
    frames[8:] = blocks.repeat(8, axis=1).repeat(8, axis=2)
    return frames


def cut() -> np.ndarray:
    return np.concatenate([scene()[:6], scene(3)[6:]])


def from_below() -> np.ndarray:
    frames = scene()
    for t, height in enumerate((12, 24, 34), start=6):
        frames[t:, HEIGHT - height :, 30:70] = (20, 25, 30)
    return frames


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (frozen, "static"),
        (to_grey, "flat"),
        (to_noise, "noise"),
        (to_wild_blocks, "noise"),
        (cut, "cut"),
        (from_below, "from_below"),
    ],
)
def test_a_failure_is_found_by_its_kind(make, kind):
    assert kind in kinds(make()) and has_failed(make())


def test_good_clips_pass(moving_square_THWC):
    panning = np.stack([scene()[0, :, t : t + 60] for t in range(0, 24, 2)])
    for frames in (scene(), scene(5), moving_square_THWC, panning, scene()[:1], scene()[:2]):
        assert not kinds(frames)


def test_the_rate_is_a_mean_with_an_interval():
    made = [scene(), cut(), scene(1), frozen()]
    cases = [Case(str(n), frames) for n, frames in enumerate(made)]
    evaluation = evaluate_cases(cases, choose_metrics(["failure_rate", "failure_cut"]))
    assert evaluation.scores["failure_rate"].value == 0.5
    assert evaluation.scores["failure_cut"].value == 0.25
    assert evaluation.scores["failure_rate"].low is not None


def test_real_robot_episodes_pass(samples_dir: Path):
    videos = sorted((samples_dir / "robotics_bridge" / "videos" / "train").glob("*/rgb.mp4"))[:2]
    for video in videos:
        assert not kinds(decode(video, size=(96, 128)).frames_THWC), video
