"""Which of several texts fits a clip, by the two halves of one CLIP model (Radford et al. 2021).

Shape suffixes: L texts, D features.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError

#: Factor of the cosines before the softmax; CLIP's training ends at this value.
LOGIT_SCALE = 100.0


def label_chances(
    model: str, texts: tuple[str, ...], vector_D: NDArray[np.float16]
) -> list[float] | None:
    """Probability of each text for an image embedding of length one.

    Args:
        model: the folder of the CLIP model that made the embedding.
        texts: descriptions of what the image may show.
        vector_D: the image's embedding.

    Returns:
        the probabilities; None for a model without a text half that can be compared (SigLIP, DINOv2
        and others).

    Raises:
        ConfigError: the text half cannot be loaded.
    """
    features_LD = _text_features(model, texts)
    if features_LD is None:
        return None
    logits_L = LOGIT_SCALE * (features_LD @ vector_D.astype(np.float32))
    odds_L = np.exp(logits_L - logits_L.max())
    return [float(value) for value in odds_L / odds_L.sum()]


@functools.lru_cache(maxsize=8)
def _text_features(model: str, texts: tuple[str, ...]) -> NDArray[np.float32] | None:
    """Embeddings of length one, ``(L, D)``."""
    from transformers import AutoConfig, AutoTokenizer, CLIPTextModelWithProjection

    folder = Path(model)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        if AutoConfig.from_pretrained(folder, **options).model_type != "clip":
            return None
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        network: Any = CLIPTextModelWithProjection.from_pretrained(
            folder, use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The text half of the CLIP model in '{folder}' cannot be loaded: {error}. Add its "
            "tokenizer files, or leave the sorting out with --skip video_type."
        ) from error
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        features_LD = network.eval()(**tokens).text_embeds
    normal_LD = torch.nn.functional.normalize(features_LD.float(), dim=1)
    return np.asarray(normal_LD.numpy(), dtype=np.float32)
