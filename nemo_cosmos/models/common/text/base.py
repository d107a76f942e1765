"""The interface of every text encoder.

Shape suffixes: B prompts, L token positions (``max_length``), D embedding channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, PromptError

REFERENCE_MAX_LENGTH = 512
"""Tokens of the Cosmos diffusion models' prompts (T5-11B, zeros beyond the length)."""

PROBE_TEXT = "A robot arm lifts a red block off the table while the camera stands still."
PROBE_CHANNELS = 64
_SHOWN_CHARACTERS = 60


class TextEncoder(ABC):
    """Turns prompts of any length into embeddings of one padded layout.

    Attributes:
        kind: name under which :func:`load_text_encoder` builds it.
        path: folder or hub name of the weights; None where a package carries them.
        dim: embedding channels D.
        max_length: token positions L, the end-of-sequence token included.
    """

    kind: ClassVar[str]

    def __init__(self, path: str | None, dim: int, max_length: int) -> None:
        if max_length < 1:
            raise ConfigError(
                f"The text encoder's max_length is {max_length}; expected a positive number of "
                f"tokens. The reference is {REFERENCE_MAX_LENGTH}."
            )
        self.path = path
        self.dim = dim
        self.max_length = max_length

    @abstractmethod
    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each prompt, with the end-of-sequence token, of any length."""

    @abstractmethod
    def embed(self, tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Encode token sequences; one float32 ``(length, D)`` tensor each, on the CPU."""

    def encode(
        self, prompts: Sequence[str], truncate: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts into the layout of the diffusion models.

        An empty string is legal: it is the end-of-sequence token alone, T5's "no text". An empty
        list gives tensors with B = 0.

        Args:
            prompts: any number of texts.
            truncate: whether a prompt that is too long is cut instead of refused.

        Returns:
            ``embeddings_BLD`` float32, zeros beyond each prompt's length, and ``mask_BL`` float32,
            1 where there is a token.

        Raises:
            PromptError: ``prompts`` is a bare string or holds something other than text, or a
                prompt has more than ``max_length`` tokens and ``truncate`` is off.
        """
        _check_texts(prompts)
        tokens = [
            self._fit(prompt, ids, truncate)
            for prompt, ids in zip(prompts, self._tokens(prompts), strict=True)
        ]
        embeddings_BLD = torch.zeros(len(prompts), self.max_length, self.dim)
        mask_BL = torch.zeros(len(prompts), self.max_length)
        for row, embedding_LD in enumerate(self.embed(tokens) if tokens else []):
            embeddings_BLD[row, : len(embedding_LD)] = embedding_LD
            mask_BL[row, : len(embedding_LD)] = 1
        return embeddings_BLD, mask_BL

    def num_tokens(self, prompt: str) -> int:
        """Length of one prompt in tokens, the end-of-sequence token included."""
        return len(self.tokenize([prompt])[0])

    def spec(self) -> JsonObject:
        """Return what a model's ``config.json`` stores, for :func:`load_text_encoder`."""
        spec = {
            "kind": self.kind,
            "path": self.path,
            "max_length": self.max_length,
            "dim": self.dim,
        }
        return spec if self.path is None else {**spec, "probe": self.probe()}

    def probe(self) -> list[float]:
        """What the encoder makes of a known text, by which it is recognised in any folder.

        Returns:
            the first channels of the mean over the tokens.
        """
        (embedding_LD,) = self.embed(self.tokenize([PROBE_TEXT]))
        return [round(float(value), 5) for value in embedding_LD.mean(0)[:PROBE_CHANNELS]]

    def _tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        return self.tokenize(prompts) if prompts else []

    def _fit(self, prompt: str, tokens: list[int], truncate: bool) -> list[int]:
        """Return at most ``max_length`` tokens; a cut prompt keeps its end-of-sequence token."""
        if len(tokens) <= self.max_length:
            return tokens
        if truncate:
            return [*tokens[: self.max_length - 1], tokens[-1]]
        raise PromptError(
            f"The prompt '{prompt[:_SHOWN_CHARACTERS]}...' has {len(tokens)} tokens; the text "
            f"encoder '{self.kind}' takes at most {self.max_length}. Shorten it by about "
            f"{len(tokens) - self.max_length} tokens."
        )


def _check_texts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str):
        raise PromptError(
            "The text encoder got one string, expected a list of strings. Write [prompt]."
        )
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise PromptError(
                f"Prompt {index} is of type {type(prompt).__name__}, expected text. A missing "
                "caption is written as an empty string."
            )
