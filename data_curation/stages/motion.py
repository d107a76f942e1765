"""Motion filter: clips in which hardly anything moves are rejected.

The score is read off the codec's motion vectors, as in cosmos-curate: the first half of the clip at
two frames per second, the length of each block's vector over (height + width), averaged over all
pixels (``global_mean``) and as the least value of a grid of 256-pixel patches
(``per_patch_min_256``). A clip that cannot be decoded is a decode failure and never "motion".
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import OpenClip
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import VideoError
from nemo_cosmos.options import option

SAMPLE_FPS = 2.0
DURATION_SHARE = 0.5
MIN_SAMPLES = 10
PATCH_PX = 256
#: Block sizes (width, height) in the order in which later ones overwrite earlier ones.
_BLOCKS = ((8, 8), (16, 16), (16, 8), (8, 16))


@dataclass(frozen=True)
class MotionScores:
    """How much moves, in lengths of (height + width) per frame."""

    global_mean: float
    per_patch_min_256: float


@dataclass(frozen=True)
class MotionSettings(StageSettings):
    """Least scores that pass; cosmos-curate's values. Zero lets everything pass."""

    min_global_mean: float = option(
        0.00098,
        "Least mean motion, in (height + width) per frame; 0: any.",
        flag="--min-motion",
        least=0,
        most=1,
    )
    min_per_patch: float = option(
        0.000001,
        "Least motion of the stillest 256-pixel patch; 0: any.",
        flag="--min-patch-motion",
        least=0,
        most=1,
    )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return MotionStage(self, store)


class MotionStage(ClipStage):
    """Scores the finished clip and rejects a still one."""

    name = "motion"
    inputs = ("suffixes",)
    outputs = ("scores",)
    resources = Resources(cpus=1.0)

    def __init__(self, settings: MotionSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def process(self, clip: Clip) -> Result:
        """Score one clip."""
        try:
            with self._store.open(clip.clip_id) as opened:
                scores = measure_motion(opened)
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        least = self.settings
        if scores.global_mean < least.min_global_mean:
            detail = (
                f"mean motion {scores.global_mean:.6f}, at least {least.min_global_mean} wanted"
            )
            return Rejection.of(clip, self.name, "motion", detail)
        if scores.per_patch_min_256 < least.min_per_patch:
            detail = (
                f"the stillest patch moves {scores.per_patch_min_256:.7f}, "
                f"at least {least.min_per_patch} wanted"
            )
            return Rejection.of(clip, self.name, "motion", detail)
        return clip.with_scores(
            motion_global_mean=scores.global_mean,
            motion_per_patch_min_256=scores.per_patch_min_256,
        )


def measure_motion(opened: OpenClip) -> MotionScores:
    """Score an encoded clip by its motion vectors; by optical flow when its codec has none.

    Raises:
        VideoError: it cannot be decoded.
    """
    total_HW, num_samples = np.zeros((1, 1), dtype=np.float32), 0
    num_wanted = max(
        MIN_SAMPLES, round(SAMPLE_FPS * (int(opened.declared_s) or 30) * DURATION_SHARE)
    )
    step = max(1, round((opened.declared_fps or 30) / SAMPLE_FPS))
    for frame in opened.decoded(range(0, opened.index.info.num_frames, step)):
        vectors = frame.side_data.get("MOTION_VECTORS")
        if vectors is None:  # a keyframe: it is not predicted from another frame
            continue
        motion_HW = paint_vectors(vectors.to_ndarray(), frame.height, frame.width)
        total_HW = motion_HW if num_samples == 0 else total_HW + motion_HW
        num_samples += 1
        if num_samples >= num_wanted:
            break
    if num_samples == 0:
        return _scores(_flow_motion(opened))
    return _scores(total_HW / num_samples)


def paint_vectors(vectors: np.ndarray, height: int, width: int) -> np.ndarray:
    """Give each pixel the length of its block's vector over (height + width), float32 ``(H,W)``."""
    painted_HW = np.zeros((height, width), dtype=np.float32)
    scale = vectors["motion_scale"].astype(np.float32)
    length = np.hypot(vectors["motion_x"] / scale, vectors["motion_y"] / scale)
    for block_width, block_height in _BLOCKS:
        chosen = (vectors["w"] == block_width) & (vectors["h"] == block_height)
        # Blocks beyond the border paint the border, as in the reference.
        left = np.clip(vectors["dst_x"][chosen] - block_width // 2, 0, width - 1)
        right = np.clip(vectors["dst_x"][chosen] + block_width // 2 - 1, 0, width - 1)
        top = np.clip(vectors["dst_y"][chosen] - block_height // 2, 0, height - 1)
        bottom = np.clip(vectors["dst_y"][chosen] + block_height // 2 - 1, 0, height - 1)
        boxes = np.stack([left, right, top, bottom], axis=1).tolist()
        for (x0, x1, y0, y1), value in zip(boxes, length[chosen].tolist(), strict=True):
            painted_HW[y0 : y1 + 1, x0 : x1 + 1] = value
    return painted_HW / np.float32(height + width)


def _flow_motion(opened: OpenClip) -> np.ndarray:
    """Mean optical flow per pixel over (height + width), of pairs of neighbouring frames."""
    info = opened.index.info
    total_HW = np.zeros((info.height, info.width), dtype=np.float32)
    firsts = np.unique(np.linspace(0, max(0, info.num_frames - 2), MIN_SAMPLES, dtype=int))
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for first in firsts if info.num_frames > 1 else ():
        before, after = (
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in opened.read((first, first + 1))
        )
        total_HW += np.linalg.norm(flow_of.calc(before, after, None), axis=-1)
    return np.asarray(total_HW / (len(firsts) * (info.height + info.width)))


def _scores(motion_HW: np.ndarray) -> MotionScores:
    """Both scores of a map of motion; a side below 256 pixels is one patch, taken as its mean."""
    height, width = motion_HW.shape
    if min(height, width) >= PATCH_PX:
        patches = cv2.resize(motion_HW, None, fx=1 / PATCH_PX, fy=1 / PATCH_PX)
    else:
        size = (max(1, round(width / PATCH_PX)), max(1, round(height / PATCH_PX)))
        patches = cv2.resize(motion_HW, size, interpolation=cv2.INTER_AREA)
    return MotionScores(float(motion_HW.mean()), float(np.min(patches)))
