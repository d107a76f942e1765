"""The precision of a training run, as Megatron's settings."""

from __future__ import annotations

from typing import Any

from nemo import lightning as nl

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.platform import require
from nemo_cosmos.platform.hardware import FP8_CAPABILITIES

PRECISIONS = ("32", "bf16-mixed", "16-mixed")
FP8_FORMATS = ("hybrid", "e4m3")


def megatron_precision(
    precision: str,
    *,
    grad_reduce_in_fp32: bool = True,
    fp8: str | None = None,
    fp8_recipe: str = "tensorwise",
    bf16_end_layers: int | None = None,
) -> nl.MegatronMixedPrecision:
    """Build the plug-in that sets the precision of model, gradients and optimiser.

    Args:
        precision: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        grad_reduce_in_fp32: accumulate and reduce gradients in float32.
        fp8: ``"hybrid"`` (E4M3 forward, E5M2 backward), ``"e4m3"``, or None for no FP8.
        fp8_recipe: see :mod:`nemo_cosmos.models.common.megatron.fp8`.
        bf16_end_layers: layers at either end that stay in bfloat16; by default 1, and 0 with
            delayed scaling, which allows no exceptions.

    Raises:
        ConfigError: an unknown precision, format or recipe, or FP8 without bfloat16.
        MissingDependencyError: FP8 without Transformer Engine.
    """
    check_precision(precision, fp8, fp8_recipe)
    settings: dict[str, Any] = {}
    if fp8 is not None:
        require("transformer_engine", purpose=f"training with trainer.fp8={fp8}")
        if bf16_end_layers is None:
            bf16_end_layers = 0 if fp8_recipe == "delayed" else 1
        settings = {
            "fp8": fp8,
            "fp8_recipe": fp8_recipe,
            "first_last_layers_bf16": bf16_end_layers > 0,
            "num_layers_at_start_in_bf16": bf16_end_layers,
            "num_layers_at_end_in_bf16": bf16_end_layers,
        }
    return nl.MegatronMixedPrecision(
        precision=precision, grad_reduce_in_fp32=grad_reduce_in_fp32, **settings
    )


def check_same_fp8(config: object, plugin: object) -> None:
    """Refuse FP8 that only the model asks for: the trainer's precision would overwrite it.

    Args:
        config: the model's configuration.
        plugin: the trainer's precision plug-in.

    Raises:
        ConfigError: the two differ.
    """
    asked = getattr(config, "fp8", None)
    given = getattr(getattr(plugin, "dtype_config", None), "fp8", None)
    if asked and asked != given:
        raise ConfigError(
            f"The model asks for fp8={asked!r}, but the trainer's precision has fp8={given!r} and "
            f"decides. Set trainer.fp8={asked} (and trainer.fp8_recipe) instead of "
            "model.config.fp8."
        )


def check_precision(precision: str, fp8: str | None = None, fp8_recipe: str = "tensorwise") -> None:
    """Require a precision that exists, whatever this machine computes in.

    Args:
        precision: as :func:`megatron_precision` takes it.
        fp8: the format of FP8, or None for no FP8.
        fp8_recipe: how FP8 is scaled; without FP8 it means nothing.

    Raises:
        ConfigError: an unknown precision, format or recipe, or FP8 without bfloat16.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"There is no precision '{precision}'. Valid are "
            f"{nearest_names(precision, PRECISIONS)}."
        )
    if fp8 is None:
        return
    if fp8 not in FP8_FORMATS:
        raise ConfigError(
            f"There is no FP8 format '{fp8}'. Valid are {nearest_names(fp8, FP8_FORMATS)}."
        )
    if precision != "bf16-mixed":
        raise ConfigError(
            f"FP8 computes around bfloat16, but the precision is '{precision}'. Set "
            "trainer.precision=bf16-mixed, or leave trainer.fp8 out."
        )
    if fp8_recipe not in FP8_CAPABILITIES:
        raise ConfigError(
            f"There is no FP8 recipe '{fp8_recipe}'. Valid are "
            f"{nearest_names(fp8_recipe, FP8_CAPABILITIES)}."
        )
