"""Videos with known transitions, made from real shots, for ``shot_detection.py``.

Each video strings shots of real clips together. Between two shots stands a hard cut, a fade through
black or white, a dissolve or a wipe; inside shots stand flashes, fast pans, shakes and changes of
light, which are no change of shot. All of it is drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data_curation.shots.transition import Transition
from nemo_cosmos.assets import asset_path
from nemo_cosmos.video import decode

SIZE = (360, 640)
FPS = 24.0
#: First and last frame (exclusive) of single shots, looked at by eye; paths below the samples.
SHOTS: dict[str, list[tuple[str, int, int]]] = {
    "tune": [
        *((f"autoregressive/{number}.mp4", 0, 60) for number in (0, 2, 4)),
        ("curation/test_video_30s.mp4", 415, 444),
        ("asset:video_bikes", 0, 30),
        ("driving_multiview/sample_av_mv_input_hdmap_front.mp4", 0, 70),
        ("robotics_bridge/videos/train/13109/rgb.mp4", 0, 60),
        ("robotics_bridge/videos/train/346/rgb.mp4", 0, 60),
        ("robotics_bridge/videos/train/9496/rgb.mp4", 0, 60),
    ],
    "report": [
        *((f"autoregressive/{number}.mp4", 0, 60) for number in (1, 3, 5)),
        ("curation/test_video_30s.mp4", 526, 571),
        ("asset:video_carphone", 0, 70),
        ("asset:video_bigbuckbunny", 0, 60),
        ("driving_multiview/sample_av_mv_input_rgb.mp4", 20, 90),
        ("driving_multiview/sample_av_mv_input_rgb.mp4", 140, 210),
        ("tokenizer/text2world_example.mp4", 20, 90),
        ("robotics_bridge/videos/val/27/rgb.mp4", 0, 60),
        ("robotics_bridge/videos/val/1527/rgb.mp4", 0, 60),
        ("robotics_bridge/videos/val/2390/rgb.mp4", 0, 60),
    ],
}
TRANSITIONS = ("cut", "cut", "cut", "fade", "dissolve", "wipe")
DISTRACTORS = ("none", "flash", "pan", "shake", "light")


@dataclass(frozen=True)
class Planted:
    """One transition that a video holds, or one thing in it that is none."""

    kind: str
    where: Transition


def load_shots(samples: Path, part: str) -> list[np.ndarray]:
    """The shots of one part, each ``(T, 360, 640, 3)``; slow ones shown twice as long."""
    shots = []
    for name, start, end in SHOTS[part]:
        path = asset_path(name.removeprefix("asset:")) if ":" in name else samples / name
        frames = decode(path, size=SIZE).frames_THWC[start:end]
        shots.append(np.repeat(frames, 2, axis=0) if len(frames) < 40 else frames)
    return shots


def make_video(
    shots: Sequence[np.ndarray], seed: int, num_shots: int = 7
) -> tuple[np.ndarray, list[Planted], list[Planted]]:
    """Frames, the transitions in them, and the distractors in them."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(shots))[:num_shots]
    frames, truth, noise = np.zeros((0, *SIZE, 3), np.uint8), [], []
    for place, which in enumerate(order):
        distractor = str(rng.choice(DISTRACTORS))
        shot, (start, end) = _DISTRACT[distractor](shots[which].copy(), rng)
        kind = str(rng.choice(TRANSITIONS)) if place else "cut"
        frames, where = _JOIN[kind](frames, shot, rng)
        if place:
            truth.append(Planted(kind, where))
        if distractor != "none":
            first = len(frames) - len(shot)
            noise.append(Planted(distractor, Transition(first + start, first + end)))
    return frames, truth, noise


def _cut(
    before: np.ndarray, after: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Transition]:
    return np.concatenate([before, after]), Transition(len(before), len(before))


