"""Tokenizers of diffusers (``AutoencoderKLCosmos``) and of original Cosmos files, read and written.

An original tokenizer is a ``model.pt``, an ``autoencoder.jit``, or ``encoder.jit`` and
``decoder.jit`` side by side, with ``mean_std.pt`` where its latents are normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.formats.jit import JitSource
from nemo_cosmos.checkpoint.formats.json_files import (
    check_fields,
    read_object,
    write_object,
)
from nemo_cosmos.checkpoint.formats.safetensors import (
    SafetensorsSource,
    variant_of,
    write_safetensors,
)
from nemo_cosmos.checkpoint.formats.tensors import (
    MemorySource,
    Shapes,
    TensorSource,
    check_fit,
    finite,
    fit_problems,
    named_tensors,
    shapes_of,
    stream_of,
)
from nemo_cosmos.checkpoint.formats.torch import TorchFileSource, load_tensors, write_torch_file
from nemo_cosmos.checkpoint.tokenizer.keys import (
    complete_state,
    expected_shapes,
    from_diffusers,
    is_unused,
    to_diffusers,
)
from nemo_cosmos.checkpoint.world.config import DESCRIPTION_FILE
from nemo_cosmos.errors import CheckpointError, ConfigError, InputError
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.identity import folded_state
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS, tokenizer_config
from nemo_cosmos.models.tokenizer.tokenizer import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    VideoTokenizer,
    read_tokenizer_config,
)
from nemo_cosmos.storage import exported_folder

VAE_CLASS = "AutoencoderKLCosmos"
VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"
MODEL_FILE, STATS_FILE, IMAGE_STATS_FILE = "model.pt", "mean_std.pt", "image_mean_std.pt"
JIT_FILE, JIT_PARTS = "autoencoder.jit", ("encoder.jit", "decoder.jit")
# Fields of AutoencoderKLCosmos that are taken over, or that its weights' names and shapes show.
_HONOURED = frozenset(
    {
        "latent_channels", "encoder_block_out_channels", "decode_block_out_channels",
        "attention_resolutions", "resolution", "num_layers", "patch_size",
        "spatial_compression_ratio", "temporal_compression_ratio", "latents_mean", "latents_std",
    }
)  # fmt: skip
_FIXED: dict[str, tuple[object, ...]] = {
    "in_channels": (3,),
    "out_channels": (3,),
    "patch_type": ("haar",),
    "scaling_factor": (1.0,),
}


class JoinedSource:
    """Several sources as one, such as an encoder and a decoder in separate files."""

    def __init__(self, sources: list[TensorSource]) -> None:
        self.place = " and ".join(source.place for source in sources)
        self._source_of = {name: source for source in sources for name in source.specs}
        self.specs = {name: source.specs[name] for name, source in self._source_of.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor from the source that has it."""
        return self._source_of[name].read(name)


def is_tokenizer_place(place: Path) -> bool:
    """Whether a file or folder holds a tokenizer rather than a world model, by its names."""
    if place.is_file():
        return place.suffix == ".jit"
    names = [JIT_FILE, JIT_PARTS[0], STATS_FILE, IMAGE_STATS_FILE]
    return any((place / name).is_file() for name in names) or _class_in(place) == VAE_CLASS


def import_tokenizer(place: Path, preset: str | None = None) -> VideoTokenizer:
    """Read a tokenizer in any of the formats, including ours.

    Args:
        place: a file or folder.
        preset: the preset of original files; by default the one that their weights fit.

    Raises:
        MissingFileError: a file does not exist.
        CheckpointError: a file is damaged, could run code, or is of another model.
        NumericsError: a weight is NaN or infinite.
    """
    place = exported_folder(place)
    if place.is_dir() and _class_in(place) == VAE_CLASS:
        found = _import_diffusers(place)
        _check_named(found.config, preset, place)
        return found
    if place.is_dir() and _config_in(place).get("format") == "nemo_cosmos.tokenizer":
        return VideoTokenizer.from_folder(place)
    source = _original_source(place)
    folder = place if place.is_dir() else place.parent
    described = _described(folder)
    if described is not None:
        _check_named(described, preset, place)
    named = tokenizer_config(preset) if preset else None
    config = described or named or _fitting_preset(source)
    config = replace(config, high_band_gain=1.0)  # original files have no gain
    net = _load(config, complete_state(_read_all(source), config, source.place))
    return VideoTokenizer(net, _original_stats(folder, config))


