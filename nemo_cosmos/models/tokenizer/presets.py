"""The Cosmos tokenizer family, as data.

Names are ``tokenizer_`` + c(ontinuous)/d(iscrete) + i(mage)/v(ideo) + the compression in time x
height x width. ``_lowres`` (Cosmos 1.0) and ``_360p`` (Cosmos-Tokenize1) share one network with a
wavelet patch of 2 instead of 4. The ``nano`` presets are ours, for CPUs and tests.

Source: public Cosmos-Tokenizer ``networks/configs.py`` and the published model cards.
"""

from __future__ import annotations

from dataclasses import replace

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.tokenizer.config import TokenizerConfig

_CI8X8 = TokenizerConfig("tokenizer_ci8x8", kind="image", discrete=False, spatial_factor=8)
_DI8X8 = replace(_CI8X8, name="tokenizer_di8x8", discrete=True, z_channels=256)
_CV8X8X8 = TokenizerConfig(
    "tokenizer_cv8x8x8",
    kind="video",
    discrete=False,
    spatial_factor=8,
    temporal_factor=8,
    training_frames=121,
)
_DV8X8X8 = replace(_CV8X8X8, name="tokenizer_dv8x8x8", discrete=True, training_frames=17)
_NANO_CV4X8X8 = TokenizerConfig(
    "tokenizer_nano_cv4x8x8",
    kind="video",
    discrete=False,
    spatial_factor=8,
    temporal_factor=4,
    channels=32,
    channels_mult=(1, 2),
    num_res_blocks=1,
    high_band_gain=8.0,
    training_frames=17,
)

_ALL = [
    _CI8X8,
    replace(_CI8X8, name="tokenizer_ci16x16", spatial_factor=16),
    replace(_CI8X8, name="tokenizer_ci8x8_lowres", patch_size=2),
    replace(_CI8X8, name="tokenizer_ci8x8_360p", patch_size=2),
    replace(_CI8X8, name="tokenizer_ci16x16_lowres", patch_size=2, spatial_factor=16),
    replace(_CI8X8, name="tokenizer_ci16x16_360p", patch_size=2, spatial_factor=16),
    _DI8X8,
    replace(_DI8X8, name="tokenizer_di16x16", spatial_factor=16),
    replace(_DI8X8, name="tokenizer_di8x8_lowres", patch_size=2),
    replace(_DI8X8, name="tokenizer_di8x8_360p", patch_size=2),
    replace(_DI8X8, name="tokenizer_di16x16_lowres", patch_size=2, spatial_factor=16),
    replace(_DI8X8, name="tokenizer_di16x16_360p", patch_size=2, spatial_factor=16),
    replace(
        _CV8X8X8,
        name="tokenizer_cv4x8x8",
        temporal_factor=4,
        channels_mult=(2, 4),
        training_frames=49,
    ),
    replace(
        _CV8X8X8,
        name="tokenizer_cv4x8x8_lowres",
        temporal_factor=4,
        patch_size=2,
        training_frames=49,
    ),
    replace(
        _CV8X8X8, name="tokenizer_cv4x8x8_360p", temporal_factor=4, patch_size=2, training_frames=49
    ),
    _CV8X8X8,
    replace(_CV8X8X8, name="tokenizer_cv8x16x16", spatial_factor=16, training_frames=49),
    replace(_DV8X8X8, name="tokenizer_dv4x8x8", temporal_factor=4),
    replace(
        _DV8X8X8,
        name="tokenizer_dv4x8x8_lowres",
        temporal_factor=4,
        patch_size=2,
        z_channels=256,
    ),
    replace(
        _DV8X8X8,
        name="tokenizer_dv4x8x8_360p",
        temporal_factor=4,
        patch_size=2,
        z_channels=256,
        training_frames=49,
    ),
    _DV8X8X8,
    replace(_DV8X8X8, name="tokenizer_dv8x16x16", spatial_factor=16, training_frames=49),
    _NANO_CV4X8X8,
    replace(_NANO_CV4X8X8, name="tokenizer_nano_dv4x8x8", discrete=True),
    replace(
        _NANO_CV4X8X8,
        name="tokenizer_nano_ci8x8",
        kind="image",
        temporal_factor=1,
        training_frames=1,
    ),
]

TOKENIZERS: dict[str, TokenizerConfig] = {config.name: config for config in _ALL}


def tokenizer_config(name: str) -> TokenizerConfig:
    """Look a preset up by name.

    Raises:
        ConfigError: there is no such preset; the message names the nearest.
    """
    if name not in TOKENIZERS:
        raise ConfigError(
            f"There is no tokenizer '{name}'. The nearest are {nearest_names(name, TOKENIZERS)}. "
            "`nemo-cosmos models` lists them all."
        )
    return TOKENIZERS[name]
