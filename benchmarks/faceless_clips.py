"""Clips without a face, made by cutting and varying real ones, and generated ones.

    python benchmarks/faceless_clips.py OUT SOURCE ... [--clips 1000] [--frames 17] [--seed 0]

writes them as mp4 files to look at; ``benchmarks/faces.py faceless`` makes the same ones in memory.
No frame of a source may show a face. A clip is a cut of a source in space and time, as sharp as it
is or smoothed, moved, darkened, tinted, noisy or coarse as a small model's output is; one in eight
has no source but is drawn: noise that drifts, and shapes that move. Half of the clips are 64x96, a
nano model's size; the others are up to 640 px wide.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from nemo_cosmos.video import Video, decode, encode_video, probe, resize_frames

#: Widest frame of a source that is kept.
MAX_WIDTH_PX = 640
#: Places in a source from which cuts are taken.
NUM_STARTS = 8
#: One clip of this many is drawn without a source.
DRAWN_EVERY = 8
NANO_SIZE = (64, 96)
SIZES = ((128, 192), (256, 448), (360, 640))


def faceless_clips(
    sources: Sequence[str | Path], num_clips: int, num_frames: int, seed: int = 0
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and frames, uint8 ``(T,H,W,3)``; the same ones for the same arguments.

    Args:
        sources: videos in which no frame shows a face; without any, every clip is drawn.
        num_clips: how many.
        num_frames: frames of each; fewer where the source is shorter.
        seed: another seed gives other cuts and variations.
    """
    windows = [window for source in sources for window in _windows(source, num_frames)]
    order = np.random.default_rng(seed).permutation(len(windows))
    for number in range(num_clips):
        random = np.random.default_rng((seed, number))
        if not windows or number % DRAWN_EVERY == 0:
            draw = (_noise, _shapes)[number // DRAWN_EVERY % 2]
            yield f"{number:06d} {draw.__name__[1:]}", _varied(draw(random, num_frames), random)
            continue
        name, frames_THWC = windows[order[number % len(windows)]]
        yield f"{number:06d} {name}", _varied(_cut(frames_THWC, random), random)


def _windows(source: str | Path, num_frames: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield stretches of consecutive frames from all over a source."""
    available = probe(source).num_frames
    last = max(0, available - num_frames)
    starts = np.unique(np.linspace(0, last, NUM_STARTS).astype(int))
    numbers = sorted(
        {n for start in starts for n in range(start, min(start + num_frames, available))}
    )
    frames_THWC = decode(source, frame_indices=numbers).frames_THWC
    scale = min(1.0, MAX_WIDTH_PX / frames_THWC.shape[2])
    size = tuple(round(side * scale) for side in frames_THWC.shape[1:3])
    small_THWC = resize_frames(frames_THWC, (size[0], size[1]))
    name = "/".join(Path(source).parts[-3:])
    for start in starts:
        first = numbers.index(start)
        yield f"{name} from frame {start}", small_THWC[first : first + num_frames]


def _cut(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cut a rectangle of at least four tenths of each side; mirror every other clip."""
    height, width = frames_THWC.shape[1:3]
    tall, wide = (round(side * random.uniform(0.4, 1.0)) for side in (height, width))
    top, left = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
    cut_THWC = frames_THWC[:, top : top + tall, left : left + wide]
    return cut_THWC[:, :, ::-1] if random.random() < 0.5 else cut_THWC


def _varied(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Resize, and change as cameras and small models do."""
    size = NANO_SIZE if random.random() < 0.5 else SIZES[random.integers(len(SIZES))]
    varied_THWC = resize_frames(np.ascontiguousarray(frames_THWC), size)
    changes = (_smooth, _smear, _coarse, _light, _grain)
    for change in random.choice(len(changes), size=random.integers(0, 4), replace=False):
        varied_THWC = changes[change](varied_THWC, random)
    return varied_THWC


def _each(frames_THWC: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([change(frame_HWC) for frame_HWC in frames_THWC])


def _smooth(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Out of focus, by up to 4 px at a width of 96."""
    sigma_px = random.uniform(0.5, 4.0) * frames_THWC.shape[2] / 96
    return _each(frames_THWC, lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma_px))


def _smear(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Motion blur in one direction, by up to a tenth of the width."""
    length = max(3, round(frames_THWC.shape[2] * random.uniform(0.03, 0.1)) | 1)
    kernel = np.zeros((length, length), np.float32)
    angle = random.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * (length // 2)
    centre = np.array([length // 2, length // 2])
    ends = [tuple(int(v) for v in np.round(centre + sign * reach)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return _each(frames_THWC, lambda frame: cv2.filter2D(frame, -1, kernel / kernel.sum()))


def _coarse(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A grid of few cells, as of a tokenizer that compresses too much."""
    cells = (int(random.integers(8, 32)), int(random.integers(12, 48)))
    way = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[random.integers(3)]
    size = (frames_THWC.shape[2], frames_THWC.shape[1])
    small_THWC = resize_frames(frames_THWC, cells)
    return _each(small_THWC, lambda frame: cv2.resize(frame, size, interpolation=way))


def _light(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Darker or brighter, and tinted."""
    gain_C = random.uniform(0.6, 1.2, size=3)
    gamma = random.uniform(0.5, 1.8)
    return np.clip(255 * (frames_THWC / 255.0) ** gamma * gain_C, 0, 255).astype(np.uint8)


def _grain(frames_THWC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A sensor's noise, other in every frame."""
    noise_THWC = random.normal(scale=random.uniform(4, 24), size=frames_THWC.shape)
    return np.clip(frames_THWC + noise_THWC, 0, 255).astype(np.uint8)


def _noise(random: np.random.Generator, num_frames: int) -> np.ndarray:
    """Coloured noise that drifts, stretched to the full range."""
    sigma_px = random.uniform(1.0, 12.0)
    frames_THWC = random.normal(size=(num_frames, 72, 112, 3)).astype(np.float32).cumsum(axis=0)
    frames_THWC = _each(frames_THWC, lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma_px))
    frames_THWC -= frames_THWC.min()
    return np.asarray(255 * frames_THWC / frames_THWC.max()).astype(np.uint8)


def _shapes(random: np.random.Generator, num_frames: int) -> np.ndarray:
    """Boxes, discs and bars on a plain ground, each with a motion of its own."""
    height, width = 180, 280
    num_shapes = int(random.integers(3, 9))
    place_S2 = random.uniform((0, 0), (width, height), size=(num_shapes, 2))
    speed_S2 = random.normal(scale=4.0, size=(num_shapes, 2))
    colours = random.integers(0, 256, size=(num_shapes + 1, 3)).tolist()
    kinds, sides = random.integers(0, 3, num_shapes), random.integers(10, 90, (num_shapes, 2))
    frames_THWC = np.zeros((num_frames, height, width, 3), np.uint8)
    for frame, frame_HWC in enumerate(frames_THWC):
        frame_HWC[:] = colours[-1]
        for shape in range(num_shapes):
            x, y = (int(v) for v in place_S2[shape] + frame * speed_S2[shape])
            wide, tall = (int(v) for v in sides[shape])
            if kinds[shape] == 0:
                cv2.rectangle(frame_HWC, (x, y), (x + wide, y + tall), colours[shape], -1)
            elif kinds[shape] == 1:
                cv2.circle(frame_HWC, (x, y), wide // 2, colours[shape], -1)
            else:
                cv2.line(frame_HWC, (x, y), (x + wide, y - tall), colours[shape], 8)
    return frames_THWC


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    clips = faceless_clips(arguments.sources, arguments.clips, arguments.frames, arguments.seed)
    for name, frames_THWC in clips:
        file = arguments.out / (name.replace("/", "_").replace(" ", "_") + ".mp4")
        encode_video(file, Video(frames_THWC, 10.0))


if __name__ == "__main__":
    main()
