"""What identifies a tokenizer's latents: its encoder's weights and the statistics.

Decoders may differ: one that was trained further on the same latents belongs to them as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork

_DECODER = ("decoder.", "post_quant_conv.")


@torch.no_grad()
def encoder_sha256(net: TokenizerNetwork) -> str:
    """Return the SHA-256 of the weights that make latents, the same in every file format.

    The gain on wavelet bands is folded into the first convolution, as formats of others have it.
    """
    state = folded_state(net.config, net.state_dict())
    digest = hashlib.sha256()
    for name in sorted(name for name in state if not name.startswith(_DECODER)):
        values = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.numpy().data)
    return digest.hexdigest()


def folded_state(config: TokenizerConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the same function with the gain on wavelet bands inside the convolutions.

    Others know no such gain. Where it is a power of two, as in our presets, nothing is rounded.

    Args:
        config: the network's configuration.
        state: its weights, which stay as they are.
    """
    gain, folded = config.high_band_gain, dict(state)
    if gain == 1.0:
        return folded
    colours = config.pixel_channels  # the first channels are the mean band
    first, last = (
        ("conv_in.0.conv3d", "conv_out.1.conv3d")
        if config.kind == "video"
        else ("conv_in", "conv_out")
    )
    for name in (f"encoder.{first}.weight", f"decoder.{last}.weight", f"decoder.{last}.bias"):
        folded[name] = state[name].clone()
    folded[f"encoder.{first}.weight"][:, colours:] *= gain
    folded[f"decoder.{last}.weight"][colours:] /= gain
    folded[f"decoder.{last}.bias"][colours:] /= gain
    return folded
