"""Names of tokenizer weights: ours are the reference's, diffusers' differ.

``AutoencoderKLCosmos`` of diffusers holds the continuous video tokenizers. The two state dicts map
one to one, apart from the wavelet constants that only the reference stores. Older reference
checkpoints (Cosmos-Tokenizer 0.1) carry convolutions that their network never uses; these are
dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.formats.tensors import check_fit
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork

# Applied in this order; every pattern is anchored so that none can act on another's result.
_TO_DIFFUSERS = [
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.downsample\.", ".downsamplers.0."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.0\.", ".mid_block.attentions.0."),
    (r"\.mid\.attn_1\.1\.", ".mid_block.temp_attentions.0."),
    (r"\.([qkv])\.conv3d\.", r".to_\1."),
    (r"\.proj_out\.conv3d\.", ".to_out.0."),
    (r"\.0\.conv3d\.", ".conv_s."),
    (r"\.1\.conv3d\.", ".conv_t."),
    (r"\.nin_shortcut\.conv3d\.", ".conv_shortcut."),
    (r"\.conv3d\.", "."),
]


_UNUSED = re.compile(r"\.(downsample|upsample)\.conv[123]\.conv3d\.")


def diffusers_key(key: str, config: TokenizerConfig) -> str:
    """Return diffusers' name of one of our weights (of a continuous video tokenizer)."""
    num_levels = len(config.channels_mult)
    key = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", key)
    key = re.sub(
        r"^decoder\.up\.(\d+)\.",
        lambda match: f"decoder.up_blocks.{num_levels - 1 - int(match[1])}.",
        key,
    )
    for pattern, replacement in _TO_DIFFUSERS:
        key = re.sub(pattern, replacement, key)
    return key


def to_diffusers(net: TokenizerNetwork) -> dict[str, Tensor]:
    """Return the weights of a continuous video tokenizer under diffusers' names."""
    return {diffusers_key(key, net.config): value for key, value in net.named_parameters()}


def from_diffusers(
    state: Mapping[str, Tensor], config: TokenizerConfig, place: str = "the state dict"
) -> dict[str, Tensor]:
    """Return diffusers' weights under our names, with the constants of our state dict added.

    Raises:
        CheckpointError: a weight is missing, surplus or of another shape.
    """
    expected = _expected_state(config)
    names = {diffusers_key(key, config): key for key in expected}
    renamed = {names.get(key, key): value for key, value in state.items()}
    return complete_state(renamed, config, place)


def complete_state(
    state: Mapping[str, Tensor], config: TokenizerConfig, place: str = "the state dict"
) -> dict[str, Tensor]:
    """Check a reference checkpoint against ``config`` and make it loadable with ``strict=True``.

    Constants that the checkpoint lacks are added; convolutions that the network never uses are
    dropped.

    Args:
        state: tensors under the reference's names, with or without its constants.
        config: the tokenizer that the weights are meant for.
        place: the weights' name in messages.

    Raises:
        CheckpointError: a weight is missing, surplus or of another shape.
    """
    expected = _expected_state(config)
    given = {key: v for key, v in state.items() if key in expected or not is_unused(key)}
    constants = {key: v for key, v in expected.items() if is_constant(key)}
    check_fit(
        expected_shapes(config),
        {key: tuple(value.shape) for key, value in given.items() if key not in constants},
        place,
        f"tokenizer '{config.name}'",
        "Choose the preset that the checkpoint was trained with, or another checkpoint.",
    )
    return {**given, **constants}


def expected_shapes(config: TokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of what a checkpoint must hold: all but the constants."""
    with torch.device("meta"):
        state = TokenizerNetwork(config).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not is_constant(key)}


def is_unused(key: str) -> bool:
    """Whether a key is a constant's, or of a convolution that reference checkpoints never use."""
    return bool(_UNUSED.search(key)) or is_constant(key)


def is_constant(key: str) -> bool:
    """Whether a key is a constant's: wavelets and codebooks follow from the configuration."""
    return "patcher" in key or key.startswith("quantizer.")


def _expected_state(config: TokenizerConfig) -> dict[str, Tensor]:
    """Return a fresh network's state: real constants, and weights that only give shapes."""
    return TokenizerNetwork(config).state_dict()
