"""Initial weights of a tokenizer that is trained from scratch.

With torch's own initial values, so little of the input passes through a deep stack of convolutions
that training spends its first thousands of steps on the mean image. Here the network starts as a
nearly linear map from pixels to pixels:

- convolutions keep the variance of their input (LeCun normal), biases are zero;
- convolutions over time return the present frame unchanged;
- residual branches and attention start at zero (as in Fixup, Zhang et al. 2019), so that blocks
  return their input;
- the last convolution starts small, because the inverse wavelet sums many of its channels.
"""

from __future__ import annotations

import torch
from torch import nn

from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.network.layers2d import Attention2d, ResBlock2d
from nemo_cosmos.models.tokenizer.network.layers3d import (
    ResBlock3d,
    SpatialAttention,
    TemporalAttention,
    TemporalConv,
)

_OUTPUT_SCALE = 0.1
_LAST_OF_BRANCH: dict[type[nn.Module], str] = {
    ResBlock3d: "conv2.1.conv3d.weight",
    ResBlock2d: "conv2.weight",
    SpatialAttention: "proj_out.conv3d.weight",
    TemporalAttention: "proj_out.conv3d.weight",
    Attention2d: "proj_out.weight",
}


@torch.no_grad()
def initialise(net: TokenizerNetwork) -> None:
    """Set the weights from which training starts; draws from torch's generator."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                module.bias.zero_()
    for module in net.modules():
        if isinstance(module, TemporalConv):
            _pass_present_frame(module.conv3d)
    for module in net.modules():
        if type(module) in _LAST_OF_BRANCH:
            module.get_parameter(_LAST_OF_BRANCH[type(module)]).zero_()
    next(net.decoder.get_submodule("conv_out").parameters()).mul_(_OUTPUT_SCALE)


def _pass_present_frame(conv: nn.Conv3d) -> None:
    """Make a (3,1,1) convolution the identity on the last of its three frames."""
    conv.weight.zero_()
    conv.weight[:, :, -1, 0, 0].fill_diagonal_(1.0)