def check_tokenizer_files(place: Path) -> TokenizerConfig:
    """Require a tokenizer folder of ours whose weights are those that it describes; none is read.

    Returns:
        its description.

    Raises:
        MissingFileError: the folder or its weights do not exist.
        CheckpointError: a file is damaged, or of another tokenizer.
    """
    folder = exported_folder(place)
    config = read_tokenizer_config(folder)
    weights = SafetensorsSource(folder / WEIGHTS_FILE)
    with torch.device("meta"):
        net = TokenizerNetwork(config)
    check_fit(
        {name: tuple(value.shape) for name, value in named_tensors(net).items()},
        shapes_of(weights.specs),
        weights.place,
        f"tokenizer '{config.name}' in '{CONFIG_FILE}'",
        "Export or copy the folder again.",
    )
    return config


def _check_named(found: TokenizerConfig, preset: str | None, place: Path) -> None:
    """Require a tokenizer that says what it is to be the preset that a person names.

    Raises:
        InputError: it is another.
    """
    if preset is None:
        return
    named = tokenizer_config(preset)
    same = {name: getattr(found, name) for name in ("name", "high_band_gain", "training_frames")}
    if replace(named, **same) != found:
        raise InputError(
            f"--model names '{preset}', but '{place}' describes itself as '{found.name}', which is "
            "built in another way. Leave --model out."
        )


def export_diffusers_vae(tokenizer: VideoTokenizer, folder: Path) -> None:
    """Write what ``AutoencoderKLCosmos.from_pretrained`` reads.

    Raises:
        ConfigError: diffusers has no such tokenizer.
    """
    config = tokenizer.config
    if config.discrete or config.kind != "video" or config.z_channels != config.latent_channels:
        raise ConfigError(
            f"diffusers has no tokenizer like '{config.name}': its {VAE_CLASS} is continuous, of "
            "video, and as wide before as after its bottleneck. Use --format cosmos."
        )
    net = _without_gain(tokenizer.net)
    folder.mkdir(parents=True)
    write_object(folder / CONFIG_FILE, _vae_config(config, tokenizer.stats))
    write_safetensors(folder / VAE_WEIGHTS, stream_of(MemorySource(to_diffusers(net))))


def export_original_tokenizer(tokenizer: VideoTokenizer, folder: Path) -> None:
    """Write ``model.pt`` and ``mean_std.pt`` under the original names, and what they leave out."""
    folder.mkdir(parents=True, exist_ok=True)
    net = _without_gain(tokenizer.net)
    write_torch_file(folder / MODEL_FILE, stream_of(MemorySource(net.state_dict())))
    write_object(folder / DESCRIPTION_FILE, {"tokenizer": net.config.to_dict()})
    if tokenizer.stats is not None:
        mean, std = tokenizer.stats.mean, tokenizer.stats.std
        name = STATS_FILE if tokenizer.config.kind == "video" else IMAGE_STATS_FILE
        torch.save((mean, std), folder / name)


def _import_diffusers(folder: Path) -> VideoTokenizer:
    data = _config_in(folder)
    check_fields(data, folder / CONFIG_FILE, _HONOURED, _FIXED)
    try:
        config = _config_of_vae(data)
        stats = _stats_of_vae(data, config.latent_channels)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"'{folder / CONFIG_FILE}' is not the configuration of an {VAE_CLASS} "
            f"({type(error).__name__}: {error}). Copy the folder again."
        ) from error
    source = SafetensorsSource(variant_of(folder / VAE_WEIGHTS))
    net = _load(config, from_diffusers(_read_all(source), config, source.place))
    return VideoTokenizer(net, stats)


