"""Reference checkpoints of every generation load, others are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nemo_cosmos.checkpoint.tokenizer.keys import complete_state, diffusers_key, from_diffusers
from nemo_cosmos.errors import CheckpointError
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS

CONFIG = replace(TOKENIZERS["tokenizer_cv8x8x8"], channels=8, num_res_blocks=1)
DISCRETE = replace(TOKENIZERS["tokenizer_dv8x8x8"], channels=8, num_res_blocks=1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("encoder.conv_in.0.conv3d.weight", "encoder.conv_in.conv_s.weight"),
        (
            "encoder.down.1.block.0.nin_shortcut.conv3d.bias",
            "encoder.down_blocks.1.resnets.0.conv_shortcut.bias",
        ),
        (
            "encoder.down.0.downsample.conv2.conv3d.weight",
            "encoder.down_blocks.0.downsamplers.0.conv2.weight",
        ),
        (
            "decoder.up.2.block.1.conv2.1.conv3d.weight",
            "decoder.up_blocks.0.resnets.1.conv2.conv_t.weight",
        ),
        (
            "decoder.up.1.upsample.conv3.conv3d.bias",
            "decoder.up_blocks.1.upsamplers.0.conv3.bias",
        ),
        (
            "decoder.mid.attn_1.1.proj_out.conv3d.weight",
            "decoder.mid_block.temp_attentions.0.to_out.0.weight",
        ),
        (
            "encoder.mid.attn_1.0.q.conv3d.weight",
            "encoder.mid_block.attentions.0.to_q.weight",
        ),
        (
            "encoder.mid.attn_1.0.norm.norm.weight",
            "encoder.mid_block.attentions.0.norm.norm.weight",
        ),
        ("encoder.mid.block_2.norm1.norm.bias", "encoder.mid_block.resnets.1.norm1.norm.bias"),
        ("decoder.norm_out.norm.weight", "decoder.norm_out.norm.weight"),
        ("post_quant_conv.conv3d.weight", "post_quant_conv.weight"),
    ],
)
def test_names_in_diffusers(ours, theirs):
    assert diffusers_key(ours, CONFIG) == theirs


@pytest.mark.parametrize("config", [CONFIG, DISCRETE])
def test_checkpoints_without_constants_and_with_unused_convolutions_load(config):
    net = TokenizerNetwork(config)
    state = dict(net.named_parameters())
    state["encoder.down.1.downsample.conv1.conv3d.weight"] = torch.zeros(1)
    state["quantizer.codebook"] = torch.zeros(1)
    again = TokenizerNetwork(config)
    again.load_state_dict(complete_state(state, config), strict=True)
    for key, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_weights_of_another_tokenizer_are_refused():
    wider = TokenizerNetwork(replace(CONFIG, channels=16)).state_dict()
    with pytest.raises(CheckpointError, match=r"\d+ of another shape"):
        complete_state(wider, CONFIG)
    state = TokenizerNetwork(CONFIG).state_dict()
    del state["quant_conv.conv3d.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing \(quant_conv\.conv3d\.bias\)"):
        complete_state(state, CONFIG)
    with pytest.raises(CheckpointError, match="1 unexpected"):
        from_diffusers({"decoder.other": torch.zeros(1)}, CONFIG)
