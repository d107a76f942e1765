"""Words: keep those that come with a video, or measure the light that a template can describe.

A clip without words gets ``caption_source: template`` here; *caption* writes its words once all is
known of the clip. The mark stays in the record, so that training can leave such captions out or
weigh them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from data_curation.captions.template import TEMPLATE, measure_light
from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import Numbers
from data_curation.sidecars import read_words
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.data.schema import TIME_AXES, ClipRecord
from nemo_cosmos.errors import SampleError

SIDECAR = "sidecar"
#: Keys of a sidecar JSON that may hold the words, best first.
WORD_KEYS = ("caption", "language", "text", "prompt")
_NUM_LOOKS = 8
_LOOK_SIZE = (45, 80)


@dataclass(frozen=True)
class WordsSettings(StageSettings):
    """No choices yet."""

    def build(self, store: ClipStore) -> Stage:
        """The stage."""
        return WordsStage(store)


class WordsStage(ClipStage):
    """Finds the words of every clip, and carries the other facts of its sidecar JSON along.

    Clips without words get the scores ``luma``, ``contrast`` (0 to 255) and ``saturation`` (0 to
    1), and the fact ``main_colour``.
    """

    name = "words"
    inputs = ("suffixes", "num_frames")
    outputs = ("caption_source", "extra", "scores")
    resources = Resources(cpus=0.5)
    version = 2

    def __init__(self, store: ClipStore) -> None:
        self._store = store

    def looks_at(self, clip: Clip) -> Numbers:
        """A few frames; none where a sidecar probably has words."""
        has_sidecar = clip.source.with_suffix(".json").exists()
        return np.array([], dtype=np.int64) if has_sidecar else _look_numbers(clip)

    def process(self, clip: Clip) -> Result:
        """Read the words of one clip, or measure its light."""
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
        with self._store.open(clip.clip_id) as opened:
            light = asdict(measure_light(opened.read(_look_numbers(clip), _LOOK_SIZE)))
        facts["main_colour"] = light.pop("colour")
        measured = {name: round(value, 4) for name, value in light.items()}
        return replace(clip, caption_source=TEMPLATE, extra=facts).with_scores(**measured)


#: Keys of a sidecar that describe the whole source and would be wrong for a clip of it.
_OWN_KEYS = frozenset(item.name for item in fields(ClipRecord)) | {
    "content_sha256",
    "extra",
    TIME_AXES,
}


def _look_numbers(clip: Clip) -> Numbers:
    return np.unique(np.linspace(0, clip.num_frames - 1, _NUM_LOOKS, dtype=np.int64))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
