"""How exactly grippers and blocks are followed: against the simulator's own state.

Each scene is filmed twice, with its own actions and with those of another episode. The second video
stands for a generated one. The error that the metrics find in it is compared with the true one: the
distance of the two recorded positions in the picture. ``--blur`` softens the second video as a
small model does, and adds noise.

    python benchmarks/tracking.py --episodes 8 --blur 1.3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from nemo_cosmos.controls import CAMERA
from nemo_cosmos.controls.things import THINGS
from nemo_cosmos.evaluation.metric import Case, Frames
from nemo_cosmos.evaluation.statistics import mean_score
from nemo_cosmos.evaluation.tracking.errors import track_gripper, track_objects
from nemo_cosmos.evaluation.tracking.locating import project
from post_training.robotics.episodes import Episode
from post_training.robotics.simulation import SimulationSettings, Studio

NOISE_LEVELS = 4.0


def softened(frames_THWC: Frames, blur_px: float) -> Frames:
    """Frames as a small model makes them; as they are for no blur."""
    if not blur_px:
        return frames_THWC
    noise = np.random.default_rng(0).normal(0, NOISE_LEVELS, frames_THWC.shape)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), blur_px) for frame in frames_THWC])
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def away_px(truth: Episode, made: Episode, place: Callable[[Episode], np.ndarray]) -> np.ndarray:
    """Distance of two recorded positions in the picture at each frame."""
    size = truth.video.frames_THWC.shape[1:3]
    camera = truth.further[CAMERA.suffix]
    points = [project(place(one), 0.1, camera, size).points_T2 for one in (truth, made)]
    return np.linalg.norm(points[0] - points[1], axis=1)


def block(number: int) -> Callable[[Episode], np.ndarray]:
    """Where a block is."""
    return lambda episode: episode.further[THINGS.suffix]["position_m"][:, number]


def row(wrong_px: Sequence[float]) -> dict[str, float | int | None]:
    """A mean with its interval."""
    score = mean_score(wrong_px)
    return {"value": score.value, "low": score.low, "high": score.high, "num": score.num}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--blur", type=float, default=0.0, help="pixels")
    given = parser.parse_args()
    studio = Studio(SimulationSettings(num_frames=given.frames, seed=2))
    episodes = [studio.record(index) for index in range(given.episodes)]
    gripper, blocks, moved = [], [], []
    for index, truth in enumerate(episodes):
        other = episodes[(index + 3) % len(episodes)]
        made = studio.replay(index, other.actions)
        recorded = {
            "state": {"state": truth.states},
            "camera": truth.further[CAMERA.suffix],
            "things": truth.further[THINGS.suffix],
        }
        case = Case(
            truth.key,
            softened(made.video.frames_THWC, given.blur),
            truth.video.frames_THWC,
            recorded=recorded,
        )
        true_T = away_px(truth, made, lambda episode: episode.states[:, :3])
        moved.append(float(true_T.mean()))
        gripper.append(float(np.abs(track_gripper(case)[0].error_px_T - true_T).mean()))
        wrong = [
            np.abs(found.error_px_T - away_px(truth, made, block(number))).mean()
            for number, found in enumerate(track_objects(case))
        ]
        blocks.append(float(np.mean(wrong)))
    studio.close()
    found = {"gripper_px": row(gripper), "blocks_px": row(blocks), "true_distance_px": row(moved)}
    print(json.dumps({"blur_px": given.blur, **found}))


if __name__ == "__main__":
    main()
