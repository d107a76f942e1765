"""A caption from measurements alone, for clips without words.

Every sentence rests on a score or a fact of a stage; what was not measured, or lies between the
limits below, is not mentioned. The same facts always give the same words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip
from data_curation.video_type.taxonomy import ASPECTS, OBJECTS, UNKNOWN

#: ``caption_source`` of these captions.
TEMPLATE = "template"
#: Upper edges of the mean motion (of the motion stage), and what to call it.
_LITTLE_MOTION = 0.002
_MOTION_WORDS = ((0.0003, "almost no"), (_LITTLE_MOTION, "little"), (0.006, "moderate"))
#: Least probability of a label that is mentioned.
_SURE = 0.6
#: Mean luma below and above which a clip is dark, dimly lit, and bright; 0 to 255.
_DARK, _DIM, _BRIGHT = 50, 90, 170
#: Standard deviation of luma below and above which contrast is low and high.
_LOW_CONTRAST, _HIGH_CONTRAST = 25, 75
#: Mean saturation below which colours are muted, and share of it that the main hue must have.
_MUTED, _MAIN_HUE_SHARE = 0.15, 0.6
#: Upper edges of the hue in degrees.
_HUE_WORDS = (
    (20, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (200, "cyan"), (260, "blue"),
    (320, "purple"),
)  # fmt: skip
_CAMERA_WORDS = {
    "static": "stands still",
    "pan_left": "pans to the left",
    "pan_right": "pans to the right",
    "tilt_up": "tilts up",
    "tilt_down": "tilts down",
    "zoom_in": "zooms in or moves forward",
    "zoom_out": "zooms out or moves backward",
    "shake": "shakes",
}


@dataclass(frozen=True)
class Light:
    """Light and colour of a clip.

    Attributes:
        luma: mean brightness, 0 to 255.
        contrast: standard deviation of the brightness, 0 to 127.
        saturation: mean saturation, 0 to 1.
        colour: the hue that most of the saturation has; empty where none has.
    """

    luma: float
    contrast: float
    saturation: float
    colour: str


def measure_light(frames_THWC: NDArray[np.uint8]) -> Light:
    """Measure RGB frames."""
    pixels = frames_THWC.reshape(1, -1, 3)
    hue, saturation, _ = (
        part.astype(np.float64) for part in cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    )
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    edges = np.array([edge for edge, _ in _HUE_WORDS])
    names = [*(name for _, name in _HUE_WORDS), "red"]
    shares = np.bincount(
        np.searchsorted(edges, 2 * hue.ravel(), side="right"), saturation.ravel(), len(names)
    )
    shares[0] += shares[-1]  # red lies on both sides of zero
    main = int(shares[:-1].argmax())
    is_main = shares[main] >= _MAIN_HUE_SHARE * max(float(shares[:-1].sum()), 1e-9)
    return Light(
        luma=float(luma.mean()),
        contrast=float(luma.std()),
        saturation=float(saturation.mean()) / 255,
        colour=names[main] if is_main else "",
    )


def template_caption(clip: Clip) -> str:
    """Sentences that say what is known of a clip."""
    sentences = [_shape(clip), _things(clip), _place(clip), _light(clip), _camera(clip)]
    if "motion_global_mean" in clip.scores:
        amount = _word(clip.scores["motion_global_mean"], _MOTION_WORDS, "strong")
        sentences.append(f"There is {amount} motion.")
    return " ".join(sentence for sentence in sentences if sentence)


def _shape(clip: Clip) -> str:
    shape = "landscape" if clip.width > 1.1 * clip.height else "square"
    shape = "portrait" if clip.height > 1.1 * clip.width else shape
    seconds = round(clip.num_frames / clip.fps)
    length = f"{seconds} second{'' if seconds == 1 else 's'}" if seconds else "under a second"
    return f"A {shape} video of {length}."


def _things(clip: Clip) -> str:
    things = clip.extra.get(OBJECTS) or []
    return f"It shows {_listed([_a(name) for name in things])}." if things else ""


def _place(clip: Clip) -> str:
    """The labels of the taxonomy, as such: a label is a choice among few and no description."""
    labels = {aspect: clip.extra.get(aspect, UNKNOWN) for aspect in ASPECTS}
    # A model that was asked gives no probability.
    sure = [name for name in ASPECTS if clip.scores.get(f"{name}_confidence", 1.0) >= _SURE]
    known = [labels[name].replace("_", " ") for name in sure if labels[name] != UNKNOWN]
    return f"Sorted under {_listed(known)}." if known else ""


def _light(clip: Clip) -> str:
    if "luma" not in clip.scores:
        return ""
    luma, contrast = clip.scores["luma"], clip.scores["contrast"]
    words = ["dark"] if luma < _DARK else ["dimly lit"] if luma < _DIM else []
    words += ["bright"] if luma > _BRIGHT else []
    words += ["of low contrast"] if contrast < _LOW_CONTRAST else []
    words += ["of high contrast"] if contrast > _HIGH_CONTRAST else []
    if clip.scores["saturation"] < _MUTED:
        words.append("in muted colors")
    elif clip.extra.get("main_colour"):
        words.append(f"mostly {clip.extra['main_colour']}")
    return f"The picture is {_listed(words)}." if words else ""


def _camera(clip: Clip) -> str:
    """The strongest move. A camera in a car sees a sky that stands still, in a scene that moves."""
    name = next(iter(clip.extra.get("camera_motion", ())), "")
    moves = clip.scores.get("motion_global_mean", math.inf) >= _LITTLE_MOTION
    if not name or (name == "static" and moves):
        return ""
    return f"The camera {_CAMERA_WORDS[name]}."


def _a(name: str) -> str:
    noun = name.replace("_", " ")
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _word(value: float, edges: Sequence[tuple[float, str]], otherwise: str) -> str:
    return next((word for edge, word in edges if value < edge), otherwise)