def _fade(
    before: np.ndarray, after: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Transition]:
    length, blank = int(rng.integers(6, 16)), int(rng.integers(2, 10))
    colour = 255.0 * (rng.random() < 0.25)
    weight = np.linspace(1, 0, length + 2)[1:-1, None, None, None]
    out = before[-length:] * weight + colour * (1 - weight)
    into = after[:length] * weight[::-1] + colour * (1 - weight[::-1])
    black = np.full((blank, *SIZE, 3), colour)
    middle = np.concatenate([out, black, into]).astype(np.uint8)
    start = len(before) - length
    frames = np.concatenate([before[:-length], middle, after[length:]])
    return frames, Transition(start, start + len(middle))


def _dissolve(
    before: np.ndarray, after: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Transition]:
    length = int(rng.integers(6, 30))
    weight = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    mixed = (before[-length:] * (1 - weight) + after[:length] * weight).astype(np.uint8)
    start = len(before) - length
    frames = np.concatenate([before[:-length], mixed, after[length:]])
    return frames, Transition(start, start + length)


def _wipe(
    before: np.ndarray, after: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Transition]:
    length = int(rng.integers(8, 24))
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width]
    ramps = (
        x / width,
        1 - x / width,
        y / height,
        np.hypot(x / width - 0.5, y / height - 0.5) * 1.4,
    )
    ramp = ramps[int(rng.integers(len(ramps)))]
    threshold = np.linspace(0, 1, length + 2)[1:-1, None, None]
    chosen = (ramp[None] < threshold)[..., None]
    mixed = np.where(chosen, after[:length], before[-length:])
    start = len(before) - length
    frames = np.concatenate([before[:-length], mixed, after[length:]])
    return frames, Transition(start, start + length)


def _none(shot: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    return shot, (0, 0)


def _flash(shot: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """One to four frames far too bright."""
    length, start = int(rng.integers(1, 5)), len(shot) // 2
    strength = rng.uniform(90, 230)
    shot[start : start + length] = np.clip(shot[start : start + length] + strength, 0, 255)
    return shot, (start, start + length)


def _pan(shot: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """The camera whips over the picture and its reflection, with motion blur."""
    length, start = int(rng.integers(8, 16)), len(shot) // 2 - 6
    width = SIZE[1]
    way = width * rng.uniform(0.7, 1.4) * rng.choice((-1, 1))
    place = way * (1 - np.cos(np.linspace(0, np.pi, length + 1))) / 2
    for index in range(start, len(shot)):
        wide = np.concatenate([shot[index], shot[index][:, ::-1]], axis=1)
        step = min(index - start, length)
        speed = abs(place[step] - place[max(step - 1, 0)])
        if speed > 4:
            wide = cv2.blur(wide, (int(speed / 2) * 2 + 1, 1))
        offset = round(float(place[step])) % (2 * width)
        shot[index] = np.roll(wide, -offset, axis=1)[:, :width]
    return shot, (start, start + length)


def _shake(shot: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    height, width = SIZE
    for index, frame in enumerate(shot):
        dx, dy = rng.normal(0, 8, 2)
        matrix = np.array([[1.1, 0, dx - 0.05 * width], [0, 1.1, dy - 0.05 * height]])
        shot[index] = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return shot, (0, len(shot))


def _light(shot: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """The exposure goes to another value within some frames."""
    length, start = int(rng.integers(4, 14)), len(shot) // 2
    gain = np.ones(len(shot))
    target = rng.choice((0.55, 1.6))
    gain[start : start + length] = np.linspace(1, target, length)
    gain[start + length :] = target
    return np.clip(shot * gain[:, None, None, None], 0, 255).astype(np.uint8), (
        start,
        start + length,
    )


Join = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, Transition]]
Distract = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, tuple[int, int]]]
_JOIN: dict[str, Join] = {"cut": _cut, "fade": _fade, "dissolve": _dissolve, "wipe": _wipe}
_DISTRACT: dict[str, Distract] = {
    "none": _none,
    "flash": _flash,
    "pan": _pan,
    "shake": _shake,
    "light": _light,
}
