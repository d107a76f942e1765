"""The embedded text classifier: judges what a prompt means, with weights that need no hub.

A softmax over ``safe`` and the categories of harm is applied to the features of
:mod:`~nemo_cosmos.perception.sentence`. Its weights are beside this file; they were trained on
``benchmarks/guard_prompts/development.tsv``, and
``python -m nemo_cosmos.guardrails.text.train_classifier`` makes them again. The whole prompt and
each of its sentences are judged, so that a harmful sentence does not drown in harmless ones.

The features of one known sentence are stored with the head. If the encoder gives others, its
weights are not those that the head was trained on, and the guard refuses.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import FAILURE, SAFE, GuardKind, Verdict
from nemo_cosmos.guardrails.text.normalise import legible
from nemo_cosmos.guardrails.text.prompt import refuse_unreadable
from nemo_cosmos.perception.sentence import load_sentence_encoder

HEAD_FILE = Path(__file__).with_name("text_head.safetensors")
CANARY = "A robot arm picks up a red block in front of a crowd."
CANARY_TOLERANCE = 1e-3
WINDOW_WORDS, WINDOW_STEP, MIN_WORDS = 40, 20, 4

Encoder = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class Head:
    """A softmax layer on sentence features.

    Attributes:
        weight_CD: one row of weights per category.
        bias_C: one number per category.
        categories: names, ``safe`` among them.
        threshold: probability of harm from which on a prompt is refused.
        canary_D: the features of :data:`CANARY` from the encoder that the head was trained on.
    """

    weight_CD: np.ndarray
    bias_C: np.ndarray
    categories: tuple[str, ...]
    threshold: float
    canary_D: np.ndarray

    def probabilities(self, features_ND: np.ndarray) -> np.ndarray:
        """Return the softmax over the categories, float64 ``(N, C)``."""
        logits_NC = features_ND.astype(np.float64) @ self.weight_CD.T + self.bias_C
        exp_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        return exp_NC / exp_NC.sum(axis=1, keepdims=True)


class TextClassifierGuard:
    """Refuses prompts whose meaning is harmful.

    Args:
        encoder: features of texts; by default the embedded encoder, which is loaded with the first
            prompt.
        head_file: the softmax layer.

    Raises:
        GuardrailError: the head cannot be read.
    """

    name = "text_classifier"
    kind: GuardKind = "prompt"

    def __init__(self, encoder: Encoder | None = None, head_file: Path = HEAD_FILE) -> None:
        self._head = read_head(head_file)
        self._encoder = encoder
        self._checked = False
        self._loading = threading.Lock()

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge one prompt.

        Raises:
            AssetError: the encoder's weights are unavailable (the policy counts it as a refusal).
        """
        refusal = refuse_unreadable(self.name, x)
        if refusal is not None:
            return refusal
        features_ND = self._load()(passages(legible(str(x))))
        if not np.isfinite(features_ND).all():
            return Verdict(False, self.name, FAILURE, "the encoder gave NaN or infinite values")
        return self._judge(self._head.probabilities(features_ND))

    def _judge(self, probabilities_NC: np.ndarray) -> Verdict:
        """Judge by the passage that is most likely harmful."""
        safe = self._head.categories.index(SAFE)
        worst_C = probabilities_NC[probabilities_NC[:, safe].argmin()].copy()
        harm = 1.0 - float(worst_C[safe])
        if not np.isfinite(harm):
            return Verdict(False, self.name, FAILURE, "the probability of harm is not a number")
        if harm < self._head.threshold:
            return Verdict(True, self.name, SAFE, f"probability of harm {harm:.2f}")
        worst_C[safe] = -1.0
        category = self._head.categories[int(worst_C.argmax())]
        return Verdict(False, self.name, category, f"probability of harm {harm:.2f}")

    def _load(self) -> Encoder:
        """Return the encoder, checked once against the features that the head was trained on."""
        with self._loading:
            encoder = self._encoder = self._encoder or load_sentence_encoder()
            if not self._checked:
                difference = np.abs(encoder([CANARY])[0] - self._head.canary_D).max()
                if not difference <= CANARY_TOLERANCE:  # NaN is a difference, too
                    raise GuardrailError(
                        "The sentence encoder is not the one that the classifier was trained on: "
                        f"its features differ by {difference:.3g}, at most {CANARY_TOLERANCE:g} is "
                        "expected. Remove it from the cache; it is fetched again."
                    )
                self._checked = True
            return encoder


def passages(text: str) -> list[str]:
    """Return the text itself, its sentences, and overlapping windows of long sentences."""
    if not re.search(r"\w", text):
        return []
    found = {text: None}
    whole = " ".join(text.rstrip(" .!?;\n").split())  # one sentence is not judged twice
    for sentence in re.split(r"[.!?;\n]+\s*", text):
        words = sentence.split()
        for start in range(0, max(1, len(words) - WINDOW_STEP), WINDOW_STEP):
            window = words[start : start + WINDOW_WORDS]
            if len(window) >= MIN_WORDS and " ".join(window) != whole:
                found[" ".join(window)] = None
    return list(found)


def read_head(path: Path) -> Head:
    """Read a head from safetensors.

    Raises:
        GuardrailError: the file is missing, damaged, or its shapes do not belong together.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            described = json.loads((file.metadata() or {})["head"])
            weight, bias, canary = (file.get_tensor(n) for n in ("weight", "bias", "canary"))
        categories = tuple(described["categories"])
        threshold = float(described["threshold"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise GuardrailError(
            f"The classifier '{path}' cannot be read: {error}. Expected a safetensors file made by "
            "nemo_cosmos.guardrails.text.train_classifier; make it again, or reinstall nemo-cosmos."
        ) from error
    fits = weight.shape == (len(categories), len(canary)) and bias.shape == (len(categories),)
    finite = all(np.isfinite(array).all() for array in (weight, bias, canary))
    if not (fits and finite and SAFE in categories and 0.0 < threshold < 1.0):
        raise GuardrailError(
            f"The classifier '{path}' is damaged: weight {weight.shape}, bias {bias.shape}, "
            f"{len(categories)} categories, threshold {threshold}. Make it again, or reinstall."
        )
    return Head(weight, bias, categories, threshold, canary)
