"""What the geometry metrics say of real cameras on a car: right, out of step, and exchanged.

    NEMO_COSMOS_SAMPLES=... python benchmarks/driving_views.py [--clips 4] [--frames 12]

Reads ``driving_multiview`` of the samples: the front, front left and front right camera of one
drive, drawn as HD maps through f-theta lenses, and the calibration of such a car. Clips are spread
evenly over the drive. Each is scored as it was recorded, with the side cameras half a second late,
and with the calibrations of the side cameras exchanged. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from nemo_cosmos.controls import Values, fit_camera
from nemo_cosmos.controls.camera import ftheta_camera
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.metric import Case, Frames, View
from nemo_cosmos.video import decode

CAMERAS = {"front": "front", "front_left": "cross_left", "front_right": "cross_right"}
"""The camera of each video file -> its name in the calibration."""
EXCHANGED = {"front": "front", "front_left": "cross_right", "front_right": "cross_left"}
METRICS = ("sampson_sift", "cross_view_sampson_sift", "cross_view_given_camera_sift")
AGREEMENT = "cross_view_agreement_sift"
SIZE = (540, 960)
LATE_FRAMES = 15
STRIDE = 12


@cache
def view(folder: Path, camera: str, first: int, num_frames: int) -> Frames:
    """Frames of one camera, uint8 ``(T, H, W, 3)``.

    Args:
        folder: the samples' ``driving_multiview``.
        camera: name of the video file's camera.
        first: number of the first frame.
        num_frames: T, of which each is :data:`STRIDE` after the one before.
    """
    numbers = range(first, first + num_frames * STRIDE, STRIDE)
    file = folder / f"sample_av_mv_input_hdmap_{camera}.mp4"
    return decode(file, frame_indices=numbers, size=SIZE).frames_THWC


def calibrated(folder: Path, camera: str, num_frames: int) -> Values:
    """The camera signal of a calibrated camera, whose world is the car.

    Args:
        folder: the samples' ``driving_multiview``.
        camera: its name in the calibration.
        num_frames: frames of the clip.
    """
    known = json.loads((folder / "av22_calibration.json").read_text(encoding="utf-8"))
    lens = known[f"intrinsics_{camera}"]
    pose_44 = np.array(known.get(f"pose_{camera}", np.eye(4)))
    size = (lens["height"], lens["width"])
    poses_T44 = np.tile(pose_44, (num_frames, 1, 1))
    return fit_camera(ftheta_camera(poses_T44, lens["center"], size, lens["bw_poly"]), SIZE)


def clip(folder: Path, first: int, num_frames: int, late: int, names: dict[str, str]) -> Case:
    """A clip of three cameras with its truth.

    Args:
        folder: the samples' ``driving_multiview``.
        first: number of the first frame.
        num_frames: frames of the clip.
        late: frames that the side cameras are behind.
        names: the calibration that each camera is said to have.
    """
    views = {}
    for camera, name in names.items():
        true_THWC = view(folder, camera, first, num_frames)
        shown_THWC = true_THWC
        if late and camera != "front":
            shown_THWC = view(folder, camera, first + late, num_frames)
        recorded = {"camera": calibrated(folder, name, num_frames)}
        views[camera] = View(shown_THWC, true_THWC, recorded)
    main = views.pop("front")
    return Case(
        f"frame {first}", main.generated_THWC, main.truth_THWC, recorded=main.recorded, views=views
    )


def main() -> None:
    """Score the three variants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=12)
    options = parser.parse_args()
    folder = Path(os.environ["NEMO_COSMOS_SAMPLES"]) / "driving_multiview"
    starts = [round(number * 480 / max(1, options.clips - 1)) for number in range(options.clips)]
    result: dict[str, object] = {"clips": options.clips, "frames": options.frames}
    started_s = time.process_time()
    for name, late, cameras in (
        ("as recorded", 0, CAMERAS),
        ("side cameras late", LATE_FRAMES, CAMERAS),
        ("calibrations exchanged", 0, EXCHANGED),
    ):
        cases = [clip(folder, first, options.frames, late, cameras) for first in starts]
        # With a wrong calibration the true views agree as little as any others.
        metrics = METRICS if cameras is EXCHANGED else (*METRICS, AGREEMENT)
        scores = evaluate_cases(cases, choose_metrics(metrics)).scores
        result[name] = {metric: str(score) for metric, score in scores.items()}
    result["cpu_s"] = round(time.process_time() - started_s, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