def _config_of_vae(data: JsonObject) -> TokenizerConfig:
    """Return the preset of the same network, else a configuration called "imported"."""
    channels, *widths = data["encoder_block_out_channels"]
    config = TokenizerConfig(
        name="imported",
        kind="video",
        discrete=False,
        spatial_factor=int(data["spatial_compression_ratio"]),
        temporal_factor=int(data["temporal_compression_ratio"]),
        channels=int(channels),
        channels_mult=tuple(width // channels for width in widths),
        num_res_blocks=int(data["num_layers"]),
        patch_size=int(data["patch_size"]),
        z_channels=int(data["latent_channels"]),
        latent_channels=int(data["latent_channels"]),
    )
    for preset in TOKENIZERS.values():
        if replace(preset, name=config.name, training_frames=1) == config:
            return preset
    return config


def _vae_config(config: TokenizerConfig, stats: LatentStats | None) -> JsonObject:
    widths = [config.channels * mult for mult in config.channels_mult]
    return {
        "_class_name": VAE_CLASS,
        "in_channels": config.pixel_channels,
        "out_channels": config.pixel_channels,
        "latent_channels": config.latent_channels,
        "encoder_block_out_channels": [config.channels, *widths],
        "decode_block_out_channels": [*widths, widths[-1]],
        "num_layers": config.num_res_blocks,
        "patch_size": config.patch_size,
        "patch_type": "haar",
        "spatial_compression_ratio": config.spatial_factor,
        "temporal_compression_ratio": config.temporal_factor,
        "latents_mean": None if stats is None else stats.mean.flatten().tolist(),
        "latents_std": None if stats is None else stats.std.flatten().tolist(),
    }


def _stats_of_vae(data: JsonObject, channels: int) -> LatentStats | None:
    if data.get("latents_mean") is None:
        return None
    mean, std = (torch.tensor(data[name]) for name in ("latents_mean", "latents_std"))
    return _make_stats(mean, std, channels)


def _make_stats(mean: Tensor, std: Tensor, channels: int) -> LatentStats:
    """Make statistics by channel, or by channel and latent frame, however they are nested."""
    shape = (channels,) if mean.numel() == channels else (channels, -1)
    return LatentStats(mean.float().reshape(shape), std.float().reshape(shape))


def _original_source(place: Path) -> TensorSource:
    """Open the weights of an original tokenizer, whichever files it has."""
    if place.is_file():
        return JitSource(place) if place.suffix == ".jit" else TorchFileSource(place)
    if (place / MODEL_FILE).is_file():
        return TorchFileSource(place / MODEL_FILE)
    if (place / JIT_FILE).is_file():
        return JitSource(place / JIT_FILE)
    if all((place / name).is_file() for name in JIT_PARTS):
        return JoinedSource([JitSource(place / name) for name in JIT_PARTS])
    raise CheckpointError(
        f"'{place}' holds no tokenizer: expected {MODEL_FILE}, {JIT_FILE}, "
        f"{' and '.join(JIT_PARTS)}, a tokenizer folder of ours, or diffusers' {VAE_CLASS}. Check "
        "the path."
    )


def _original_stats(folder: Path, config: TokenizerConfig) -> LatentStats | None:
    """Read what normalises the latents; a tokenizer without the file does not normalise."""
    name = STATS_FILE if config.kind == "video" else IMAGE_STATS_FILE
    file = folder / name
    if config.discrete or not file.is_file():
        return None
    content = load_tensors(file)
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise CheckpointError(
            f"'{file}' holds {type(content).__name__}; expected the mean and the standard "
            "deviation of latents. Copy it again."
        )
    try:
        mean, std = content
        return _make_stats(mean, std, config.latent_channels)
    except (RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"'{file}' does not hold statistics of {config.latent_channels} channels: {error}. It "
            "belongs to another tokenizer."
        ) from error


def _described(folder: Path) -> TokenizerConfig | None:
    """Return the configuration that our own export records."""
    data = _object_in(folder / DESCRIPTION_FILE).get("tokenizer")
    return TokenizerConfig.from_dict(data) if isinstance(data, dict) else None


def _fitting_preset(source: TensorSource) -> TokenizerConfig:
    """Find the preset whose names and shapes a source has.

    Raises:
        CheckpointError: there is none; the message says what the nearest lacks.
    """
    found = shapes_of(source.specs)
    problems = {}
    for config in TOKENIZERS.values():
        expected = expected_shapes(config)
        relevant = {k: v for k, v in found.items() if k in expected or not is_unused(k)}
        problems[config.name] = fit_problems(expected, relevant)
        if not problems[config.name]:
            return config
    nearest = min(
        problems, key=lambda name: _num_problems(expected_shapes(TOKENIZERS[name]), found)
    )
    raise CheckpointError(
        f"'{source.place}' is not a known tokenizer. The nearest is '{nearest}', but of its "
        f"weights there are {'; '.join(problems[nearest])}. Give another file, or name what it is "
        "with --model."
    )


def _num_problems(expected: Shapes, found: Shapes) -> int:
    return sum(found.get(name) != shape for name, shape in expected.items())


def _read_all(source: TensorSource) -> dict[str, Tensor]:
    """Read all tensors; a tokenizer is small."""
    return dict(finite(((name, source.read(name)) for name in source.specs), source.place))


def _load(config: TokenizerConfig, state: Mapping[str, Tensor]) -> TokenizerNetwork:
    net = TokenizerNetwork(config)
    net.load_state_dict(state)
    return net


@torch.no_grad()
def _without_gain(net: TokenizerNetwork) -> TokenizerNetwork:
    """The same network with its gain on wavelet bands inside the first and last convolution."""
    if net.config.high_band_gain == 1.0:
        return net
    config = replace(net.config, high_band_gain=1.0)
    folded = TokenizerNetwork(config).to(next(net.parameters()).dtype)
    folded.load_state_dict(folded_state(net.config, net.state_dict()))
    return folded.eval()


def _class_in(folder: Path) -> str | None:
    name = _config_in(folder).get("_class_name")
    return str(name) if name else None


def _config_in(folder: Path) -> JsonObject:
    return _object_in(folder / CONFIG_FILE)


def _object_in(file: Path) -> JsonObject:
    """Read a JSON object; empty where there is none, or it is damaged."""
    try:
        return read_object(file) or {}
    except CheckpointError:
        return {}
