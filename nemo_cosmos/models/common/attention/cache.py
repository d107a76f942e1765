"""Keys and values of the tokens that a decoder has already seen.

All layers share one count of tokens for each sample. A pass over new tokens *appends* their keys
and values in every layer, behind those that count; after the pass the caller *advances* by the
number of new tokens. A decoder that guesses several tokens at once then *rolls back* to those it
accepts::

    cache = KeyValueCache.of(config, batch_size=2, max_tokens=128)
    ...                         # every layer: k, v = cache.layer(i).append(k, v)
    cache.advance(4)
    cache.roll_back([3, 1])     # the first sample keeps one of the four, the second keeps three

Memory is allocated once. Nothing is cleared on a roll-back: what does not count is hidden by the
mask, and overwritten by the next pass.

Shape suffixes: B batch, L new tokens, M tokens of the cache, G groups of heads that share keys and
values (on this rank), D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import default_device


class KeyValueCache:
    """The keys and values of all layers of this rank.

    Args:
        num_layers: number of layers.
        batch_size: number of samples.
        max_tokens: number of tokens that a sample may have.
        num_groups: G; number of heads that have keys and values of their own.
        head_dim: D.
        dtype: type that keys and values are kept in.
        device: where they are kept; the default device by default.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        max_tokens: int,
        num_groups: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        # Tokens beside channels: what attention reads of a head then lies in one piece.
        shape = (num_layers, 2, batch_size, num_groups, max_tokens, head_dim)
        self.store_N2BGMD = torch.zeros(shape, dtype=dtype, device=device or default_device())
        self._lengths = [0] * batch_size

    @classmethod
    def of(
        cls,
        config: TransformerConfig,
        batch_size: int,
        max_tokens: int,
        *,
        num_layers: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> KeyValueCache:
        """Make a cache for a network.

        Args:
            config: the network's configuration.
            batch_size: number of samples.
            max_tokens: number of tokens that a sample may have.
            num_layers: number of layers on this rank; the network's by default.
            dtype: type of keys and values; the parameters' by default.
            device: where they are kept; the default device by default.
        """
        num_groups = config.num_query_groups or config.num_attention_heads
        head_dim = config.kv_channels or config.hidden_size // config.num_attention_heads
        return cls(
            num_layers or config.num_layers,
            batch_size,
            max_tokens,
            # Megatron gives every tensor-parallel rank one group at least.
            max(num_groups // config.tensor_model_parallel_size, 1),
            head_dim,
            dtype=dtype or config.params_dtype,
            device=device,
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens that count, for each sample."""
        return tuple(self._lengths)

    @property
    def max_tokens(self) -> int:
        """Number of tokens that a sample may have."""
        return self.store_N2BGMD.shape[4]

    def layer(self, index: int) -> LayerCache:
        """The cache of one layer, counted from 0 on this rank."""
        return LayerCache(self, self.store_N2BGMD[index])

    def advance(self, num_tokens: int) -> None:
        """Count the tokens that all layers have appended."""
        self.check_room(num_tokens)
        self._lengths = [length + num_tokens for length in self._lengths]

    def roll_back(self, num_tokens: int | Sequence[int]) -> None:
        """Forget the last tokens.

        Args:
            num_tokens: number of tokens, for all samples or for each of them.

        Raises:
            ConfigError: a sample has fewer tokens, or a number is missing or negative.
        """
        counts = [num_tokens] * len(self._lengths) if isinstance(num_tokens, int) else num_tokens
        pairs = list(zip(self._lengths, counts, strict=False))
        if len(counts) != len(self._lengths) or any(not 0 <= n <= have for have, n in pairs):
            raise ConfigError(
                f"A cache of {list(self._lengths)} tokens cannot be rolled back by {num_tokens}. "
                "Give a number for all samples, or one for each, of 0 up to the tokens it has."
            )
        self._lengths = [have - count for have, count in pairs]

    def keep(self, num_tokens: int, kept: Sequence[Sequence[int]]) -> None:
        """Of the last tokens, keep some of each sample, and move them together.

        Args:
            num_tokens: number of last tokens, the nodes of a tree.
            kept: numbers of those to keep, rising, for each sample.

        Raises:
            ConfigError: a sample has fewer tokens, or a number is not among them.
        """
        rises = all(list(rows) == sorted(set(rows)) for rows in kept)
        inside = all(0 <= row < num_tokens for rows in kept for row in rows)
        if len(kept) != len(self._lengths) or not (rises and inside):
            raise ConfigError(
                f"{[list(rows) for rows in kept]!s:.80} are not the tokens to keep of the last "
                f"{num_tokens} of {len(self._lengths)} samples. Give rising numbers for each."
            )
        self.roll_back(num_tokens)
        for sample, (rows, first) in enumerate(zip(kept, self._lengths, strict=True)):
            room = self.store_N2BGMD[:, :, sample]
            if list(rows) != list(range(len(rows))):  # the index copies before it is written
                index = torch.tensor(rows, device=room.device) + first
                room[:, :, :, first : first + len(rows)] = room[:, :, :, index]
        self._lengths = [first + len(rows) for first, rows in zip(self._lengths, kept, strict=True)]

    def clear(self) -> None:
        """Forget all tokens, to decode other samples in the same memory."""
        self._lengths = [0] * len(self._lengths)

    def check_room(self, num_tokens: int) -> None:
        """Require room for more tokens.

        Raises:
            ConfigError: a sample would have more than the cache was made for.
        """
        if max(self._lengths) + num_tokens > self.max_tokens:
            raise ConfigError(
                f"{num_tokens} more tokens do not fit a cache of {self.max_tokens}, which holds "
                f"{max(self._lengths)}. Make it with a larger max_tokens, or generate fewer."
            )


class LayerCache:
    """The keys and values of one layer, as its attention uses them.

    Args:
        cache: the cache that counts the tokens.
        store_2BGMD: memory of this layer's keys and values.
    """

    def __init__(self, cache: KeyValueCache, store_2BGMD: torch.Tensor) -> None:
        self.cache = cache
        self.store_2BGMD = store_2BGMD

    @property
    def offsets(self) -> tuple[int, ...]:
        """Position of the next token; one for each sample."""
        return self.cache.lengths

    def append(
        self, k_LBGD: torch.Tensor, v_LBGD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values behind those that count, and return all of them.

        Args:
            k_LBGD: keys.
            v_LBGD: values.

        Returns:
            Keys and values (M, B, G, D), M being the longest sample's number of tokens. What lies
            behind a shorter sample's tokens has no meaning.

        Raises:
            ConfigError: the cache is full, or was made for another batch or other heads.
        """
        num_new, batch, *heads = k_LBGD.shape
        _, kept_batch, groups, _, head_dim = self.store_2BGMD.shape
        if (batch, *heads) != (kept_batch, groups, head_dim):
            raise ConfigError(
                f"Keys of {batch} samples, {heads[0]} heads and {heads[1]} channels do not fit a "
                f"cache of {kept_batch}, {groups} and {head_dim}. Make the cache for this batch."
            )
        self.cache.check_room(num_new)
        offsets = self.offsets
        for store_BGMD, new_LBGD in zip(self.store_2BGMD, (k_LBGD, v_LBGD), strict=True):
            new_BGLD = new_LBGD.detach().permute(1, 2, 0, 3)
            if len(set(offsets)) == 1:
                store_BGMD[:, :, offsets[0] : offsets[0] + num_new] = new_BGLD
                continue
            for sample, offset in enumerate(offsets):
                store_BGMD[sample, :, offset : offset + num_new] = new_BGLD[sample]
        kept_2BGMD = self.store_2BGMD[:, :, :, : max(offsets) + num_new].to(k_LBGD.dtype)
        k_MBGD, v_MBGD = kept_2BGMD.permute(0, 3, 1, 2, 4)
        return k_MBGD, v_MBGD
