"""Train the embedded text classifier; the same prompts give the same file.

    python -m nemo_cosmos.guardrails.text.train_classifier benchmarks/guard_prompts/development*.tsv

Each expert is fitted in closed form, and so are the scores that it would give to a training prompt
if it had seen neither that one nor those nearest to it. An expert's threshold comes from these, of
the prompts that the expert is asked about: the smallest one at which the share of refused safe
prompts is at most ``--false-positive-rate``. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import SAFE
from nemo_cosmos.guardrails.text.kernel_head import (
    Expert,
    Floats,
    Head,
    Projection,
    as_stored,
    kernel,
    read_head,
    write_head,
)
from nemo_cosmos.guardrails.text.normalise import legible
from nemo_cosmos.guardrails.text.prompt_set import prompts_sha256, read_prompts
from nemo_cosmos.guardrails.text.text_classifier import (
    CANARY,
    ENGLISH,
    HEAD_FILE,
    MULTILINGUAL,
    Encoder,
    experts_for,
    load_encoders,
)
from nemo_cosmos.storage import atomic_path

#: Main directions that are kept of each encoder's features.
PROJECTION_SIZE = 144
RIDGE = 0.1
GAMMA = {MULTILINGUAL: 0.6, ENGLISH: 0.9}
#: Prompts that are left out with each one: many are translations of one another, and an expert
#: that has seen a translation scores a prompt better than it will score a new one.
NUM_NEIGHBOURS = 5
#: Share of the safe prompts that an expert may refuse, scored in this way. Most of the English
#: ones were written to sound like harm; of those in ``development.tsv`` and
#: ``development_evading.tsv``, which are nearer to what users write, it refuses 0.012.
FALSE_POSITIVE_RATE = 0.03
ENCODERS = {MULTILINGUAL: (MULTILINGUAL,), ENGLISH: (MULTILINGUAL, ENGLISH)}
#: What storing a head in few bits may change of a score.
STORED_TOLERANCE = 0.1


def fit_projection(features_ND: Floats, canary_D: Floats) -> Projection:
    """Return the main directions of standardised features."""
    mean_D, spread_D = features_ND.mean(0), features_ND.std(0) + 1e-6
    scale_D = (spread_D * np.sqrt(features_ND.shape[1])).astype(np.float32)
    standard_ND = ((features_ND - mean_D) / scale_D).astype(np.float64)
    _, directions_DD = np.linalg.eigh(standard_ND.T @ standard_ND)
    size = min(PROJECTION_SIZE, *features_ND.shape)
    matrix_DK = directions_DD[:, ::-1][:, :size] / scale_D[:, None]
    # Stored as float16: what follows is fitted to the stored numbers.
    matrix_DK = matrix_DK.astype(np.float16).astype(np.float32)
    return Projection(matrix_DK, mean_D @ matrix_DK, canary_D)


def fit_expert(
    support_SK: Mapping[str, Floats], targets_SC: Floats, gamma: float
) -> tuple[Expert, Floats]:
    """Fit one expert, without its threshold.

    Returns:
        The expert, and the score of each training prompt from an expert that was trained neither on
        it nor on its nearest neighbours.
    """
    gram_SS = kernel(support_SK, support_SK, gamma).astype(np.float64)
    inverse_SS = np.linalg.inv(gram_SS + RIDGE * np.eye(len(gram_SS)))
    weight_SC = inverse_SS @ targets_SC
    # A block of the inverse gives the residuals of the prompts in it as if they had been left out.
    np.fill_diagonal(gram_SS, np.inf)  # each comes first in its own block, whatever equals it
    blocks_SG = np.argsort(-gram_SS, axis=1, kind="stable")[:, : 1 + NUM_NEIGHBOURS]
    inverse_SGG = inverse_SS[blocks_SG[:, :, None], blocks_SG[:, None, :]]
    left_out_SC = targets_SC - np.linalg.solve(inverse_SGG, weight_SC[blocks_SG])[:, 0]
    expert = Expert(support_SK, weight_SC.astype(np.float32), gamma, 0.0)
    return expert, left_out_SC.astype(np.float32)


def train(
    prompt_files: Sequence[Path],
    head_file: Path,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    encoders: Mapping[str, Encoder] | None = None,
) -> dict[str, dict[str, float]]:
    """Fit the experts, choose their thresholds and write them.

    Args:
        prompt_files: labelled prompts.
        head_file: where the experts are written.
        false_positive_rate: share of the safe prompts that an expert may refuse.
        encoders: features of texts, by name; by default the embedded encoders.

    Returns:
        By expert: ``threshold``, and on prompts left out ``recall`` and ``false_positive_rate``.
    """
    prompts = [prompt for file in prompt_files for prompt in read_prompts(file)]
    encoders = encoders if encoders is not None else load_encoders()
    texts = [legible(prompt.text) for prompt in prompts]
    categories = tuple(sorted({prompt.label for prompt in prompts}))
    places = {name: place for place, name in enumerate(categories)}
    classes_N = np.array([places[prompt.label] for prompt in prompts])
    targets_NC = np.where(np.eye(len(categories))[classes_N] > 0, 1.0, -1.0)
    english_N = np.array([ENGLISH in experts_for(text) for text in texts])
    rows = {MULTILINGUAL: np.arange(len(texts)), ENGLISH: np.flatnonzero(english_N)}
    features = {
        name: encoder([texts[row] for row in rows[name]]) for name, encoder in encoders.items()
    }
    projections = {
        name: fit_projection(features[name], encoder([CANARY])[0])
        for name, encoder in encoders.items()
    }
    projected = {name: projections[name](features[name]) for name in encoders}
    experts, report = {}, {}
    for name, used in ENCODERS.items():
        support = {
            encoder: as_stored(projected[encoder][np.isin(rows[encoder], rows[name])])
            for encoder in used
        }
        expert, left_out_SC = fit_expert(support, targets_NC[rows[name]], GAMMA[name])
        is_safe_S = classes_N[rows[name]] == places[SAFE]
        is_asked_S = np.array([name in experts_for(texts[row]) for row in rows[name]])
        # Where an expert is asked about too little, all prompts judge it.
        if is_asked_S[is_safe_S].any() and is_asked_S[~is_safe_S].any():
            left_out_SC, is_safe_S = left_out_SC[is_asked_S], is_safe_S[is_asked_S]
        harm_S = -left_out_SC[:, places[SAFE]]
        threshold = _threshold(harm_S[is_safe_S], false_positive_rate)
        experts[name] = Expert(support, expert.weight_SC, expert.gamma, threshold)
        report[name] = {
            "threshold": threshold,
            "recall": round(float((harm_S >= threshold)[~is_safe_S].mean()), 3),
            "false_positive_rate": round(float((harm_S >= threshold)[is_safe_S].mean()), 3),
        }
    head = Head(categories, projections, experts, prompts_sha256(prompts))
    with atomic_path(head_file) as temporary:
        write_head(head, temporary)
    _check_stored(head, read_head(head_file), projected, rows, head_file)
    return report


def _threshold(harm_S: Floats, false_positive_rate: float) -> float:
    """Return the smallest score, in steps of 0.001, that few safe prompts reach.

    It is at least 0, where a prompt is as near to harmful ones as to safe ones.
    """
    reached = float(np.quantile(harm_S, 1.0 - false_positive_rate, method="higher"))
    return float(np.clip(round(reached + 0.001, 3), 0.0, 0.999))


def _check_stored(
    head: Head,
    stored: Head,
    projected: Mapping[str, Floats],
    rows: Mapping[str, np.ndarray],
    file: Path,
) -> None:
    """Compare the scores of the stored head with those of the trained one."""
    for name, expert in head.experts.items():
        texts = {key: projected[key][np.isin(rows[key], rows[name])] for key in expert.support_SK}
        difference = np.abs(stored.experts[name].scores(texts) - expert.scores(texts)).max()
        if not difference <= STORED_TOLERANCE:
            raise GuardrailError(
                f"The written head '{file}' differs from the trained one by {difference:.3g} in "
                f"its scores, at most {STORED_TOLERANCE} is expected; do not use it, and check how "
                "its tensors are stored."
            )


def main() -> None:
    """Parse the command line, train, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompts", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=HEAD_FILE)
    parser.add_argument("--false-positive-rate", type=float, default=FALSE_POSITIVE_RATE)
    arguments = parser.parse_args()
    print(json.dumps(train(arguments.prompts, arguments.out, arguments.false_positive_rate)))


if __name__ == "__main__":
    main()
