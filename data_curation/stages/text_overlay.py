"""Text overlay: how much of the picture is text, and whether captions are burnt in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import Numbers, OpenClip
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from data_curation.text_overlay.detector import coverage, load_detector, network_size
from data_curation.text_overlay.persistence import burnt_in
from nemo_cosmos.errors import VideoError
from nemo_cosmos.options import option

#: Seconds between the two frames of a look.
GAP_S = 0.5


@dataclass(frozen=True)
class TextOverlaySettings(StageSettings):
    """How much text passes.

    Attributes:
        max_overlay_share: most burnt-in text, as a share of the picture; 1 lets everything pass.
        max_text_share: most text of any kind.
        num_looks: places in the clip that are looked at.
    """

    optional = True

    max_overlay_share: float = option(
        0.003,
        "Most burnt-in text, as a share of the picture; 1: any.",
        flag="--max-overlay",
        least=0,
        most=1,
    )
    max_text_share: float = option(
        0.25, "Most text of any kind, as a share; 1: any.", least=0, most=1
    )
    num_looks: int = option(3, "Places in the clip that are looked at.", least=1, most=1000)

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return TextOverlayStage(self, store)


@dataclass(frozen=True)
class TextShares:
    """Shares of the picture, averaged over the looks."""

    text: float
    overlay: float


class TextOverlayStage(ClipStage):
    """Scores text, and rejects clips with captions, watermarks or pages of text."""

    name = "text_overlay"
    inputs = ("suffixes", "num_frames", "fps", "width", "height")
    outputs = ("scores",)
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, settings: TextOverlaySettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def prepare(self) -> None:
        """Load the detector."""
        load_detector()

    def looks_at(self, clip: Clip) -> Numbers:
        """Both frames of every look."""
        return np.concatenate(look_numbers(clip.num_frames, clip.fps, self.settings.num_looks))

    def process(self, clip: Clip) -> Result:
        """Score one clip."""
        try:
            with self._store.open(clip.clip_id) as opened:
                shares = measure_text(opened, clip, self.settings.num_looks)
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        for share, most, kind in (
            (shares.overlay, self.settings.max_overlay_share, "burnt-in text"),
            (shares.text, self.settings.max_text_share, "text"),
        ):
            if share > most:
                detail = f"{kind} covers {share:.2%} of the picture, at most {most:.2%} wanted"
                return Rejection.of(clip, self.name, "text_overlay", detail)
        return clip.with_scores(text_share=shares.text, text_overlay_share=shares.overlay)


def measure_text(opened: OpenClip, clip: Clip, num_looks: int) -> TextShares:
    """Look at a clip in several places, at two frames each.

    Raises:
        VideoError: it cannot be decoded.
    """
    firsts, seconds = look_numbers(clip.num_frames, clip.fps, num_looks)
    size = network_size(clip.height, clip.width)
    numbers = np.stack([firsts, seconds], axis=1).ravel()
    frames_THWC = opened.read(numbers, size)
    text, overlay = [], []
    for first_HWC, second_HWC in zip(frames_THWC[::2], frames_THWC[1::2], strict=True):
        boxes = load_detector().detect(first_HWC)
        text.append(coverage(boxes, *size))
        overlay.append(coverage(burnt_in(boxes, first_HWC, second_HWC), *size))
    return TextShares(float(np.mean(text)), float(np.mean(overlay)))


def look_numbers(num_frames: int, fps: float, num_looks: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second frame of each look, spread over the clip."""
    gap = min(max(1, round(GAP_S * fps)), num_frames - 1)
    firsts = ((np.arange(num_looks) + 0.5) * (num_frames - gap) / num_looks).astype(np.int64)
    return firsts, firsts + gap
