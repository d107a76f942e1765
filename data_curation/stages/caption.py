"""Caption: keep the words that come with a video, or write a truthful sentence from measured facts.

A template caption says only what was measured (motion, light, colour, length) and is marked
``caption_source: template``, so that training can leave it out or weigh it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from data_curation.sidecars import read_words
from data_curation.stages.base import Clip, Rejection, Resources, Result, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.errors import SampleError
from nemo_cosmos.video import decode

TEMPLATE, SIDECAR = "template", "sidecar"
#: Keys of a sidecar JSON that may hold the words, best first.
WORD_KEYS = ("caption", "language", "text", "prompt")
_NUM_LOOKS = 8
_LOOK_SIZE = (45, 80)

#: Upper edges of the mean motion (of the motion stage), and what to call it.
_MOTION_WORDS = ((0.0003, "almost no"), (0.002, "little"), (0.006, "moderate"))
_LIGHT_WORDS = ((50, "dark"), (90, "dimly lit"), (170, "evenly lit"))
#: Upper edges of the hue in degrees.
_HUE_WORDS = ((20, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (200, "cyan"))
_HUE_WORDS_REST = ((260, "blue"), (320, "purple"), (360, "red"))


@dataclass(frozen=True)
class CaptionSettings(StageSettings):
    """Nothing to choose yet."""

    def build(self, store: ClipStore) -> Stage:
        """The stage."""
        return CaptionStage(store)


class CaptionStage(Stage):
    """Gives every clip a caption, and carries the other facts of its sidecar JSON along."""

    name = "caption"
    inputs = ("suffixes", "scores", "num_frames", "fps")
    outputs = ("caption", "caption_source", "extra")
    resources = Resources(cpus=0.5)

    def __init__(self, store: ClipStore) -> None:
        self._store = store

    def process(self, clip: Clip) -> Result:
        """Caption one clip."""
        try:
            words = read_words(clip.source)
        except SampleError as error:
            return Rejection.of(clip, self.name, "sidecar", str(error))
        given = next((key for key in WORD_KEYS if _is_text(words.get(key))), None)
        facts = {**clip.extra}
        facts |= {key: value for key, value in words.items() if key not in _OWN_KEYS}
        if given is not None:
            source = str(words.get("caption_source") or SIDECAR)
            caption = " ".join(str(words[given]).split())
            return replace(clip, caption=caption, caption_source=source, extra=facts)
        frames_THWC = _looks(self._store.get(clip.clip_id, "mp4"), clip.num_frames)
        caption = template_caption(look_at(frames_THWC), clip)
        return replace(clip, caption=caption, caption_source=TEMPLATE, extra=facts)


@dataclass(frozen=True)
class Look:
    """What was measured in a few frames.

    Attributes:
        luma: mean brightness, 0 to 255.
        saturation: mean saturation, 0 to 1.
        hue: degrees of the most frequent hue among the coloured pixels.
    """

    luma: float
    saturation: float
    hue: float


def look_at(frames_THWC: np.ndarray) -> Look:
    """Measure light and colour of RGB frames, uint8."""
    pixels = frames_THWC.reshape(1, -1, 3)
    hue, saturation, _ = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    weights, _ = np.histogram(hue, bins=36, range=(0, 180), weights=saturation.astype(np.float64))
    return Look(
        luma=float(luma.mean()),
        saturation=float(saturation.mean()) / 255,
        hue=(int(weights.argmax()) + 0.5) * 10,
    )


def template_caption(look: Look, clip: Clip) -> str:
    """One or two sentences that say what was measured and nothing else."""
    shape = "landscape" if clip.width > 1.1 * clip.height else "square"
    shape = "portrait" if clip.height > 1.1 * clip.width else shape
    light = _word(look.luma, _LIGHT_WORDS, "brightly lit")
    colour = "in muted colors"
    if look.saturation > 0.15:
        colour = f"mostly {_word(look.hue, _HUE_WORDS + _HUE_WORDS_REST, 'red')}"
    sentence = f"A {shape} video of {clip.num_frames / clip.fps:.0f} seconds, {light}, {colour}"
    if "motion_global_mean" not in clip.scores:
        return f"{sentence}."
    motion = _word(clip.scores["motion_global_mean"], _MOTION_WORDS, "strong")
    return f"{sentence}, with {motion} motion."


#: Keys of a sidecar that describe the whole source and would be wrong for a clip of it.
_OWN_KEYS = frozenset(item.name for item in fields(ClipRecord)) | {"content_sha256", "extra"}


def _looks(content: bytes, num_frames: int) -> np.ndarray:
    numbers = np.unique(np.linspace(0, num_frames - 1, _NUM_LOOKS, dtype=int))
    return decode(content, frame_indices=numbers, size=_LOOK_SIZE).frames_THWC


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _word(value: float, edges: tuple[tuple[float, str], ...], otherwise: str) -> str:
    return next((word for edge, word in edges if value < edge), otherwise)
