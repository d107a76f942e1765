"""Camera motion: static, pan, tilt, zoom or shake, with its direction, from optical flow.

Dense flow (DIS) between neighbouring small pictures is fitted by one similarity (shift, scale,
rotation) for each pair, robustly, so that what moves in front of the camera does not count. A clip
is sampled in a few stretches of neighbouring frames. A camera that moves forward appears to zoom
in; a similarity cannot distinguish the two. Pairs in which the fit explains less than half of
the flow (something large moves in front, or the scene is deep) do not count, and a clip in which
most do not gets no label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import Numbers, OpenClip
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import fitted_size

#: Longer side of the small picture, and how far apart flow is sampled on it, in pixels.
LONGEST_PX, _GRID_PX = 192, 6
#: Stretches of a clip that are looked at, and neighbouring frames in each.
NUM_STRETCHES, STRETCH_FRAMES = 3, 12
#: From here on a speed counts: picture widths a second, and e-foldings of size a second.
MIN_PAN, MIN_ZOOM = 0.03, 0.03
#: From here on the shift changes so much from frame to frame that the camera shakes, in widths.
MIN_SHAKE = 0.006
#: Speed, a second, that a shake of one width may seem to have over a stretch.
_SHAKEN = 10.0
#: Below this share of every limit the camera stands still.
_STILL = 0.4
_NUM_ITERATIONS = 12
#: A fit is the camera's way when it explains this share of the flow, to a pixel and a part of its
#: length. On recordings of robots, right fits explained 0.6 and more, those of an arm 0.41 at most.
MIN_EXPLAINED, _NEAR_PX, _NEAR_SHARE = 0.5, 1.0, 0.05


@dataclass(frozen=True)
class CameraSettings(StageSettings):
    """Nothing to choose: the stage describes and rejects nothing."""

    optional = True

    def build(self, store: ClipStore) -> Stage:
        """The stage."""
        return CameraStage(store)


class CameraStage(ClipStage):
    """Adds the camera's speeds to the scores, and ``camera_motion`` to the record."""

    name = "camera"
    inputs = ("suffixes", "num_frames", "fps", "width", "height")
    outputs = ("scores", "extra")
    resources = Resources(cpus=1.0)
    version = 3

    def __init__(self, store: ClipStore) -> None:
        self._store = store

    def looks_at(self, clip: Clip) -> Numbers:
        """The frames of all stretches."""
        return np.concatenate(stretch_numbers(clip.num_frames))

    def process(self, clip: Clip) -> Result:
        """Describe one clip."""
        try:
            with self._store.open(clip.clip_id) as opened:
                motion = measure_camera(opened, clip)
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        scored = clip.with_scores(
            camera_pan=motion.pan,
            camera_tilt=motion.tilt,
            camera_zoom=motion.zoom,
            camera_shake=motion.shake,
            camera_certain=motion.certain,
        )
        extra = {**clip.extra, "camera_motion": list(motion.labels)}
        return replace(scored, extra=extra)


@dataclass(frozen=True)
class CameraMotion:
    """How the camera moves.

    Attributes:
        pan: speed to the right, in picture widths a second.
        tilt: speed upwards, in picture widths a second.
        zoom: e-foldings of the picture's size a second; positive is in.
        shake: change of the shift from frame to frame, its median length, in picture widths.
        certain: share of the pairs of frames that one motion explains.
    """

    pan: float
    tilt: float
    zoom: float
    shake: float
    certain: float = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        """What is seen, strongest first; ``("static",)`` when nothing moves, none when unsure."""
        if self.certain < MIN_EXPLAINED:
            return ()
        # What a shake alone would seem to do counts for nothing.
        shaken = _SHAKEN * self.shake
        least_pan, least_zoom = max(MIN_PAN, shaken), max(MIN_ZOOM, shaken)
        named = (
            (abs(self.pan) / least_pan, "pan_right" if self.pan > 0 else "pan_left"),
            (abs(self.tilt) / least_pan, "tilt_up" if self.tilt > 0 else "tilt_down"),
            (abs(self.zoom) / least_zoom, "zoom_in" if self.zoom > 0 else "zoom_out"),
            (self.shake / MIN_SHAKE, "shake"),
        )
        seen = sorted((item for item in named if item[0] >= 1), reverse=True)
        if seen:
            return tuple(name for _, name in seen)
        # Between standing still and moving clearly, nothing is said.
        return ("static",) if max(ratio for ratio, _ in named) < _STILL else ()


def measure_camera(opened: OpenClip, clip: Clip) -> CameraMotion:
    """Measure a finished clip.

    Raises:
        VideoError: it cannot be decoded.
    """
    size = fitted_size(clip.height, clip.width, (LONGEST_PX, LONGEST_PX))
    stretches = [opened.read(numbers, size) for numbers in stretch_numbers(clip.num_frames)]
    return camera_motion(stretches, clip.fps)


