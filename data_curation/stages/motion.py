"""Motion filter: spans in which hardly anything moves are rejected, before they are encoded.

The score is read off the source's motion vectors, as in cosmos-curate: the first half of the span
at two frames per second, the length of each block's vector over (height + width), averaged over all
pixels (``global_mean``) and as the least value of a grid of 256-pixel patches
(``per_patch_min_256``). Our own encoder would choose other vectors than the source's, by a tenth or
so, and thresholds from elsewhere would not fit. Where the source's codec leaves no vectors (HEVC,
VP9, AV1, stills in a row), optical flow is measured instead. A span that cannot be decoded is a
decode failure and never "motion".
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import cv2
import numpy as np

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import index_of
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import VideoError
from nemo_cosmos.options import option
from nemo_cosmos.video import FrameIndex, Source, decode, fitted_size, resize_frame
from nemo_cosmos.video.backends.pyav import ForwardReader, RgbConverter
from nemo_cosmos.video.decode import upright

SAMPLE_FPS = 2.0
DURATION_SHARE = 0.5
MIN_SAMPLES = 10
PATCH_PX = 256
#: Longer side of the pictures that optical flow is measured on.
FLOW_PX = 512
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
    """Scores the span of a source and rejects a still one."""

    name = "motion"
    inputs = ("info", "start_frame", "end_frame", "clip_id")
    outputs = ("scores",)
    resources = Resources(cpus=1.0)
    version = 2

    def __init__(self, settings: MotionSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def process(self, clip: Clip) -> Result:
        """Score one span."""
        try:
            index = index_of(clip)
            measured = Measurement(clip.source, index, clip.start_frame, clip.end_frame)
            scores = measured.scores
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        fault = self._fault(scores)
        if fault:
            if measured.last_frame is not None:
                self._put_picture(clip, index, measured.last_frame)
            return Rejection.of(clip, self.name, "motion", fault)
        return clip.with_scores(
            motion_global_mean=scores.global_mean,
            motion_per_patch_min_256=scores.per_patch_min_256,
        )

    def _fault(self, scores: MotionScores) -> str:
        """Why the scores are too small; empty where they are not."""
        least = self.settings
        if scores.global_mean < least.min_global_mean:
            return f"mean motion {scores.global_mean:.6f}, at least {least.min_global_mean} wanted"
        if scores.per_patch_min_256 < least.min_per_patch:
            return (
                f"the stillest patch moves {scores.per_patch_min_256:.7f}, "
                f"at least {least.min_per_patch} wanted"
            )
        return ""

    def _put_picture(self, clip: Clip, index: FrameIndex, frame: av.VideoFrame) -> None:
        """Keep a frame of a rejected span for the report."""
        frame_HWC = upright(RgbConverter(index)(frame), index, clip.source)
        size = index.info.height, index.info.width
        self._store.put_thumbnail(clip.clip_id, resize_frame(frame_HWC, size))


class Measurement:
    """Motion of a span of a video: by its motion vectors, or by optical flow where it has none.

    Args:
        source: the video.
        index: its frames.
        start: first frame of the span.
        end: frame after its last one; by default the span ends with the video.

    Raises:
        VideoError: it cannot be decoded.

    Attributes:
        scores: the scores.
        last_frame: the last frame that was looked at, near the middle of the span; None where it
            was measured by optical flow alone.
    """

    def __init__(
        self, source: Source, index: FrameIndex, start: int = 0, end: int | None = None
    ) -> None:
        self._source, self._index = source, index
        self._start = start
        self._end = index.info.num_frames if end is None else end
        self.last_frame: av.VideoFrame | None = None
        by_vectors = self._by_vectors()
        self.scores = self._by_flow() if by_vectors is None else _scores(by_vectors)

    def _by_vectors(self) -> np.ndarray | None:
        """Mean length of the vectors at each pixel; None where there are none."""
        total_HW, num_samples = np.zeros((1, 1), dtype=np.float32), 0
        step, num_wanted = 1, MIN_SAMPLES
        everything = np.arange(self._start, self._end)
        with ForwardReader(self._source, self._index, everything[:1], True) as reader:
            step = max(1, round((reader.declared_fps or 30) / SAMPLE_FPS))
            seconds = int(self._length_s(reader)) or 30
            num_wanted = max(MIN_SAMPLES, round(SAMPLE_FPS * seconds * DURATION_SHARE))
            reader.want(everything[::step])
            for number in everything[::step].tolist():
                frame = self.last_frame = reader.read(number)
                vectors = frame.side_data.get("MOTION_VECTORS")
                if vectors is None:  # a keyframe: it is not predicted from another frame
                    continue
                motion_HW = paint_vectors(vectors.to_ndarray(), frame.height, frame.width)
                total_HW = motion_HW if num_samples == 0 else total_HW + motion_HW
                num_samples += 1
                if num_samples >= num_wanted:
                    break
        return total_HW / num_samples if num_samples else None

    def _length_s(self, reader: ForwardReader) -> float:
        """Length of the span; of a whole video, as its container declares it."""
        info = self._index.info
        if (self._start, self._end) == (0, info.num_frames):
            return reader.declared_s
        start_s, end_s = self._index.span_s(self._start, self._end)
        return end_s - start_s

    def _by_flow(self) -> MotionScores:
        """Scores by the optical flow of some pairs of neighbouring frames, on small pictures."""
        info, num_frames = self._index.info, self._end - self._start
        size = info.height, info.width
        if max(size) > FLOW_PX:
            size = fitted_size(*size, (FLOW_PX, FLOW_PX))
        total_HW = np.zeros(size, dtype=np.float32)
        firsts = np.unique(np.linspace(0, max(0, num_frames - 2), MIN_SAMPLES, dtype=int))
        flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        for first in (self._start + firsts).tolist() if num_frames > 1 else ():
            pair_THWC = decode(
                self._source, frame_indices=[first, first + 1], size=size, index=self._index
            ).frames_THWC
            before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pair_THWC)
            total_HW += np.linalg.norm(flow_of.calc(before, after, None), axis=-1)
        patch_px = PATCH_PX * max(size) / max(info.height, info.width)
        return _scores(total_HW / (len(firsts) * sum(size)), patch_px)


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


def _scores(motion_HW: np.ndarray, patch_px: float = PATCH_PX) -> MotionScores:
    """Both scores of a map of motion; a side below a patch is one patch, taken as its mean."""
    height, width = motion_HW.shape
    if min(height, width) >= patch_px:
        patches = cv2.resize(motion_HW, None, fx=1 / patch_px, fy=1 / patch_px)
    else:
        size = (max(1, round(width / patch_px)), max(1, round(height / patch_px)))
        patches = cv2.resize(motion_HW, size, interpolation=cv2.INTER_AREA)
    return MotionScores(float(motion_HW.mean()), float(np.min(patches)))
