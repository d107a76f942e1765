"""The planner's figures against what a training step keeps and computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.costs import NANO_CLIP_THW, ARWorkload, usual_clip
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput
from nemo_cosmos.models.autoregressive.presets import AUTOREGRESSIVE
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.process.training_step import make_targets, next_code_loss
from nemo_cosmos.models.common.costs import Precision, Split
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.planning.counted import KeptBytes
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.platform.distributed import single_process_groups

PRECISE = Precision.of("32", grad_reduce_in_fp32=True, ema=False)
GRID = (4, 12, 16)
TEXT = {"context_channels": 64, "begin_token": True, "absolute_positions": True}


def config(**changes: Any) -> ARConfig:
    sizes = {"num_layers": 3, "hidden_size": 192, "ffn_hidden_size": 512, "vocab_size": 1000}
    heads = {"num_attention_heads": 4, "num_query_groups": 2, "layer_spec": "local"}
    return ARConfig(**{**sizes, **heads, **changes})


@pytest.mark.parametrize("text", [False, True])
def test_activations_are_those_that_autograd_keeps(text: bool) -> None:
    ensure_model_parallel()
    own = config(**(TEXT if text else {}))
    net = ARNetwork(own).train()
    kept = KeptBytes(net)
    codes = torch.randint(1000, (2, *GRID))
    with kept.hooks():
        targets = make_targets(codes, own, ARProcess(), None)
        table = net.place_table(GRID, codes.device)
        context = torch.randn(2, 24, 64) if text else None
        logits = net(TokenInput(targets.tokens_BL, table.at(targets.index_L), context))
        next_code_loss(logits, targets, 1e-4, 1000, single_process_groups().tp).mean()
    workload = ARWorkload(own, GRID, 24, 2, 2, PRECISE)
    estimated = 3 * workload.layer_bytes(Split()) + workload.end_bytes(Split())
    assert estimated == pytest.approx(kept.total, rel=0.05)


def test_the_4b_model_on_paper() -> None:
    workload = ARWorkload(AUTOREGRESSIVE["ar_4b"].config(), (5, 40, 64), 0, 1, 8, PRECISE)
    assert workload.num_tokens == 12_800
    assert workload.parameters.network == 4_014_088_192
    # Twice the parameters a token but for the embedding's, and attention to half of the tokens.
    products = 2 * 12_800 * (4_014_088_192 - 64_000 * 4096)
    attention = 16 * 2 * 12_800**2 * 4096
    assert workload.flops.total == pytest.approx(products + attention, rel=1e-3)


def test_layouts_that_do_not_divide_are_refused() -> None:
    workload = ARWorkload(config(), (3, 3, 5), 0, 1, 8, PRECISE)
    with pytest.raises(ConfigError, match="multiple of 4"):
        workload.check_split(Split(cp=2))
    with pytest.raises(ConfigError, match="num_query_groups=2"):
        workload.check_split(Split(tp=4))
    workload.check_split(Split(pp=3))


@pytest.mark.parametrize(
    ("name", "max_frames", "expected"),
    [
        ("ar_4b", 5, (33, 640, 1024)),
        ("ar_4b", 3, (17, 640, 1024)),
        ("ar_nano", 16, NANO_CLIP_THW),
    ],
)
def test_a_network_is_planned_for_the_longest_usual_clip_that_it_takes(
    name: str, max_frames: int, expected: tuple[int, int, int]
) -> None:
    preset = AUTOREGRESSIVE[name]
    tokenizer = TOKENIZERS[preset.tokenizer]
    assert usual_clip(preset.config(max_frames=max_frames), tokenizer) == expected
