"""What the Megatron CPU backend costs in a training step: nothing that can be measured.

One layer of the diffusion transformer, built from Megatron-Core's modules on the CPU backend,
against the same layer written in plain PyTorch with the same weights. The two alternate in one
process; the figure is the median of the paired ratios (1: no cost; above 1: Megatron is faster),
of CPU seconds on one thread, which a busy machine disturbs least.
Outputs and gradients are compared first. Prints one JSON line.

    python benchmarks/cpu_backend.py [--pairs 30] [--tokens 256] [--width 256]
"""

from __future__ import annotations

import argparse
import json
import warnings

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from pairs import alternate, machine, summary  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.overrides import _get_current_function_mode_stack  # noqa: E402

from nemo_cosmos.models.common.fused import add_gated, modulate  # noqa: E402
from nemo_cosmos.models.common.rope import Rope3D, RopeTable, apply_rope  # noqa: E402
from nemo_cosmos.models.diffusion.network.config import DiTConfig  # noqa: E402
from nemo_cosmos.models.diffusion.network.dit import DiT  # noqa: E402
from nemo_cosmos.models.diffusion.network.layer_inputs import LayerInputs  # noqa: E402
from nemo_cosmos.models.diffusion.network.layers import DiTLayer  # noqa: E402
from nemo_cosmos.platform import ensure_model_parallel  # noqa: E402

TEXT_WIDTH, TEXT_TOKENS, RANK = 128, 32, 64


class PlainLayer(nn.Module):
    """The layer in plain PyTorch: the same arithmetic, none of Megatron's modules."""

    def __init__(self, layer: DiTLayer, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.weights = nn.ParameterDict(
            {
                name.replace(".", "_"): parameter.detach().clone()
                for name, parameter in layer.named_parameters()
            }
        )

    def forward(self, x: torch.Tensor, c: LayerInputs) -> torch.Tensor:
        """Return the tokens after the layer."""
        w = self.weights
        shift, scale, gate = self._modulation("self_attention", c)
        qkv = F.linear(modulate(x, shift, scale), w["self_attention_linear_qkv_weight"])
        q, k, v = qkv.unflatten(-1, (self.heads, -1)).chunk(3, dim=-1)
        rope = RopeTable(c.rope_cos_LB1D, c.rope_sin_LB1D)
        q, k = (
            apply_rope(self._norm(q, "self", "q"), rope),
            apply_rope(self._norm(k, "self", "k"), rope),
        )
        x = add_gated(x, gate, self._attend(q, k, v, "self"))
        shift, scale, gate = self._modulation("cross_attention", c)
        q = F.linear(modulate(x, shift, scale), w["cross_attention_linear_q_weight"])
        q = self._norm(q.unflatten(-1, (self.heads, -1)), "cross", "q")
        assert c.context_MBC is not None
        kv = F.linear(c.context_MBC, w["cross_attention_linear_kv_weight"])
        k, v = kv.unflatten(-1, (self.heads, -1)).chunk(2, dim=-1)
        x = add_gated(x, gate, self._attend(q, self._norm(k, "cross", "k"), v, "cross"))
        shift, scale, gate = self._modulation("mlp", c)
        hidden = F.gelu(F.linear(modulate(x, shift, scale), w["mlp_linear_fc1_weight"]))
        return add_gated(x, gate, F.linear(hidden, w["mlp_linear_fc2_weight"]))

    def _modulation(self, part: str, c: LayerInputs) -> tuple[torch.Tensor, ...]:
        w = self.weights
        own = F.linear(c.activated_TBE, w[f"adaln_{part}_linear_1_weight"])
        own = F.linear(own, w[f"adaln_{part}_linear_2_weight"])
        return (own + c.shared_TB3E).chunk(3, dim=-1)

    def _norm(self, x: torch.Tensor, attention: str, which: str) -> torch.Tensor:
        weight = self.weights[f"{attention}_attention_{which}_layernorm_weight"]
        return F.rms_norm(x, x.shape[-1:], weight, 1e-6)

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: str
    ) -> torch.Tensor:
        q, k, v = (t.permute(1, 2, 0, 3) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).flatten(2)
        return F.linear(out, self.weights[f"{attention}_attention_linear_proj_weight"])


def build(tokens: int, width: int) -> tuple[DiTLayer, PlainLayer, torch.Tensor, LayerInputs]:
    """The two layers and their inputs."""
    heads = width // 32
    config = DiTConfig(
        num_layers=1,
        hidden_size=width,
        num_attention_heads=heads,
        crossattn_emb_channels=TEXT_WIDTH,
        adaln_lora_dim=RANK,
    )
    torch.manual_seed(0)
    layer = DiT(config).blocks.layers[0]
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "adaln" in name:
                parameter.normal_(std=0.1)
    rope = Rope3D(width // heads)((1, 16, tokens // 16), None, torch.device("cpu"))
    conditioning = LayerInputs(
        activated_TBE=torch.randn(1, 1, width),
        shared_TB3E=torch.randn(1, 1, 3 * width),
        rope_cos_LB1D=rope.cos_LB1D,
        rope_sin_LB1D=rope.sin_LB1D,
        position_L1E=None,
        context_MBC=torch.randn(TEXT_TOKENS, 1, TEXT_WIDTH),
    )
    return layer, PlainLayer(layer, heads), torch.randn(tokens, 1, width), conditioning


def step(layer: nn.Module, x: torch.Tensor, conditioning: LayerInputs) -> torch.Tensor:
    """Forward and backward; returns the output."""
    layer.zero_grad(set_to_none=True)
    out: torch.Tensor = layer(x, conditioning)
    out.square().mean().backward()
    return out.detach()


def check_equal(
    layer: DiTLayer, plain: PlainLayer, x: torch.Tensor, conditioning: LayerInputs
) -> None:
    """Assert that outputs and gradients agree and that no torch-function mode is active."""
    ours, theirs = step(layer, x, conditioning), step(plain, x, conditioning)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    for name, parameter in layer.named_parameters():
        expected = plain.weights[name.replace(".", "_")].grad
        torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-4)
    assert _get_current_function_mode_stack() == []


def main() -> None:
    """Parse the command line, compare, measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensure_model_parallel()
    layer, plain, x, conditioning = build(arguments.tokens, arguments.width)
    check_equal(layer, plain, x, conditioning)
    pairs = alternate(
        lambda: step(layer, x, conditioning),
        lambda: step(plain, x, conditioning),
        arguments.pairs,
        warm_up=3,
    )
    result = {
        "benchmark": "cpu_backend",
        "against": "the same layer in plain PyTorch",
        "tokens": arguments.tokens,
        "width": arguments.width,
        **summary(pairs),
        **machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