def stretch_numbers(num_frames: int) -> list[NDArray[np.int64]]:
    """Numbers of neighbouring frames, in stretches spread over the clip."""
    length = min(STRETCH_FRAMES, num_frames)
    count = max(1, min(NUM_STRETCHES, num_frames // length))
    firsts = np.linspace(0, num_frames - length, count).round().astype(int)
    return [np.arange(first, first + length) for first in np.unique(firsts)]


def camera_motion(stretches: list[NDArray[np.uint8]], fps: float) -> CameraMotion:
    """How the camera moves in stretches of neighbouring RGB frames, each ``(T, H, W, 3)``."""
    speeds, changes, counts = [], [], []
    for frames_THWC in stretches:
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
        fits = [fit_similarity(*greys[i : i + 2]) for i in range(len(greys) - 1)]
        sure = [explained >= MIN_EXPLAINED for _, explained in fits]
        steps = [step for step, _ in fits]
        speeds += [typical(np.stack(steps)[sure])] if any(sure) else []
        changes += [
            steps[i + 1][:2] - steps[i][:2] for i in range(len(fits) - 1) if sure[i] and sure[i + 1]
        ]
        counts += sure
    certain = float(np.mean(counts)) if counts else 1.0  # a single frame stands still
    if not speeds:
        return CameraMotion(0.0, 0.0, 0.0, 0.0, certain)
    shift_x, shift_y, zoom, _ = np.median(np.stack(speeds), axis=0)
    # The picture goes left when the camera goes right, and down when the camera goes up.
    pan, tilt = -shift_x * fps, shift_y * fps
    # The median, since a change of light or of scene may spoil a pair.
    shake = np.median(np.linalg.norm(changes, axis=1)) if changes else 0.0
    return CameraMotion(float(pan), float(tilt), float(zoom * fps), float(shake), certain)


def typical(steps_N4: Array) -> Array:
    """Mean step without those far off the median.

    The mean measures how far a stretch moves in all; a shake moves nowhere, and a single jump is
    ignored.
    """
    middle = np.median(steps_N4, axis=0)
    off = np.abs(steps_N4 - middle)
    usual = off <= 3 * 1.4826 * np.median(off, axis=0) + 1e-9
    return np.asarray(np.where(usual, steps_N4, 0).sum(axis=0) / usual.sum(axis=0))


def fit_similarity(
    before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8]
) -> tuple[Array, float]:
    """The similarity from one picture to the next, and the share of the flow that it explains.

    Fitted by iteratively reweighted least squares (Geman-McClure) to flow where there is texture.

    Returns:
        Shift right and down in widths, growth, and rotation in radians; and a number from 0 to 1.
    """
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow_HW2 = flow_of.calc(before_HW, after_HW, None)
    height, width = before_HW.shape
    texture_HW = np.abs(cv2.Sobel(before_HW, cv2.CV_32F, 1, 0))
    texture_HW += np.abs(cv2.Sobel(before_HW, cv2.CV_32F, 0, 1))
    texture_HW = cv2.blur(texture_HW, (_GRID_PX, _GRID_PX))
    half = _GRID_PX // 2
    y, x = np.mgrid[half:height:_GRID_PX, half:width:_GRID_PX]
    texture = texture_HW[y, x].ravel().astype(np.float64)
    if texture.max() < 1:  # nothing to see, nothing that moves
        return np.zeros(4), 1.0
    flow_N2 = flow_HW2[y, x].reshape(-1, 2).astype(np.float64)
    u, v = x.ravel() - (width - 1) / 2, y.ravel() - (height - 1) / 2
    ones, zeros = np.ones_like(u), np.zeros_like(u)
    matrix = np.concatenate(
        [np.stack([ones, zeros, u, -v], axis=1), np.stack([zeros, ones, v, u], axis=1)]
    )
    target = flow_N2.T.ravel()
    certain = texture / (texture + np.median(texture) + 1e-6)
    start = np.array([np.median(flow_N2[:, 0]), np.median(flow_N2[:, 1]), 0.0, 0.0])
    fit = _reweighted(matrix, target, np.concatenate([certain, certain]), start)
    step = np.array([fit[0] / width, fit[1] / width, np.log(max(1 + fit[2], 1e-3)), fit[3]])
    off_N2 = (matrix @ fit).reshape(2, -1).T - flow_N2
    near_N = _NEAR_PX + _NEAR_SHARE * np.linalg.norm(flow_N2, axis=1)
    explained = certain[np.linalg.norm(off_N2, axis=1) < near_N].sum() / certain.sum()
    return step, float(explained)


def _reweighted(matrix: Array, target: Array, certain: Array, start: Array) -> Array:
    """Solve least squares again and again, with less weight on what does not fit."""
    fit = start
    count = len(target) // 2
    middles = [(count - 1) // 2, count // 2]
    ridge = 1e-6 * np.eye(4)
    # What counts as fitting is narrowed step by step, so that a zoom is not taken for outliers.
    for leniency in np.geomspace(100, 1, _NUM_ITERATIONS):
        off = matrix @ fit - target
        distance2 = off[:count] ** 2 + off[count:] ** 2
        # numpy's median, without its checks, which cost more than the sorting of so few numbers.
        middle = np.partition(distance2, middles)[middles].mean()
        scale2 = leniency * max(float(middle), 0.05**2)
        fitting = 1 / (1 + distance2 / scale2) ** 2
        weight = certain * np.concatenate([fitting, fitting])
        weighted = matrix * weight[:, None]
        fit = np.linalg.solve(weighted.T @ matrix + ridge, weighted.T @ target)
    return fit
