"""The nano T5: a SentencePiece vocabulary of the corpus and a tiny encoder, saved as one folder.

The encoder is not trained. Its fixed random weights (Glorot-like T5 initialisation from a seed) mix
the words of a caption into distinct vectors. That is enough for a nano world model to learn its few
commands, and needs no download. Real meaning comes from ``embedded`` or a trained T5.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from nemo_cosmos.errors import PromptError
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH
from nemo_cosmos.storage import atomic_path

NANO_DIM = 128
PAD_ID, END_ID, UNKNOWN_ID = 0, 1, 2
_SPIECE = "spiece.model"


def train_sentencepiece(
    captions: Sequence[str], folder: str | os.PathLike[str], vocab_size: int = 1024
) -> Path:
    """Train a unigram vocabulary in T5's layout (pad 0, end 1, unknown 2, no begin).

    Args:
        captions: the corpus; empty captions are left out.
        folder: folder of the new ``spiece.model``.
        vocab_size: upper bound of the vocabulary; a small corpus gives fewer pieces.

    Returns:
        The file ``folder/spiece.model``.

    Raises:
        PromptError: there is no caption with a word in it.
    """
    import sentencepiece

    sentences = [caption.strip() for caption in captions if caption.strip()]
    if not sentences:
        raise PromptError(
            f"A vocabulary cannot be trained: none of {len(captions)} captions holds text. Caption "
            "the clips first ('nemo-cosmos curate' does it)."
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=PAD_ID,
        eos_id=END_ID,
        unk_id=UNKNOWN_ID,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    target = Path(folder) / _SPIECE
    with atomic_path(target) as temporary:
        temporary.write_bytes(model.getvalue())
    return target


def build_nano_t5(
    captions: Sequence[str],
    folder: str | os.PathLike[str],
    vocab_size: int = 1024,
    dim: int = NANO_DIM,
    seed: int = 1,
) -> Path:
    """Make a folder that the text encoder ``t5`` loads: vocabulary, tokenizer and tiny encoder.

    Args:
        captions: corpus of the vocabulary.
        folder: the new folder, written whole or not at all.
        vocab_size: upper bound of the vocabulary.
        dim: number of embedding channels, a multiple of 32.
        seed: seed of the weights; the caller's random state is left alone.

    Returns:
        The folder.

    Raises:
        PromptError: there is no caption with a word in it.
    """
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    with atomic_path(folder) as temporary:
        spiece = train_sentencepiece(captions, temporary, vocab_size)
        tokenizer = T5Tokenizer(
            str(spiece), extra_ids=0, legacy=True, model_max_length=REFERENCE_MAX_LENGTH
        )
        tokenizer.save_pretrained(temporary)
        config = T5Config(
            vocab_size=len(tokenizer),
            d_model=dim,
            d_kv=32,
            d_ff=2 * dim,
            num_layers=2,
            num_heads=dim // 32,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=PAD_ID,
            eos_token_id=END_ID,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            T5EncoderModel(config).save_pretrained(temporary, safe_serialization=True)
    return Path(folder)
