"""The classifier on sentence features: kernel ridge regression with a Gaussian kernel.

Harm that is described and not named lies in no half-space of the features: a linear softmax on the
same ones finds fewer of the prompts left out at the same share of false alarms. A prompt's
score for a category is a sum over the training prompts, weighted by how near they are::

    score_C(x) = sum_S weight_SC * exp(-gamma * |p(x) - p_S|^2)

Each encoder's features are standardised and projected on their main directions first; the training
prompts are stored as such projections of 8 bits. An *expert* uses one encoder or several: one reads
every language, the other has a second encoder for English.

Shape suffixes: N texts, D features of an encoder, K of their projection, S training prompts,
C categories.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import SAFE

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """The main directions of an encoder's features.

    Attributes:
        matrix_DK: the directions, with the scale of each feature.
        offset_K: what the mean features are projected on.
        canary_D: the features of a known sentence from the encoder that this was made for.
    """

    matrix_DK: Floats
    offset_K: Floats
    canary_D: Floats

    def __call__(self, features_ND: Floats) -> Floats:
        """Return the projections ``(N, K)``."""
        projected: Floats = features_ND @ self.matrix_DK - self.offset_K
        return projected


@dataclass(frozen=True)
class Expert:
    """A kernel machine on the projections of one or several encoders.

    Attributes:
        support_SK: the training prompts, by encoder.
        weight_SC: one column of weights per category.
        gamma: the kernel's width: how fast a training prompt's influence falls with distance.
        threshold: score of harm from which on a prompt is refused.
    """

    support_SK: Mapping[str, Floats]
    weight_SC: Floats
    gamma: float
    threshold: float

    def scores(self, projected_NK: Mapping[str, Floats]) -> Floats:
        """Return the scores of the categories ``(N, C)``; near 1 for the right one, else near -1.

        Args:
            projected_NK: the texts' projections, by encoder; others than this expert's are ignored.
        """
        return kernel(projected_NK, self.support_SK, self.gamma) @ self.weight_SC


@dataclass(frozen=True)
class Head:
    """What is stored beside the guard.

    Attributes:
        categories: names, ``safe`` among them.
        projections: by encoder.
        experts: by name.
        prompts_sha256: the hash of the prompts that it was trained on.
    """

    categories: tuple[str, ...]
    projections: Mapping[str, Projection]
    experts: Mapping[str, Expert]
    prompts_sha256: str = ""

    @property
    def safe(self) -> int:
        """The place of ``safe`` among the categories."""
        return self.categories.index(SAFE)


def kernel(a_NK: Mapping[str, Floats], b_SK: Mapping[str, Floats], gamma: float) -> Floats:
    """Return the Gaussian kernel of texts ``(N, S)``, from the encoders of ``b_SK``."""
    distance_NS = sum(_squared_distance(a_NK[name], b_SK[name]) for name in b_SK)
    values: Floats = np.exp(np.float32(-gamma) * np.asarray(distance_NS, np.float32))
    return values


def _squared_distance(a_NK: Floats, b_SK: Floats) -> Floats:
    squared: Floats = (
        np.square(a_NK).sum(1)[:, None] + np.square(b_SK).sum(1)[None] - 2 * a_NK @ b_SK.T
    )
    # Rounding may make the distance to itself negative; NaN must stay NaN.
    return np.where(squared < 0, np.float32(0), squared)


def _scale(support_SK: Floats) -> Floats:
    largest_K: Floats = np.abs(support_SK).max(0) / np.float32(127)
    return np.maximum(largest_K, np.float32(1e-9)).astype(np.float32)


def as_stored(support_SK: Floats) -> Floats:
    """Return training prompts as they are read from a head, rounded to 8 bits."""
    scale_K = _scale(support_SK)
    rounded: Floats = np.round(support_SK / scale_K) * scale_K
    return rounded


def write_head(head: Head, file: Path) -> None:
    """Write a head as safetensors."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    for name, projection in head.projections.items():
        tensors[f"{name}.matrix"] = projection.matrix_DK.astype(np.float16)
        tensors[f"{name}.offset"] = projection.offset_K.astype(np.float32)
        tensors[f"{name}.canary"] = projection.canary_D.astype(np.float32)
    experts: dict[str, dict[str, Any]] = {}
    for name, expert in head.experts.items():
        experts[name] = {
            "gamma": expert.gamma, "threshold": expert.threshold, "encoders": [*expert.support_SK]
        }  # fmt: skip
        tensors[f"{name}.weight"] = expert.weight_SC.astype(np.float16)
        for encoder, support_SK in expert.support_SK.items():
            scale_K = _scale(support_SK)
            tensors[f"{name}.{encoder}.scale"] = scale_K
            tensors[f"{name}.{encoder}.support"] = np.round(support_SK / scale_K).astype(np.int8)
    described = {
        "categories": head.categories,
        "experts": experts,
        "prompts_sha256": head.prompts_sha256,
    }
    # safetensors writes the memory unchanged, whatever the order of an array's axes.
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(whole, file, metadata={"head": json.dumps(described)})


def read_head(path: Path) -> Head:
    """Read a head from safetensors.

    Raises:
        GuardrailError: the file is missing, damaged, or its shapes do not belong together.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            described = json.loads((file.metadata() or {})["head"])
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118  no mapping
        head = _assembled(described, tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise GuardrailError(
            f"The classifier '{path}' cannot be read: {error}. Expected a safetensors file made by "
            "nemo_cosmos.guardrails.text.train_classifier; make it again, or reinstall nemo-cosmos."
        ) from error
    problem = _problem(head, tensors)
    if problem is not None:
        raise GuardrailError(
            f"The classifier '{path}' is damaged: {problem}. Make it again, or reinstall."
        )
    return head


def _assembled(described: Mapping[str, Any], tensors: Mapping[str, Floats]) -> Head:
    experts = {
        name: Expert(
            support_SK={
                encoder: tensors[f"{name}.{encoder}.support"] * tensors[f"{name}.{encoder}.scale"]
                for encoder in one["encoders"]
            },
            weight_SC=tensors[f"{name}.weight"],
            gamma=float(one["gamma"]),
            threshold=float(one["threshold"]),
        )
        for name, one in described["experts"].items()
    }
    projections = {
        name: Projection(*(tensors[f"{name}.{part}"] for part in ("matrix", "offset", "canary")))
        for name in dict.fromkeys(name for expert in experts.values() for name in expert.support_SK)
    }
    digest = str(described.get("prompts_sha256", ""))
    return Head(tuple(described["categories"]), projections, experts, digest)


def _problem(head: Head, tensors: Mapping[str, Floats]) -> str | None:
    """Return why a head cannot be used."""
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        return "it has NaN or infinite values"
    if SAFE not in head.categories:
        return f"none of its categories is '{SAFE}'"
    for name, one in head.projections.items():
        if one.matrix_DK.shape != (len(one.canary_D), len(one.offset_K)):
            return f"the projection '{name}' has shape {one.matrix_DK.shape}"
    for name, expert in head.experts.items():
        wide = (len(expert.weight_SC), len(head.categories))
        if expert.weight_SC.shape != wide or not -1.0 < expert.threshold < 1.0:
            return f"'{name}': weights {expert.weight_SC.shape}, threshold {expert.threshold}"
        for encoder, support_SK in expert.support_SK.items():
            if support_SK.shape != (wide[0], len(head.projections[encoder].offset_K)):
                return f"'{name}': training prompts of shape {support_SK.shape}"
    return None
