"""Decoding with a cache of keys and values equals one pass over all tokens."""

from __future__ import annotations

import pytest
import torch
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.cache import KeyValueCache
from nemo_cosmos.models.common.attention.core import LocalCoreAttention, RopeSelfAttention
from nemo_cosmos.models.common.attention.masks import BlockCausalMask, CausalMask, Mask
from nemo_cosmos.models.common.norms import RMSNorm
from nemo_cosmos.models.common.rope import Rope3D, RopeTable
from nemo_cosmos.platform import ensure_model_parallel

BATCH, WIDTH, HEADS, GROUPS, TOKENS = 2, 48, 4, 2, 12

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients() -> object:
    with torch.no_grad():
        yield


class Decoder(torch.nn.Module):
    """Two layers of causal attention with grouped queries, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        ensure_model_parallel()
        torch.manual_seed(0)
        self.config = TransformerConfig(
            num_layers=2,
            hidden_size=WIDTH,
            num_attention_heads=HEADS,
            num_query_groups=GROUPS,
            add_bias_linear=False,
            attention_dropout=0.0,
            use_cpu_initialization=True,
            normalization="RMSNorm",
        )
        self.layers = torch.nn.ModuleList(
            RopeSelfAttention(
                self.config,
                SelfAttentionSubmodules(
                    linear_qkv=ColumnParallelLinear,
                    core_attention=LocalCoreAttention,
                    linear_proj=RowParallelLinear,
                    q_layernorm=RMSNorm,
                    k_layernorm=RMSNorm,
                ),
                layer_number=number,
                attn_mask_type=AttnMaskType.causal,
            )
            for number in (1, 2)
        )
        self.rope = Rope3D(WIDTH // HEADS)

    def forward(
        self,
        x_LBE: torch.Tensor,
        cache: KeyValueCache | None = None,
        mask: Mask | None = None,
    ) -> torch.Tensor:
        whole = self.rope((TOKENS, 1, 1), None, x_LBE.device)
        lengths = (0,) * BATCH if cache is None else cache.lengths
        by_sample = [slice(length, length + len(x_LBE)) for length in lengths]
        rope = RopeTable(*(torch.cat([t[rows] for rows in by_sample], dim=1) for t in whole))
        for number, layer in enumerate(self.layers):
            part = None if cache is None else cache.layer(number)
            x_LBE = x_LBE + layer(x_LBE, rope, mask=mask, cache=part)
        if cache is not None:
            cache.advance(len(rope.cos_LB1D))
        return x_LBE


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder().eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(TOKENS, BATCH, WIDTH, generator=torch.Generator().manual_seed(1))


def make_cache(decoder: Decoder, max_tokens: int = TOKENS) -> KeyValueCache:
    return KeyValueCache.of(decoder.config, BATCH, max_tokens)


def assert_equal(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mask", [None, CausalMask(window=4), BlockCausalMask(2, window_blocks=2)])
def test_step_by_step_equals_one_pass(
    decoder: Decoder, tokens: torch.Tensor, mask: Mask | None
) -> None:
    whole = decoder(tokens, mask=mask)
    cache = make_cache(decoder)
    steps = (4, 2, 2, 2, 2) if isinstance(mask, BlockCausalMask) else (5, 1, 1, 3, 1, 1)
    parts = [decoder(part, cache, mask) for part in tokens.split(steps)]
    assert_equal(torch.cat(parts), whole)
    assert cache.lengths == (TOKENS,) * BATCH


def test_a_later_token_changes_no_earlier_one(decoder: Decoder, tokens: torch.Tensor) -> None:
    before = decoder(tokens)
    tokens[7] += 1
    difference = (decoder(tokens) - before).abs().amax(dim=(1, 2))
    assert difference[:7].max() == 0 and difference[7:].min() > 1e-4


def test_rejected_guesses_leave_no_trace(decoder: Decoder, tokens: torch.Tensor) -> None:
    whole = decoder(tokens)
    cache = make_cache(decoder)
    decoder(tokens[:4], cache)
    guesses = tokens[4:8].clone()
    guesses[2:] += 1  # two of the four are wrong
    seen = decoder(guesses, cache)
    assert_equal(seen[:2], whole[4:6])
    assert (seen[2:] - whole[6:8]).abs().max() > 1e-3
    cache.roll_back(2)
    assert_equal(decoder(tokens[6:], cache), whole[6:])


def test_samples_may_accept_different_numbers(decoder: Decoder, tokens: torch.Tensor) -> None:
    """The second sample lags behind the first; each goes on from its own length."""
    whole = decoder(tokens)
    cache = make_cache(decoder)
    decoder(tokens[:6], cache)
    cache.roll_back([1, 3])
    assert cache.lengths == (5, 3)
    new = torch.stack([tokens[5:9, 0], tokens[3:7, 1]], dim=1)
    found = decoder(new, cache)
    assert_equal(found[:, 0], whole[5:9, 0])
    assert_equal(found[:, 1], whole[3:7, 1])


def test_kept_tokens_move_together(decoder: Decoder, tokens: torch.Tensor) -> None:
    """Of six new tokens each sample keeps others; the rest and their order are as given."""
    cache = make_cache(decoder)
    decoder(tokens[:4], cache)
    decoder(tokens[4:10], cache)
    before = cache.store_N2BGMD.clone()
    kept = [[0, 2, 5], []]
    cache.keep(6, kept)
    assert cache.lengths == (7, 4)
    moved = before[:, :, 0][..., [0, 1, 2, 3, 4, 6, 9], :]
    assert torch.equal(cache.store_N2BGMD[:, :, 0, :, :7], moved)
    assert torch.equal(cache.store_N2BGMD[:, :, 1], before[:, :, 1])
    for wrong in ([[0]], [[6], []], [[1, 0], []], [[1, 1], []]):
        with pytest.raises(ConfigError, match="not the tokens to keep"):
            cache.keep(2, wrong)


def test_a_cleared_cache_is_a_new_one(decoder: Decoder, tokens: torch.Tensor) -> None:
    cache = make_cache(decoder)
    decoder(tokens.flip(0), cache)
    cache.clear()
    assert_equal(decoder(tokens, cache), decoder(tokens))


def test_keys_of_grouped_heads_are_kept_once_and_in_the_asked_type(decoder: Decoder) -> None:
    cache = KeyValueCache.of(decoder.config, BATCH, 7, dtype=torch.bfloat16)
    assert cache.store_N2BGMD.shape == (2, 2, BATCH, GROUPS, 7, WIDTH // HEADS)
    keys = torch.randn(3, BATCH, GROUPS, WIDTH // HEADS)
    k, v = cache.layer(1).append(keys, keys)
    assert k.dtype == v.dtype == torch.float32
    assert torch.equal(k, keys.bfloat16().float())
    before = cache.store_N2BGMD.data_ptr()
    cache.advance(3)
    cache.layer(1).append(keys, keys)
    assert cache.store_N2BGMD.data_ptr() == before, "allocated once"


def test_what_does_not_fit_is_refused(decoder: Decoder, tokens: torch.Tensor) -> None:
    cache = make_cache(decoder, max_tokens=4)
    with pytest.raises(ConfigError, match="5 more tokens do not fit a cache of 4"):
        decoder(tokens[:5], cache)
    decoder(tokens[:3], cache)
    for wrong in (4, [1], [1, 4], -1):
        with pytest.raises(ConfigError, match="cannot be rolled back"):
            cache.roll_back(wrong)
    with pytest.raises(ConfigError, match="Keys of 3 samples"):
        cache.layer(0).append(*[torch.zeros(1, 3, GROUPS, 12)] * 2)
