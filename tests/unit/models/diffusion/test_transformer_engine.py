"""How the network runs with the ``transformer_engine`` layer spec, and what it refuses.

Its classes compute on GPUs alone. Here they are replaced by classes that compute on a CPU, take the
real ones' arguments, which are compared with Megatron-Core's source, and refuse what they refuse.
What is built of the real ones is tested in ``engine/``; what they compute, in ``tests/gpu``.
"""

from __future__ import annotations

import ast
import importlib.machinery
import inspect
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from megatron.core.extensions import transformer_engine as extensions
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.enums import AttnMaskType
from torch import nn
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, MissingDependencyError
from nemo_cosmos.models.common.attention.core import LocalCoreAttention
from nemo_cosmos.models.common.attention.masks import (
    CAUSAL,
    FULL,
    BlockCausalMask,
    CausalMask,
    Mask,
)
from nemo_cosmos.models.common.attention.transformer_engine import transformer_engine_cores
from nemo_cosmos.models.common.megatron import fp8
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_packs
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.network.packs import PackedDiT
from nemo_cosmos.platform import dependencies, ensure_model_parallel


class Column(ColumnParallelLinear):
    def __init__(
        self, input_size, output_size, *, config, init_method, gather_output, bias, skip_bias_add,
        is_expert, skip_weight_param_allocation=False, tp_comm_buffer_name=None, tp_group=None,
        stride=1,
    ):  # fmt: skip
        assert not (gather_output or is_expert or skip_weight_param_allocation), "as the real one"
        super().__init__(
            input_size, output_size, config=config, init_method=init_method, bias=bias,
            gather_output=False, skip_bias_add=skip_bias_add, tp_group=tp_group, stride=stride,
        )  # fmt: skip


class Row(RowParallelLinear):
    def __init__(
        self, input_size, output_size, *, config, init_method, bias, input_is_parallel,
        skip_bias_add, is_expert, tp_comm_buffer_name=None, tp_group=None,
    ):  # fmt: skip
        assert input_is_parallel and not is_expert, "as the real one"
        super().__init__(
            input_size, output_size, config=config, init_method=init_method, bias=bias,
            input_is_parallel=True, skip_bias_add=skip_bias_add, is_expert=False,
            tp_group=tp_group,
        )  # fmt: skip


class Norm(nn.Module):
    def __init__(self, config, hidden_size, eps=1e-5):
        super().__init__()
        assert config.normalization == "RMSNorm"
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(
        self, config, layer_number, attn_mask_type, attention_type, attention_dropout=None,
        softmax_scale=None, k_channels=None, v_channels=None, num_splits=None, cp_comm_type="p2p",
        pg_collection=None,
    ):  # fmt: skip
        super().__init__()
        assert attention_type in ("self", "cross") and layer_number >= 1
        self.config = config

    def sharded_state_dict(self, prefix="", sharded_offsets=(), metadata=None):
        return {}  # as the real one, which has no learned softmax here

    def forward(
        self, query, key, value, attention_mask, attn_mask_type, attention_bias=None,
        packed_seq_params=None, num_splits=None,
    ):  # fmt: skip
        q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        whole = torch.ones(len(query), len(key), dtype=torch.bool)
        seen = {
            AttnMaskType.no_mask: whole,
            AttnMaskType.causal: whole.tril(),
            AttnMaskType.causal_bottom_right: whole.tril(len(key) - len(query)),
            AttnMaskType.arbitrary: None if attention_mask is None else ~attention_mask,
        }[attn_mask_type]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        return out.permute(2, 0, 1, 3).flatten(2)


