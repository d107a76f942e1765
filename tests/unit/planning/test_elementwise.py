"""The planner's counts of elementwise work against a layer that is run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_cosmos.models.common.rope import Rope3D
from nemo_cosmos.models.diffusion.costs import PLAIN
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.layer_inputs import LayerInputs
from nemo_cosmos.platform import ensure_model_parallel

NUM_TOKENS, WIDTH, HEADS = 4096, 256, 2
PRODUCTS = {
    "mm", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention_for_cpu_backward",
}  # fmt: skip
VIEWS = {
    "view", "_unsafe_view", "t", "transpose", "permute", "unsqueeze", "squeeze", "expand", "slice",
    "split", "split_with_sizes", "select", "detach", "alias", "unflatten", "as_strided",
    "_reshape_alias", "unbind", "empty", "empty_like", "empty_strided",
}  # fmt: skip


class Count(TorchDispatchMode):
    """Counts the kernels of a layer, and the bytes that those between products move."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = self.num_kernels = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        name = op.overloadpacket.__name__
        if name not in VIEWS:
            self.num_kernels += 1
        if name not in VIEWS | PRODUCTS:
            leaves = pytree.tree_leaves((args, kwargs, out))
            tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
            self.num_bytes += sum(x.numel() * x.element_size() for x in tensors)
        return out

    @property
    def passes(self) -> float:
        return self.num_bytes / (NUM_TOKENS * WIDTH * 2)


@pytest.mark.filterwarnings("ignore:If you are using transformer_engine:UserWarning")
def test_plain_passes_are_those_that_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMO_COSMOS_KERNELS", "torch")  # whose attention is one operator
    ensure_model_parallel()
    config = DiTConfig(
        num_layers=1, hidden_size=WIDTH, num_attention_heads=HEADS, crossattn_emb_channels=64,
        adaln_lora_dim=8, params_dtype=torch.bfloat16, fused="plain",
    )  # fmt: skip
    layer = DiT(config).blocks.layers[0]

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape).bfloat16().requires_grad_()

    rope = Rope3D(WIDTH // HEADS)((16, 16, 16), None, torch.device("cpu"))
    inputs = LayerInputs(
        activated_TBE=draw(1, 1, WIDTH),
        shared_TB3E=draw(1, 1, 3 * WIDTH),
        rope_cos_LB1D=rope.cos_LB1D,
        rope_sin_LB1D=rope.sin_LB1D,
        position_L1E=draw(NUM_TOKENS, 1, WIDTH),
        context_MBC=draw(16, 1, 64).detach(),
    )
    with Count() as forward:
        out = layer(draw(NUM_TOKENS, 1, WIDTH), inputs)
    with Count() as backward:
        out.backward(torch.ones_like(out))
    assert forward.passes == pytest.approx(PLAIN.forward_passes, rel=0.03)
    assert backward.passes == pytest.approx(PLAIN.backward_passes, rel=0.03)
    assert forward.num_kernels == pytest.approx(PLAIN.forward_kernels, rel=0.1)
    assert backward.num_kernels == pytest.approx(PLAIN.backward_kernels, rel=0.1)
