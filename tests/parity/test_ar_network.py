"""Our autoregressive network equals a small independent one with the same random weights."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.checkpoint.autoregressive.keys import export_ar_state, import_ar_state
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput
from nemo_cosmos.platform import ensure_model_parallel
from tests.parity.ar_reference import reference_logits

GRID = (3, 4, 5)
TEXT_CHANNELS = 20
TEXT = {"context_channels": TEXT_CHANNELS, "absolute_positions": True, "begin_token": True}
YARN = {"yarn_lengths_thw": (3, 40, 64)}
CASES = {"plain": {}, "text": TEXT, "yarn": YARN, "text_yarn": {**TEXT, **YARN, "kv_channels": 14}}


@pytest.fixture(scope="module", autouse=True)
def _model_parallel() -> None:
    ensure_model_parallel()


def build(**changes: object) -> ARNetwork:
    """A network in which every weight matters: none is zero or one."""
    sizes = {"num_layers": 3, "hidden_size": 96, "ffn_hidden_size": 40, "vocab_size": 100}
    heads = {"num_attention_heads": 6, "num_query_groups": 2}
    config = ARConfig(**{**sizes, **heads, **changes})  # type: ignore[arg-type]
    net = ARNetwork(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.3
            offset = 0.0 if parameter.ndim == 2 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + offset)
    return net


def make_inputs(net: ARNetwork, batch: int = 2) -> TokenInput:
    generator = torch.Generator().manual_seed(6)
    config = net.config
    num_tokens = 60
    tokens = torch.randint(config.vocab_size, (batch, num_tokens), generator=generator)
    if config.begin_token:
        tokens[:, 0] = config.begin_id
    text = torch.randn(batch, 7, TEXT_CHANNELS, generator=generator)
    table = net.place_table(GRID, torch.device("cpu"))
    return TokenInput(
        tokens, table.at(torch.arange(num_tokens)), text if config.context_channels else None
    )


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_reference_s(name: str) -> None:
    net = build(**CASES[name])
    inputs = make_inputs(net)
    with torch.no_grad():
        logits = net(inputs).transpose(0, 1)
    state = {
        k.removeprefix("model."): v
        for k, v in export_ar_state(net.state_dict(), net.config).items()
    }
    assert isinstance(inputs.text, torch.Tensor | None)
    expected = reference_logits(
        state,
        inputs.tokens_BL,
        GRID,
        net.config.head_dim,
        text=inputs.text,
        begins=net.config.begin_token,
        absolute=net.config.absolute_positions,
        yarn=net.config.yarn_lengths_thw,
    )
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_weights_come_back_the_same() -> None:
    net = build(**TEXT)
    state = {k: v for k, v in net.state_dict().items() if isinstance(v, torch.Tensor)}
    back = import_ar_state(export_ar_state(state, net.config), net.config)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize("name", ["plain", "text"])
def test_a_later_token_changes_no_earlier_logit(name: str) -> None:
    net = build(**CASES[name])
    inputs = make_inputs(net, batch=1)
    changed = inputs.tokens_BL.clone()
    changed[:, 31] = (changed[:, 31] + 1) % net.config.vocab_size
    with torch.no_grad():
        before = net(inputs)
        after = net(TokenInput(changed, inputs.places, inputs.text))
    assert torch.equal(before[:31], after[:31])
    assert not torch.equal(before[31:], after[31:])