DOUBLES = {
    "TEColumnParallelLinear": Column,
    "TERowParallelLinear": Row,
    "TEDotProductAttention": Attention,
    "TENorm": Norm,
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformer Engine is installed, on a Hopper GPU."""
    package = ModuleType("transformer_engine")
    package.__spec__ = importlib.machinery.ModuleSpec("transformer_engine", None)
    monkeypatch.setitem(sys.modules, "transformer_engine", package)
    monkeypatch.setattr(fp8, "compute_capability", lambda: (9, 0))
    for name, double in DOUBLES.items():
        monkeypatch.setattr(extensions, name, double)


def config(**changes: Any) -> DiTConfig:
    ensure_model_parallel()
    values = {
        "num_layers": 3, "hidden_size": 48, "num_attention_heads": 2, "crossattn_emb_channels": 16,
        "adaln_lora_dim": 8, "max_frames": 4, "max_height": 8, "max_width": 8,
    }  # fmt: skip
    return DiTConfig(**{**values, **changes})


def build(spec: str, **changes: Any) -> DiT:
    torch.manual_seed(0)
    return DiT(config(layer_spec=spec, **changes))


@pytest.mark.parametrize("name", DOUBLES)
def test_the_doubles_take_what_the_real_classes_take(name: str) -> None:
    """Read from the source: without Transformer Engine the classes themselves are mocks."""
    tree = ast.parse(inspect.getsource(extensions))
    (real,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = {node.name: node for node in real.body if isinstance(node, ast.FunctionDef)}
    wanted = methods["__new__" if name == "TENorm" else "__init__"].args
    found = inspect.getfullargspec(DOUBLES[name].__init__)
    assert found.args[1:] == [argument.arg for argument in wanted.args[1:]]
    assert found.kwonlyargs == [argument.arg for argument in wanted.kwonlyargs]


def test_both_specs_have_the_same_output(installed: None) -> None:
    local, fused = build("local"), build("transformer_engine")
    assert any(isinstance(module, Column) for module in fused.modules())
    fused.load_state_dict(dict(local.named_parameters()))
    batch = (torch.randn(1, 16, 2, 4, 8), torch.zeros(1), torch.randn(1, 8, 16))
    with torch.no_grad():
        torch.testing.assert_close(
            fused(NetworkInput(*batch)), local(NetworkInput(*batch)), atol=1e-5, rtol=1e-5
        )


def test_ends_stay_in_bfloat16(installed: None) -> None:
    from megatron.core.fp8_utils import is_first_last_bf16_layer

    chosen = config(fp8="hybrid", layer_spec="transformer_engine")
    assert chosen.fp8_recipe == "tensorwise"
    assert [is_first_last_bf16_layer(chosen, n) for n in range(3)] == [True, False, True]
    every = config(fp8="hybrid", layer_spec="transformer_engine", first_last_layers_bf16=False)
    assert not any(is_first_last_bf16_layer(every, n) for n in range(3))
    assert not config(fp8="hybrid", fp8_recipe="delayed").first_last_layers_bf16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_spec": "local"}, "layer_spec='local'"),
        ({"fp8_recipe": "mxfp8"}, r"needs a GPU of compute capability 10.0.*has 9.0.*'blockwise'"),
        ({"fp8_recipe": "tensor"}, r"no FP8 recipe 'tensor'.*'tensorwise'"),
        ({"fp8_recipe": "delayed", "first_last_layers_bf16": True}, "Delayed scaling"),
        ({"fp8_param": True}, "fp8_param"),
    ],
)
def test_what_fp8_cannot_do(installed: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(fp8="hybrid", **changes)


@pytest.mark.parametrize(
    ("capability", "changes", "message"),
    [
        ((9, 0), {}, r"'tensorwise' has no kernel on compute capability 9.0.*recipe=delayed"),
        ((9, 0), {"fp8_recipe": "blockwise"}, "'blockwise' has no kernel"),
        ((12, 0), {"fp8_recipe": "delayed"}, "has no kernel on compute capability 12.0"),
        ((9, 0), {"fp8_recipe": "delayed", "hidden_size": 128}, "heads of 128 channels.*have 64"),
        ((9, 0), {"fp8": None}, "without FP8"),
        ((9, 0), {"fp8_multi_head_attention": True}, "normalises and rotates"),
    ],
)
def test_attention_in_fp8_that_has_no_kernel(
    installed: None, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int],
    changes: dict[str, Any], message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(fp8, "compute_capability", lambda: capability)
    asked = {"fp8": "hybrid", "hidden_size": 256, "fp8_dot_product_attention": True}
    with pytest.raises(ConfigError, match=message):
        config(**{**asked, **changes})


def test_attention_in_fp8_that_has_a_kernel(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"fp8": "hybrid", "hidden_size": 256, "fp8_dot_product_attention": True}
    hopper = config(**asked, fp8_recipe="delayed")
    monkeypatch.setenv("NVTE_DPA_FP8_RECIPE", "DelayedScaling")
    config(**asked)
    monkeypatch.delenv("NVTE_DPA_FP8_RECIPE")
    monkeypatch.setattr(fp8, "compute_capability", lambda: (10, 0))
    config(**{**asked, "hidden_size": 128})
    with pytest.raises(ConfigError, match="Packed samples"):
        check_fp8_packs(hopper)


def test_fp8_that_is_set_after_the_checks_is_checked_again() -> None:
    """A trainer's precision sets fields of a finished configuration."""
    assert not dependencies.has("transformer_engine")
    late = config()
    late.fp8 = "hybrid"
    with pytest.raises(MissingDependencyError, match="transformer_engine"):
        DiT(late)


def test_tokens_that_do_not_divide(installed: None) -> None:
    net = build("transformer_engine", fp8="hybrid")
    text = torch.zeros(1, 16, 16)
    with pytest.raises(ConfigError, match=r"8 tokens of video.*multiples of 16"):
        net(NetworkInput(torch.zeros(1, 16, 2, 4, 4), torch.zeros(1), text))
    with pytest.raises(ConfigError, match="8 tokens of text"):
        net(NetworkInput(torch.zeros(1, 16, 4, 4, 4), torch.zeros(1), text[:, :8]))
    net(NetworkInput(torch.zeros(1, 16, 4, 4, 4), torch.zeros(1), text))


def test_packs_are_padded_for_fp8(installed: None) -> None:
    """Whatever samples a pack holds: an odd one would end a training run."""
    net = PackedDiT(config(layer_spec="transformer_engine", fp8="hybrid"))
    assert [net.sequence.num_padding(num_tokens) for num_tokens in (28, 32)] == [4, 0]
    plain = PackedDiT(config(layer_spec="transformer_engine"))
    assert plain.sequence.num_padding(28) == 0


@pytest.mark.parametrize("mask", [FULL, CAUSAL, CausalMask(3), BlockCausalMask(2)], ids=repr)
@pytest.mark.parametrize("offsets", [(0,), (3,), (3, 1)])
@pytest.mark.usefixtures("installed")
def test_masks_mean_the_same_in_both_cores(mask: Mask, offsets: tuple[int, ...]) -> None:
    """Also for queries behind cached keys, of samples of different lengths."""
    core = transformer_engine_cores().self_attention
    fused = core(config(), 1, AttnMaskType.no_mask, "self")
    local = LocalCoreAttention(config(), 1, AttnMaskType.no_mask, "self")
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(4, 2, 4, 8, generator=generator)
    k, v = (torch.randn(4 + max(offsets), 2, 2, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(
        fused(q, k, v, mask=mask, offsets=offsets), local(q, k, v, mask=mask, offsets=offsets)
    )


@pytest.mark.usefixtures("installed")
def test_masks_that_its_kernels_lack_are_refused() -> None:
    core = transformer_engine_cores().self_attention
    spread = core(config(context_parallel_size=2), 1, AttnMaskType.causal, "self")
    q = torch.zeros(4, 1, 2, 8)
    spread(q, q, q)
    with pytest.raises(ConfigError, match="neither over context-parallel ranks"):
        spread(q, q, q, mask=CausalMask(2))
