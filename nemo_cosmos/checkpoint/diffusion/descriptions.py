"""Descriptions of world models, worked out from files of other formats, which say less than ours.

Exports carry ``nemo_cosmos.json``, a whole :class:`WorldConfig`; then nothing has to be guessed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.formats.json_files import check_fields
from nemo_cosmos.checkpoint.formats.tensors import Shapes
from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH
from nemo_cosmos.models.common.text.t5 import REFERENCE_T5
from nemo_cosmos.models.diffusion.controls import FAMILY
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.presets import (
    DIFFUSION,
    DiffusionPreset,
    get_diffusion_preset,
)
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.settings import DiffusionSettings, diffusion_settings
from nemo_cosmos.models.tokenizer.config import TokenizerConfig

_PATCH_EMBED = "x_embedder.proj.1.weight"
# What the published models were trained on: 121 frames of 704x1280 are 16x88x160 latents.
_PUBLISHED_LATENTS_THW, _PUBLISHED_FPS = (16, 88, 160), 24.0
# Fields of CosmosTransformer3DModel that are taken over; the last few belong to what is absent.
_HONOURED = frozenset(
    {
        "in_channels", "out_channels", "num_attention_heads", "attention_head_dim", "num_layers",
        "mlp_ratio", "text_embed_dim", "adaln_lora_dim", "max_size", "patch_size", "rope_scale",
        "concat_padding_mask", "crossattn_proj_in_channels", "encoder_hidden_states_channels",
        "img_context_num_tokens", "img_context_dim_out",
    }
)  # fmt: skip
_ABSENT: dict[str, tuple[object, ...]] = {
    "extra_pos_embed_type": ("learnable", None),
    "use_crossattn_projection": (False, None),
    "controlnet_block_every_n": (None,),
    "img_context_dim_in": (None,),
}


def published_world(preset: DiffusionPreset, tokenizer: TokenizerConfig) -> WorldConfig:
    """Return the description of a preset with the settings of the published models."""
    process = preset.process()
    return world_of(preset.config(), process, tokenizer, preset.name)


def world_of(
    config: DiTConfig, process: DiffusionConfig, tokenizer: TokenizerConfig, preset: str | None
) -> WorldConfig:
    """Return a description with the published text encoder and video size, as far as they fit."""
    limits = (config.max_frames, config.max_height, config.max_width)
    frames, height, width = map(min, _PUBLISHED_LATENTS_THW, limits)
    side = tokenizer.spatial_factor
    return WorldConfig(
        family=FAMILY,
        model=DiffusionSettings(config.architecture(), process),
        text_encoder={
            "kind": "t5",
            "path": REFERENCE_T5,
            "max_length": REFERENCE_MAX_LENGTH,
            "dim": config.crossattn_emb_channels,
        },
        video={
            "num_frames": tokenizer.num_pixel_frames(frames),
            "fps": _PUBLISHED_FPS,
            "height": height * side,
            "width": width * side,
        },
        preset=preset,
    )


def original_preset(shapes: Shapes, place: str, name: str | None) -> DiffusionPreset:
    """Find the preset of original weights by their layers and the width of their input.

    Args:
        shapes: shapes of the weights, under original names.
        place: the weights' file, for the message.
        name: the preset that the user names; None finds it.

    Raises:
        CheckpointError: they are of no preset.
    """
    if name is not None:
        return get_diffusion_preset(name)
    bare = {key.removeprefix("net."): shape for key, shape in shapes.items()}
    blocks = {key.split(".")[1] for key in bare if key.startswith("blocks.block")}
    found = (len(blocks), bare.get(_PATCH_EMBED))
    for preset in DIFFUSION.values():
        config = preset.config()
        channels = config.input_channels * config.patch_volume
        if found == (config.num_layers, (config.hidden_size, channels)):
            return preset
    raise CheckpointError(
        f"'{place}' is not a diffusion model of a known size: it has {found[0]} blocks and a patch "
        f"embedding {found[1]}. Known are {', '.join(DIFFUSION)}; name one with --model to see "
        "what differs."
    )


def with_learned_variance(config: WorldConfig, learned: bool) -> WorldConfig:
    """Say whether the weights carry the learned variance of the loss."""
    settings = diffusion_settings(config.model)
    edm = replace(settings.process.edm, learned_variance=learned)
    process = replace(settings.process, edm=edm)
    return replace(config, model=replace(settings, process=process))


def diffusers_config(data: JsonObject, file: Path) -> DiTConfig:
    """Return our configuration of a ``CosmosTransformer3DModel``.

    Raises:
        CheckpointError: it is of another class, or lacks an entry.
    """
    if data.get("_class_name") != "CosmosTransformer3DModel":
        raise CheckpointError(
            f"'{file}' is of the class '{data.get('_class_name')}'; expected "
            "CosmosTransformer3DModel, which the Cosmos 1.0 world models are."
        )
    check_fields(data, file, _HONOURED, _ABSENT)
    try:
        hidden = data["num_attention_heads"] * data["attention_head_dim"]
        patch_temporal, patch_spatial, _ = data["patch_size"]
        frames, height, width = data["max_size"]
        return DiTConfig(
            num_layers=data["num_layers"],
            hidden_size=hidden,
            ffn_hidden_size=int(data["mlp_ratio"] * hidden),
            num_attention_heads=data["num_attention_heads"],
            in_channels=data["out_channels"],
            out_channels=data["out_channels"],
            condition_mask=data["in_channels"] > data["out_channels"],
            concat_padding_mask=data["concat_padding_mask"],
            patch_spatial=patch_spatial,
            patch_temporal=patch_temporal,
            crossattn_emb_channels=data["text_embed_dim"],
            adaln_lora_dim=data["adaln_lora_dim"],
            extra_pos_emb=data["extra_pos_embed_type"] == "learnable",
            rope_ratios_thw=tuple(data["rope_scale"]),
            max_frames=frames,
            max_height=height,
            max_width=width,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"'{file}' does not describe a Cosmos network ({type(error).__name__}: {error}). Copy "
            "the folder again."
        ) from error


def check_plain(config: WorldConfig, reader: str) -> None:
    """Refuse a model with more than the published network has.

    Args:
        config: the world's description.
        reader: name of the library that reads the weights, for the message.

    Raises:
        ConfigError: it has controls, takes several cameras, or predicts changes.
    """
    settings = diffusion_settings(config.model)
    net = settings.network_config()
    extra = ""
    if config.controls or net.control_channels:
        name = config.controls[0].name if config.controls else "unknown"
        extra = f"has the control '{name}'"
    elif net.view_slots:
        extra = f"takes several cameras ({', '.join(net.view_slots)})"
    elif settings.process.conditioning.predicts_change:
        extra = "predicts how the first frame changes (predicts_change)"
    if extra:
        raise ConfigError(
            f"The model {extra}, which {reader} cannot express. Export it with --format nemo, "
            "which keeps everything."
        )


def config_for_diffusers(config: WorldConfig) -> JsonObject:
    """Return the ``config.json`` of a ``CosmosTransformer3DModel`` with our network.

    Raises:
        ConfigError: diffusers has no such network.
    """
    net = diffusion_settings(config.model).network_config()
    check_plain(config, "diffusers")
    if net.base_fps != _PUBLISHED_FPS or net.in_channels != net.out_channels:
        raise ConfigError(
            f"The model counts time at {net.base_fps} Hz and turns {net.in_channels} channels into "
            f"{net.out_channels}; diffusers' network is fixed to {_PUBLISHED_FPS} Hz and equal "
            "channels. Export it with --format cosmos or nemo."
        )
    return {
        "_class_name": "CosmosTransformer3DModel",
        "in_channels": net.in_channels + int(net.condition_mask),
        "out_channels": net.out_channels,
        "num_attention_heads": net.num_attention_heads,
        "attention_head_dim": net.hidden_size // net.num_attention_heads,
        "num_layers": net.num_layers,
        "mlp_ratio": net.ffn_hidden_size / net.hidden_size,
        "text_embed_dim": net.crossattn_emb_channels,
        "adaln_lora_dim": net.adaln_lora_dim,
        "max_size": [net.max_frames, net.max_height, net.max_width],
        "patch_size": [net.patch_temporal, net.patch_spatial, net.patch_spatial],
        "rope_scale": list(net.rope_ratios_thw),
        "concat_padding_mask": net.concat_padding_mask,
        "extra_pos_embed_type": "learnable" if net.extra_pos_emb else None,
    }
