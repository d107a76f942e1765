"""The network as decoders see it: feed new tokens, get scores of what follows each.

Shape suffixes: B videos, L new tokens, V codes, M text tokens, C channels of the text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from megatron.core.tensor_parallel.mappings import gather_from_tensor_model_parallel_region
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.decoding.tree import Tree
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.network.places import Grid, check_grid
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput
from nemo_cosmos.models.common.attention.cache import KeyValueCache
from nemo_cosmos.models.common.attention.masks import TreeMask
from nemo_cosmos.platform import kernels, upload

PREFILL_TOKENS = 512
"""Tokens of the given frames that are fed at once: enough to fill a device, and little memory."""


class Scorer:
    """A network with a cache of the tokens that it was fed.

    Args:
        net: the whole network, or this tensor-parallel rank's part of it.
        grid_thw: latent frames, rows and columns of the videos.
        batch_size: number of videos.
        spare: tokens that may be fed beyond a video's end.
        text_BMC: text embeddings, with what controls add to them; None for a model without.
        negative_BMC: what guidance leads away from; needed where ``guidance`` is not 0.
        guidance: how strongly to follow the text.
        frame_BTE: what controls add to the tokens before the codes of each latent frame; None
            without.

    Raises:
        ConfigError: the rank holds a pipeline stage, or guidance has no text to follow.
    """

    def __init__(
        self,
        net: ARNetwork,
        grid_thw: Grid,
        batch_size: int = 1,
        *,
        spare: int = 0,
        text_BMC: Tensor | None = None,
        negative_BMC: Tensor | None = None,
        guidance: float = 0.0,
        frame_BTE: Tensor | None = None,
    ) -> None:
        if not (net.pre_process and net.post_process):
            raise ConfigError(
                "A pipeline stage cannot decode: each token needs all layers. Set "
                "pipeline_model_parallel_size=1; tensor parallelism shares out the weights."
            )
        if guidance and (text_BMC is None or negative_BMC is None):
            raise ConfigError(
                f"guidance={guidance} follows a text, but the model has none. Set it to 0."
            )
        self.net, self.grid_thw, self.batch_size = net, grid_thw, batch_size
        self.num_codes = check_grid(grid_thw, net.config)
        self.begins = int(net.config.begin_token)
        self.guidance = guidance
        self.device = next(net.parameters()).device
        self.table = net.place_table(grid_thw, self.device)
        self.output_weight_VE = kernels.by_columns(net.output.weight)
        texts = [text_BMC] if not guidance else [text_BMC, negative_BMC]
        joined = [text for text in texts if text is not None]
        self.text = net.encode_text(torch.cat(joined).to(self.device)) if joined else None
        if frame_BTE is not None and guidance:
            frame_BTE = frame_BTE.repeat(2, 1, 1)
        self.frame_BTE = frame_BTE
        self.cache = KeyValueCache.of(
            net.config,
            batch_size * (2 if guidance else 1),
            self.num_codes + self.begins + spare,
            device=self.device,
        )
        self.num_passes = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens that each video was fed."""
        return self.cache.lengths[: self.batch_size]

    @torch.no_grad()
    def feed(self, tokens_BL: Tensor, is_scored: bool = True) -> Tensor:
        """Score the code that follows each new token.

        Args:
            tokens_BL: the tokens behind those that were fed.
            is_scored: whether scores are asked for; without, the result has no meaning.

        Returns:
            logits_LBV of all codes.
        """
        x_LBE = self.run(tokens_BL)
        return self.score(x_LBE) if is_scored else x_LBE

    @torch.no_grad()
    def run(self, tokens_BL: Tensor, tree: Tree | None = None) -> Tensor:
        """Run the layers over new tokens, and append them to the cache.

        Args:
            tokens_BL: the tokens behind those that were fed.
            tree: the tree whose nodes they are; by default they are in a row.

        Returns:
            What the last layer gives, (L, B, E); with guidance, B counts every video twice.
        """
        num_new = tokens_BL.shape[1]
        first_1B = upload(torch.tensor(self.cache.lengths), self.device)[None]
        depths = range(num_new) if tree is None else tree.depths
        index_LB = first_1B + upload(torch.tensor(depths), self.device)[:, None]
        places = self.table.at(index_LB.clamp(max=len(self.table.cos_PD) - 1))
        tokens = tokens_BL.repeat(2, 1) if self.guidance else tokens_BL
        mask = None if tree is None else TreeMask(tree.parents)
        inputs = TokenInput(
            tokens, places, self.text, self.cache, mask, is_scored=False, frame_BTE=self.frame_BTE
        )
        x_LBE: Tensor = self.net(inputs)
        self.cache.advance(num_new)
        self.num_passes += 1
        return x_LBE

    @torch.no_grad()
    def score(self, x_LBE: Tensor) -> Tensor:
        """Return logits_LBV of the code behind each token of what :meth:`run` gave, guided."""
        return self._score(self.net.norm(x_LBE))

    @torch.no_grad()
    def score_ahead(self, x_1BE: Tensor, heads: Heads) -> Tensor:
        """Return logits_KBV of the K codes behind the next one, of one token of each video."""
        return self._score(heads(self.net.norm(x_1BE)[0]))

    @torch.no_grad()
    def score_by(self, x_LBE: Tensor, heads: Heads, head: int) -> Tensor:
        """Return logits_LBV of one head, counted from 0, of each token."""
        return self._score(heads.one(self.net.norm(x_LBE), head))

    def _score(self, h_LBE: Tensor) -> Tensor:
        logits_LBV: Tensor
        logits_LBV, _ = self.net.output(h_LBE, weight=self.output_weight_VE)
        logits_LBV = gather_from_tensor_model_parallel_region(logits_LBV, group=self.net.tp_group)
        logits_LBV = logits_LBV[..., : self.net.config.vocab_size]
        if self.guidance:
            with_text, without = logits_LBV.float().chunk(2, dim=1)
            logits_LBV = with_text + self.guidance * (with_text - without)
        return logits_LBV

    def roll_back(self, counts: Sequence[int]) -> None:
        """Forget the last tokens of each video."""
        if any(counts):
            self.cache.roll_back([*counts, *counts] if self.guidance else counts)

    def tokens_at(self, x_LBE: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return one token of each video of what :meth:`run` gave, (1, B, E)."""
        numbers = [*numbers, *numbers] if self.guidance else numbers
        index_B = torch.tensor(numbers, device=self.device)
        return x_LBE[index_B, torch.arange(len(index_B), device=self.device)][None]

    def keep(self, num_tokens: int, kept: Sequence[Sequence[int]]) -> None:
        """Of the last tokens, the nodes of a tree, remember those of each video's path."""
        self.cache.keep(num_tokens, [*kept, *kept] if self.guidance else kept)

    def prefill(self, codes: Sequence[Tensor]) -> None:
        """Feed all tokens but the last of each video: the first pass of a decoder feeds that.

        Args:
            codes: the given codes of each video, (n,); videos may have different numbers.
        """
        begin = [torch.tensor([self.net.config.begin_id])] if self.begins else []
        prompts = [torch.cat([*begin, given.cpu()])[:-1] for given in codes]
        longest = max(len(prompt) for prompt in prompts)
        for first in range(0, longest, PREFILL_TOKENS):
            parts = [prompt[first : first + PREFILL_TOKENS] for prompt in prompts]
            size = max(len(part) for part in parts)
            tokens_BL = torch.zeros(len(parts), size, dtype=torch.int64)
            for row, part in zip(tokens_BL, parts, strict=True):
                row[: len(part)] = part
            self.feed(tokens_BL.to(self.device), is_scored=False)
            self.roll_back([size - len(part) for part in parts])
