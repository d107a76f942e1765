"""Precision and recall of the text filter on captions planted over real clips, as one JSON line.

Positives: subtitles and a watermark, drawn at a fixed place over every real clip at hand.
Negatives: the clips as they are, and signs that belong to the scene (drawn into a picture over
which a camera then pans).

    NEMO_COSMOS_SAMPLES=... python benchmarks/text_overlay.py
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_curation.clip import Clip
from data_curation.frames import OpenClip
from data_curation.stages.text_overlay import TextOverlaySettings, measure_text
from nemo_cosmos.assets import asset_path
from nemo_cosmos.video import Video, decode, encode_video, probe

WORDS = (
    "We should be there by noon.",
    "What did you see in the garden?",
    "Nobody told me about it.",
)
SECONDS, SIZE = 2.0, (360, 640)
POSITIVE = {"subtitle", "watermark", "subtitle over a pan"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--per-video", type=int, default=1, help="clips of each real video")
    arguments = parser.parse_args()
    print(json.dumps({"benchmark": "text_overlay", **measure(arguments.per_video)}))


def measure(per_video: int) -> dict[str, Any]:
    """Plant text in at most so many pieces of each real video."""
    settings = TextOverlaySettings()
    flagged: dict[str, list[bool]] = {}
    moving: dict[str, list[bool]] = {}
    spent_s, num_clips = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number, clip in enumerate(_real_clips(per_video)):
            is_moving = _moves(clip.frames_THWC)
            for kind, frames in _versions(clip.frames_THWC, number):
                path = Path(folder) / "clip.mp4"
                encode_video(path, Video(frames, fps=clip.fps), crf=23)
                facts = Clip(
                    source=path, name=kind, num_frames=len(frames), fps=clip.fps,
                    width=frames.shape[2], height=frames.shape[1],
                )  # fmt: skip
                started_s = time.perf_counter()
                with OpenClip(path.read_bytes()) as opened:
                    shares = measure_text(opened, facts, settings.num_looks)
                spent_s, num_clips = spent_s + time.perf_counter() - started_s, num_clips + 1
                is_found = shares.overlay > settings.max_overlay_share
                flagged.setdefault(kind, []).append(is_found)
                moving.setdefault(kind, []).append(is_moving or "pan" in kind)
    right = sum(sum(found) for kind, found in flagged.items() if kind in POSITIVE)
    wrong = sum(sum(found) for kind, found in flagged.items() if kind not in POSITIVE)
    in_motion = [
        hit
        for kind in POSITIVE
        for hit, moves in zip(flagged[kind], moving[kind], strict=True)
        if moves
    ]
    return {
        "clips": num_clips,
        "seconds_per_clip": round(spent_s / num_clips, 3),
        "flagged": {kind: f"{sum(found)}/{len(found)}" for kind, found in flagged.items()},
        "precision": round(right / max(1, right + wrong), 4),
        "recall": round(right / sum(len(flagged[kind]) for kind in POSITIVE), 4),
        "recall_where_the_scene_moves": round(float(np.mean(in_motion)), 4),
        "clips_that_move": int(sum(moving["plain"])),
    }


def _real_clips(most: int) -> Iterator[Video]:
    """At most so many pieces of every real video at hand."""
    names = sorted(Path(os.environ.get("NEMO_COSMOS_SAMPLES", "")).rglob("*.mp4"))
    names += [asset_path(name) for name in ("video_bikes", "video_carphone", "video_bigbuckbunny")]
    for path in names:
        info = probe(path)
        length = round(SECONDS * info.fps)
        starts = range(0, info.num_frames - length + 1, length)
        for start in starts[:: max(1, -(-len(starts) // most))]:
            numbers = np.arange(start, start + length)
            yield Video(decode(path, frame_indices=numbers, size=SIZE).frames_THWC, fps=info.fps)


def _versions(
    frames_THWC: NDArray[np.uint8], number: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    words = WORDS[number % len(WORDS)]
    yield "plain", frames_THWC
    yield "subtitle", _written(frames_THWC, words, (90, 330), 0.9)
    yield "watermark", _written(frames_THWC, "newsroom.tv", (460, 40), 0.8)
    picture = cv2.resize(frames_THWC[0], (SIZE[1] * 3 // 2, SIZE[0] * 3 // 2))
    sign = _written(picture[None], "SPRING STREET", (300, 280), 1.2)[0]
    yield "sign in a pan", _pan(sign, len(frames_THWC))
    yield "subtitle over a pan", _written(_pan(picture, len(frames_THWC)), words, (90, 330), 0.9)


def _written(
    frames_THWC: NDArray[np.uint8], words: str, place: tuple[int, int], size: float
) -> NDArray[np.uint8]:
    written = frames_THWC.copy()
    font = cv2.FONT_HERSHEY_DUPLEX
    for frame in written:
        cv2.putText(frame, words, place, font, size, (0, 0, 0), 5, cv2.LINE_AA)
        cv2.putText(frame, words, place, font, size, (255, 255, 255), 2, cv2.LINE_AA)
    return written


def _pan(picture_HWC: NDArray[np.uint8], num_frames: int) -> NDArray[np.uint8]:
    """A camera that goes from the upper left to the lower right of a picture."""
    height, width = SIZE
    room = np.array([picture_HWC.shape[0] - height, picture_HWC.shape[1] - width])
    corners = np.linspace((0, 0), room, num_frames).astype(int)
    return np.stack([picture_HWC[y : y + height, x : x + width] for y, x in corners.tolist()])


def _moves(frames_THWC: NDArray[np.uint8]) -> bool:
    """Whether most of the picture is another one half a second later."""
    pair = frames_THWC[0], frames_THWC[len(frames_THWC) // 4]
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pair)
    return bool((cv2.absdiff(first, second) > 12).mean() > 0.25)


if __name__ == "__main__":
    main()
