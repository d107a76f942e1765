"""Text encoders: prompts become the T5 embeddings that cross-attention reads.

Three kinds share one interface (:class:`TextEncoder`) and one layout, 512 tokens by default with
zeros beyond the prompt: ``t5`` (any T5 through transformers, from a folder or the hub; the
reference is T5-11B, 1024-d), ``embedded`` (flan-t5-small with its weights in a package, 512-d) and
the nano T5 of :func:`build_nano_t5`, which is a folder that ``t5`` loads.
"""

from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH, TextEncoder
from nemo_cosmos.models.common.text.embedded import EmbeddedTextEncoder
from nemo_cosmos.models.common.text.loading import (
    TEXT_ENCODER_KINDS,
    check_text_encoder_spec,
    load_text_encoder,
    text_encoder_spec,
)
from nemo_cosmos.models.common.text.nano import build_nano_t5, train_sentencepiece
from nemo_cosmos.models.common.text.t5 import T5TextEncoder

__all__ = [
    "REFERENCE_MAX_LENGTH",
    "TEXT_ENCODER_KINDS",
    "EmbeddedTextEncoder",
    "T5TextEncoder",
    "TextEncoder",
    "build_nano_t5",
    "check_text_encoder_spec",
    "load_text_encoder",
    "text_encoder_spec",
    "train_sentencepiece",
]
