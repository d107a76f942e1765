"""The activation model against the bytes that autograd is seen to keep, and state by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.models.common.costs import Precision
from nemo_cosmos.models.diffusion.costs import DiffusionWorkload, count_parameters
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.planning.counted import KeptBytes
from nemo_cosmos.planning.hardware import CONTEXT_BYTES
from nemo_cosmos.planning.layout import ParallelLayout
from nemo_cosmos.planning.memory import (
    activation_bytes,
    memory,
)
from nemo_cosmos.platform import ensure_model_parallel

PRECISE = Precision.of("32", grad_reduce_in_fp32=True, ema=False)
HALF = Precision.of("bf16-mixed", grad_reduce_in_fp32=False, ema=True)


def layout(**changes: Any) -> ParallelLayout:
    values = {
        "tp": 1, "cp": 1, "pp": 1, "dp": 1, "fsdp": False, "recompute": "none",
        "num_micro_batches": 1,
    }  # fmt: skip
    return ParallelLayout(**{**values, **changes})


@pytest.mark.filterwarnings("ignore:If you are using transformer_engine:UserWarning")
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize(
    ("num_layers", "batch", "ffn", "fused", "half"),
    [
        (3, 1, None, "auto", False),
        (2, 2, 640, "auto", False),
        (2, 1, None, "plain", False),
        (2, 1, None, "plain", True),
    ],
)
def test_activations_are_those_that_autograd_keeps(
    recompute: str, num_layers: int, batch: int, ffn: int | None, fused: str, half: bool
) -> None:
    """Within 2 per cent: what is not counted is small (modulations, a number for each row)."""
    ensure_model_parallel()
    settings: dict[str, Any] = {} if recompute == "none" else {"recompute_granularity": recompute}
    if recompute == "full":
        settings |= {"recompute_method": "uniform", "recompute_num_layers": 1}
    config = DiTConfig(
        num_layers=num_layers, hidden_size=192, num_attention_heads=4, ffn_hidden_size=ffn,
        crossattn_emb_channels=64, adaln_lora_dim=16, max_frames=4, max_height=32, max_width=32,
        fused=fused, params_dtype=torch.bfloat16 if half else torch.float32, **settings,
    )  # fmt: skip
    net = DiT(config).train()
    kept = KeptBytes(net)
    with kept.hooks():
        net(
            NetworkInput(
                torch.randn(batch, 16, 4, 16, 32),
                torch.zeros(batch),
                torch.randn(batch, 24, 64),
                torch.full((batch,), 24.0),
            )
        )
    precision = HALF if half else PRECISE
    workload = DiffusionWorkload(config, (4, 16, 32), 24, batch, batch, precision)
    estimated = activation_bytes(workload, layout(recompute=recompute))
    if recompute == "full":  # one layer's activations come back during the backward pass
        estimated -= activation_bytes(workload, layout()) - activation_bytes(
            DiffusionWorkload(_one_less(config), (4, 16, 32), 24, batch, batch, precision), layout()
        )
    assert estimated == pytest.approx(kept.total, rel=0.02)


def _one_less(config: DiTConfig) -> DiTConfig:
    values = {**config.architecture(), "num_layers": config.num_layers - 1}
    return DiTConfig.from_architecture(values, fused=config.fused)


def test_state_of_a_14b_model_by_hand() -> None:
    """20 bytes a parameter, as the paper counts: 280 GB reported, and 310 GB of activations."""
    preset = DIFFUSION["diffusion_14b_text2world"]
    workload = DiffusionWorkload(
        preset.config(), (16, 88, 160), 512, 1, 64, HALF, learned_variance=True
    )
    counted = workload.parameters
    assert counted.network == 14_267_149_312
    assert counted.trained == counted.network + 128
    alone = memory(workload, layout())
    state = alone.weights + alone.gradients + alone.optimizer + alone.ema
    assert state == counted.trained * (2 + 2 + 12 + 4)
    assert state == pytest.approx(280e9, rel=0.02)
    assert workload.published_bytes()["activation"] == pytest.approx(310e9, rel=0.01)
    assert alone.total > state + CONTEXT_BYTES


def test_what_each_axis_splits() -> None:
    preset = DIFFUSION["diffusion_7b_text2world"]
    workload = DiffusionWorkload(preset.config(), (16, 88, 160), 512, 1, 64, HALF)

    def of(**changes: Any) -> Any:
        return memory(workload, layout(**changes))

    whole = of()
    assert of(dp=8).optimizer == whole.optimizer / 8
    assert of(dp=4, cp=2).ema == whole.ema / 8
    assert of(dp=8).weights == whole.weights
    assert of(dp=4, cp=2).ema == whole.ema / 8
    assert of(dp=4, cp=2, fsdp=True).weights == whole.weights / 8
    assert of(dp=4, cp=2, fsdp=True).ema == whole.ema / 8
    # the modulation, 5 % of the parameters, is whole on every tensor-parallel process
    assert whole.weights / 8 < of(tp=8).weights < whole.weights / 5.5
    assert whole.weights / 4 < of(pp=4).weights < whole.weights / 3.5
    assert of(cp=4).activations < whole.activations / 3.9
    assert of(tp=4).activations == pytest.approx(whole.activations / 4, rel=0.02)
    # 1F1B keeps as many micro-batches on the first stage as there are stages
    assert of(pp=4, num_micro_batches=8).activations == pytest.approx(whole.activations, rel=0.02)
    assert of(pp=4).activations == pytest.approx(whole.activations / 4, rel=0.02)


def test_counts_are_the_built_networks() -> None:
    from nemo_cosmos.models.diffusion import presets

    for name in ("diffusion_nano_video2world", "diffusion_7b_video2world"):
        counted = count_parameters(DIFFUSION[name].config())
        assert counted.trained == counted.network == presets.count_parameters(DIFFUSION[name])
        assert counted.on_stage(1, 1) == counted.network
