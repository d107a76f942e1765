"""Presets have the reference's sizes, and illegal videos get errors that help."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nemo_cosmos.errors import ConfigError, InputError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS, tokenizer_config

REFERENCE_PARAMETERS = {
    "tokenizer_ci8x8": 76_789_472,
    "tokenizer_ci16x16": 81_509_088,
    "tokenizer_ci8x8_lowres": 81_384_636,
    "tokenizer_ci16x16_lowres": 84_334_524,
    "tokenizer_di8x8": 79_004_342,
    "tokenizer_di16x16": 83_723_958,
    "tokenizer_di8x8_lowres": 83_599_506,
    "tokenizer_di16x16_lowres": 86_549_394,
    "tokenizer_cv4x8x8": 73_192_128,
    "tokenizer_cv8x8x8": 105_653_696,
    "tokenizer_cv8x16x16": 110_898_624,
    "tokenizer_cv4x8x8_lowres": 110_208_816,
    "tokenizer_dv4x8x8": 104_669_558,
    "tokenizer_dv8x8x8": 105_653_366,
    "tokenizer_dv8x16x16": 110_898_294,
    "tokenizer_dv4x8x8_lowres": 112_619_766,
}
REFERENCE_KEYS = {
    "tokenizer_ci8x8": 202,
    "tokenizer_cv4x8x8": 251,
    "tokenizer_cv8x8x8": 315,
    "tokenizer_cv8x16x16": 323,
    "tokenizer_dv8x16x16": 326,
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def meta_network(name: str) -> TokenizerNetwork:
    with torch.device("meta"):
        return TokenizerNetwork(TOKENIZERS[name])


@pytest.mark.parametrize(("name", "expected"), REFERENCE_PARAMETERS.items())
def test_parameter_count_equals_reference(name, expected):
    assert count(meta_network(name)) == expected


@pytest.mark.parametrize("name", [n for n in TOKENIZERS if n.endswith("_360p")])
def test_360p_is_the_lowres_network(name):
    lowres = TOKENIZERS[name.replace("_360p", "_lowres")]
    same = {"name": lowres.name, "training_frames": lowres.training_frames}
    assert replace(TOKENIZERS[name], **same) == lowres


@pytest.mark.parametrize(("name", "expected"), REFERENCE_KEYS.items())
def test_state_dict_has_as_many_keys_as_reference(name, expected):
    assert len(meta_network(name).state_dict()) == expected


def test_cv8x8x8_halves_equal_reference():
    net = meta_network("tokenizer_cv8x8x8")
    assert (count(net.encoder), count(net.decoder)) == (42_914_592, 62_738_560)


def test_state_dict_names_are_the_reference_s():
    keys = meta_network("tokenizer_cv8x8x8").state_dict().keys()
    for key in (
        "encoder.conv_in.0.conv3d.weight",
        "encoder.down.0.block.0.norm1.norm.weight",
        "encoder.down.0.block.0.nin_shortcut.conv3d.bias",
        "encoder.down.0.downsample.conv2.conv3d.weight",
        "encoder.mid.attn_1.1.proj_out.conv3d.weight",
        "decoder.up.1.upsample.conv3.conv3d.weight",
        "decoder.conv_out.1.conv3d.bias",
        "encoder.patcher3d.patch_size_buffer",
        "decoder.unpatcher3d.wavelets",
        "quant_conv.conv3d.weight",
    ):
        assert key in keys
    image_keys = meta_network("tokenizer_di8x8").state_dict().keys()
    assert {"encoder.mid.attn_1.q.weight", "post_quant_conv.bias"} <= image_keys
    assert {"quantizer._basis", "decoder.up.2.upsample.conv.weight"} <= image_keys


@pytest.mark.parametrize("name", [n for n in TOKENIZERS if "nano" in n])
def test_nano_presets_are_small(name):
    assert count(meta_network(name)) < 3e6


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="'tokenizer_cv8x8x8'"):
        tokenizer_config("tokenizer_cv8x8")
    assert tokenizer_config("tokenizer_cv8x8x8").temporal_factor == 8


def test_latent_shape():
    assert TOKENIZERS["tokenizer_cv8x8x8"].latent_shape(121, 704, 1280) == (16, 16, 88, 160)
    assert TOKENIZERS["tokenizer_cv4x8x8"].latent_shape(1, 64, 96) == (16, 1, 8, 12)
    assert TOKENIZERS["tokenizer_dv8x16x16"].latent_shape(49, 640, 1024) == (1, 7, 40, 64)
    assert TOKENIZERS["tokenizer_ci8x8"].latent_shape(5, 64, 64) == (16, 5, 8, 8)
    assert TOKENIZERS["tokenizer_cv8x8x8"].num_pixel_frames(16) == 121


@pytest.mark.parametrize(
    ("num_frames", "nearest"), [(16, "9 or 17"), (18, "17 or 25"), (8, "1 or 9"), (0, "1 or 9")]
)
def test_wrong_frame_count_names_nearest_lengths(num_frames, nearest):
    with pytest.raises(WrongFrameCountError, match=nearest):
        TOKENIZERS["tokenizer_cv8x8x8"].latent_shape(num_frames, 64, 64)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((100, 128), "heights are 96 and 104"), ((64, 3), "widths 8"), ((0, 64), "heights are 8")],
)
def test_wrong_size_names_nearest_sizes(size, nearest):
    with pytest.raises(WrongSizeError, match=nearest):
        TOKENIZERS["tokenizer_cv8x8x8"].latent_shape(17, *size)


@pytest.mark.parametrize("shape", [(1, 4, 17, 64, 64), (3, 17, 64, 64)])
def test_other_than_a_video_is_refused(shape):
    with pytest.raises(InputError, match="batch, 3, frames, height"):
        TOKENIZERS["tokenizer_cv8x8x8"].check_video(shape)


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        ("tokenizer_cv8x8x8", {"spatial_factor": 6}, "power of two"),
        ("tokenizer_ci8x8", {"temporal_factor": 2}, "no time to compress"),
        ("tokenizer_cv8x8x8", {"temporal_factor": 2}, "levels"),
        ("tokenizer_cv8x8x8", {"channels_mult": (2,)}, "levels"),
        ("tokenizer_ci8x8", {"spatial_factor": 64}, "levels"),
    ],
)
def test_impossible_configurations_are_refused(preset, change, message):
    with pytest.raises(ConfigError, match=message):
        replace(TOKENIZERS[preset], **change)


def test_config_survives_json_and_refuses_unknown_keys():
    config = TOKENIZERS["tokenizer_nano_dv4x8x8"]
    data = config.to_dict() | {"channels_mult": list(config.channels_mult)}
    assert TokenizerConfig.from_dict(data) == config
    with pytest.raises(ConfigError, match="'channels_mult'"):
        TokenizerConfig.from_dict({"channel_mult": [1]})
    with pytest.raises(ConfigError, match="incomplete"):
        TokenizerConfig.from_dict({"name": "mine"})
