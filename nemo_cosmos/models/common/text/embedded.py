"""The embedded default: flan-t5-small as an int8 ONNX graph that a package carries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH, TextEncoder
from nemo_cosmos.perception.onnx import load_onnx

EMBEDDED_DIM = 512


class EmbeddedTextEncoder(TextEncoder):
    """flan-t5-small's encoder under onnxruntime; the weights are fetched once (68 MB).

    Prompts run one by one: the graph quantises its activations by their range, so in a batch the
    neighbours of a prompt would change its embedding.

    Args:
        max_length: number of token positions.

    Raises:
        AssetError: the weights are not in the cache and the package index is unreachable.
    """

    kind = "embedded"

    def __init__(self, max_length: int = REFERENCE_MAX_LENGTH) -> None:
        from tokenizers import Tokenizer

        super().__init__(None, EMBEDDED_DIM, max_length)
        self._tokenizer = Tokenizer.from_file(str(asset_path("flan_t5_small_tokenizer")))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._network = load_onnx(asset_path("flan_t5_small_encoder"), torch.get_num_threads())

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each prompt, with the end-of-sequence token."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(prompts))]

    def embed(self, tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Encode one sequence at a time."""
        return [self._embed_one(ids) for ids in tokens]

    def _embed_one(self, ids: Sequence[int]) -> torch.Tensor:
        ids_1L = np.asarray([ids], dtype=np.int64)
        feeds = {"input_ids": ids_1L, "attention_mask": np.ones_like(ids_1L)}
        (embedding_1LD,) = self._network.run(feeds, ["last_hidden_state"])
        return torch.from_numpy(embedding_1LD[0]).float()
