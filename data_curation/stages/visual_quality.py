"""Visual quality: blurred, badly exposed, blocky and letterboxed clips, and no-reference scores.

A few frames of the clip are looked at. Bars are found in all of them together and cut off before
anything else is measured. Each measure is the median over the frames, so that one bad frame does
not condemn a clip; the aesthetic score is the least, as in cosmos-curate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import Numbers
from data_curation.quality.brisque import brisque, load_model
from data_curation.quality.technical import blockiness, blurriness, exposure, find_bars
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.options import option


@dataclass(frozen=True)
class VisualQualitySettings(StageSettings):
    """What passes. By default everything does, and the scores are recorded.

    Attributes:
        max_blur: most blur, from 0 to 1.
        max_black_share: most of the picture that is black.
        max_white_share: most of the picture that is white.
        max_blockiness: most excess of steps on the block grid; 0 for any.
        max_bar_share: most of the picture that is black bars.
        max_brisque: most BRISQUE score; 0 does not compute it.
        min_aesthetic: least aesthetic score; needs the two paths.
        clip_model: folder of CLIP ViT-L/14; empty for no aesthetic score.
        aesthetic_head: file of the head.
        num_frames: frames that are looked at.

    Raises:
        ConfigError: one of the two paths without the other, or no frame.
    """

    optional = True

    max_blur: float = option(1.0, "Most blur, 0 sharp to 1; try 0.65.", least=0, most=1)
    max_black_share: float = option(
        1.0, "Most of the picture that is black; try 0.7.", least=0, most=1
    )
    max_white_share: float = option(
        1.0, "Most of the picture that is white; try 0.3.", least=0, most=1
    )
    max_blockiness: float = option(
        0.0, "Most excess of steps on the grid of blocks; 0: any; try 0.6.", least=0, most=100
    )
    max_bar_share: float = option(
        1.0, "Most of the picture that is black bars; try 0.4.", least=0, most=1
    )
    max_brisque: float = option(
        0.0, "Most BRISQUE score (0 good, 100 bad); 0: not computed.", least=0, most=1000
    )
    min_aesthetic: float = option(
        0.0, "Least aesthetic score (1 to 10); needs the two paths.", least=0, most=10
    )
    clip_model: str = option("", "Folder of CLIP ViT-L/14 for the aesthetic score.")
    aesthetic_head: str = option("", "File of the aesthetic head, as of sac-logos-ava1-l14.")
    num_frames: int = option(5, "Frames that are looked at.", least=1, most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.clip_model) != bool(self.aesthetic_head):
            raise ConfigError(
                "The aesthetic score needs both a CLIP model and a head; only one path was given. "
                "Name both, or none."
            )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return VisualQualityStage(self, store)


#: Thresholds that kept every real clip and found every planted fault of the benchmark
#: ``curation_filters``. Rendered scenes, cartoons and night shots may want others.
RECOMMENDED = VisualQualitySettings(
    max_blur=0.65,
    max_black_share=0.7,
    max_white_share=0.3,
    max_blockiness=0.6,
    max_bar_share=0.4,
)


class VisualQualityStage(ClipStage):
    """Scores the picture, and rejects clips by name of what is wrong with it."""

    name = "visual_quality"
    inputs = ("suffixes", "num_frames")
    outputs = ("scores",)
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, settings: VisualQualitySettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        if settings.clip_model:
            self.resources = self.resources.with_gpu()

    def prepare(self) -> None:
        """Load the models that are asked for."""
        if self.settings.max_brisque:
            load_model()
        if self.settings.clip_model:
            from data_curation.quality.aesthetic import load_head
            from nemo_cosmos.perception.encoders import load_encoder

            load_encoder(self.settings.clip_model)
            load_head(Path(self.settings.aesthetic_head))

    def looks_at(self, clip: Clip) -> Numbers:
        """Frames spread over the clip, without its first and last one."""
        numbers = np.linspace(0, clip.num_frames - 1, self.settings.num_frames + 2)[1:-1]
        return numbers.round().astype(np.int64)

    def process(self, clip: Clip) -> Result:
        """Score one clip."""
        try:
            with self._store.open(clip.clip_id) as opened:
                frames_THWC = opened.read(self.looks_at(clip))
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        scores = measure_quality(frames_THWC, self.settings)
        fault = worst_fault(scores, self.settings)
        if fault is not None:
            name, reason, most = fault
            detail = f"{name} is {scores[name]:.3f}, at most {most:g} wanted"
            return Rejection.of(clip, self.name, reason, detail)
        if scores.get("aesthetic", math.inf) < self.settings.min_aesthetic:
            detail = f"{scores['aesthetic']:.2f}, at least {self.settings.min_aesthetic:g} wanted"
            return Rejection.of(clip, self.name, "aesthetic", detail)
        return clip.with_scores(**scores)


def worst_fault(
    scores: Mapping[str, float], most: VisualQualitySettings
) -> tuple[str, str, float] | None:
    """Score, reason of rejection and limit of the first fault, in an order of what hides what."""
    limits = (
        ("bar_share", "letterbox", most.max_bar_share),
        ("black_share", "underexposed", most.max_black_share),
        ("white_share", "overexposed", most.max_white_share),
        ("blockiness", "blocky", most.max_blockiness or math.inf),
        ("blur", "blurred", most.max_blur),
        ("brisque", "brisque", most.max_brisque or math.inf),
    )
    return next((limit for limit in limits if scores.get(limit[0], 0.0) > limit[2]), None)


def measure_quality(
    frames_THWC: NDArray[np.uint8], settings: VisualQualitySettings
) -> dict[str, float]:
    """All scores of some RGB frames of one clip."""
    luma_THW = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC])
    height, width = luma_THW.shape[1:]
    top, bottom, left, right = find_bars(luma_THW)
    inside = (slice(top, height - bottom), slice(left, width - right))
    pictures = [luma_HW[inside] for luma_HW in luma_THW]
    bar_share = 1 - pictures[0].size / (height * width)
    exposures = np.median([exposure(picture) for picture in pictures], axis=0)
    scores = {
        "bar_share": bar_share,
        "black_share": float(exposures[0]),
        "white_share": float(exposures[1]),
        "blockiness": float(np.median([blockiness(picture) for picture in pictures])),
        "blur": float(np.median([blurriness(picture) for picture in pictures])),
    }
    if settings.max_brisque:
        scores["brisque"] = float(np.median([brisque(frame[inside]) for frame in frames_THWC]))
    if settings.clip_model:
        # Needs torch and transformers, which take seconds to import.
        from data_curation.quality.aesthetic import aesthetic_scores

        head = Path(settings.aesthetic_head)
        scores["aesthetic"] = float(aesthetic_scores(frames_THWC, settings.clip_model, head).min())
    return scores
