"""The trainer's precision: FP8 is there or an error, never silently absent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nemo_cosmos.errors import ConfigError, MissingDependencyError
from nemo_cosmos.training import precision
from nemo_cosmos.training.precision import check_same_fp8, megatron_precision


def test_fp8_without_transformer_engine_is_an_error() -> None:
    with pytest.raises(MissingDependencyError, match=r"transformer_engine.*trainer.fp8=hybrid"):
        megatron_precision("bf16-mixed", fp8="hybrid")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "8"}, "no precision '8'"),
        ({"precision": "32", "fp8": "hybrid"}, "trainer.precision=bf16-mixed"),
        ({"precision": "bf16-mixed", "fp8": "e5m2"}, "no FP8 format 'e5m2'"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        megatron_precision(**settings)


@pytest.mark.parametrize(("recipe", "num_layers"), [("tensorwise", 1), ("delayed", 0)])
def test_layers_at_the_ends(recipe: str, num_layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "require", lambda name, purpose: None)
    chosen = megatron_precision("bf16-mixed", fp8="hybrid", fp8_recipe=recipe).dtype_config
    assert chosen.fp8 == "hybrid" and chosen.fp8_recipe == recipe
    assert chosen.first_last_layers_bf16 == bool(num_layers)
    assert chosen.num_layers_at_start_in_bf16 == chosen.num_layers_at_end_in_bf16 == num_layers


def test_fp8_of_the_model_alone_would_be_overwritten() -> None:
    plain = megatron_precision("bf16-mixed", grad_reduce_in_fp32=False)
    assert plain.dtype_config.grad_reduce_in_fp32 is False
    with pytest.raises(ConfigError, match=r"Set trainer\.fp8=hybrid"):
        check_same_fp8(SimpleNamespace(fp8="hybrid"), plain)
    check_same_fp8(SimpleNamespace(fp8=None), plain)
