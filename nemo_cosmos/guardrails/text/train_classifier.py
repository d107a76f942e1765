"""Train the embedded text classifier's head; the same prompts give the same file.

    python -m nemo_cosmos.guardrails.text.train_classifier benchmarks/guard_prompts/development*.tsv

The threshold comes from eightfold cross-validation on the training prompts: the smallest one at
which the share of refused safe prompts is at most ``--false-positive-rate``. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import SAFE
from nemo_cosmos.guardrails.text.normalise import legible
from nemo_cosmos.guardrails.text.prompt_set import read_prompts
from nemo_cosmos.guardrails.text.text_classifier import CANARY, HEAD_FILE, read_head
from nemo_cosmos.perception.sentence import load_sentence_encoder
from nemo_cosmos.storage import atomic_path

INVERSE_REGULARISATION = 10.0
NUM_FOLDS = 8


def cross_validated_harm(features_ND: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each prompt's probability of harm, from a head that was not trained on it."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=0)
    probabilities_NC = cross_val_predict(
        _regression(), features_ND, labels, cv=folds, method="predict_proba"
    )
    return 1.0 - probabilities_NC[:, sorted(set(labels)).index(SAFE)]


def train(
    prompt_files: Sequence[Path], head_file: Path, false_positive_rate: float
) -> dict[str, float]:
    """Fit the head, choose its threshold and write it.

    Returns:
        ``threshold``, and the cross-validated ``recall`` and ``false_positive_rate``.
    """
    from safetensors.numpy import save_file

    prompts = [prompt for file in prompt_files for prompt in read_prompts(file)]
    encoder = load_sentence_encoder()
    features_ND = encoder([legible(prompt.text) for prompt in prompts])
    labels = np.array([prompt.label for prompt in prompts])
    harm_N, is_safe_N = cross_validated_harm(features_ND, labels), labels == SAFE
    threshold = float(np.quantile(harm_N[is_safe_N], 1.0 - false_positive_rate, method="higher"))
    threshold = round(threshold + 0.005, 3)
    fitted = _regression().fit(features_ND, labels)
    tensors = {
        # scikit-learn's array is in column order, and safetensors writes the memory unchanged.
        "weight": np.ascontiguousarray(fitted.coef_, dtype=np.float32),
        "bias": fitted.intercept_.astype(np.float32),
        "canary": encoder([CANARY])[0],
    }
    described = {"categories": fitted.classes_.tolist(), "threshold": threshold}
    with atomic_path(head_file) as temporary:
        save_file(tensors, temporary, metadata={"head": json.dumps(described)})
    difference = np.abs(
        read_head(head_file).probabilities(features_ND) - fitted.predict_proba(features_ND)
    ).max()
    if difference > 1e-4:
        raise GuardrailError(
            f"The written head '{head_file}' differs from the trained one by {difference:.3g} in "
            "its probabilities; do not use it, and check how its tensors are stored."
        )
    refused_N = harm_N >= threshold
    return {
        "threshold": threshold,
        "recall": round(float(refused_N[~is_safe_N].mean()), 3),
        "false_positive_rate": round(float(refused_N[is_safe_N].mean()), 3),
    }


def _regression():  # type: ignore[no-untyped-def]  # scikit-learn has no types
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000)


def main() -> None:
    """Parse the command line, train, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompts", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=HEAD_FILE)
    parser.add_argument("--false-positive-rate", type=float, default=0.02)
    arguments = parser.parse_args()
    print(json.dumps(train(arguments.prompts, arguments.out, arguments.false_positive_rate)))


if __name__ == "__main__":
    main()
