"""The formats in which autoregressive models come and go.

Original files, whole or in parts, go both ways; a folder of transformers is written only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nemo_cosmos.checkpoint.autoregressive.keys import (
    PREFIX,
    export_stream,
    import_stream,
    unfused,
)
from nemo_cosmos.checkpoint.autoregressive.qwen3_vl import write_qwen3_vl
from nemo_cosmos.checkpoint.autoregressive.shards import (
    ShardedSource,
    rank_stream,
    shard_files,
    shard_name,
)
from nemo_cosmos.checkpoint.foreign import FamilyFormats, ForeignWorld
from nemo_cosmos.checkpoint.formats.tensors import Shapes, TensorSource, TensorStream
from nemo_cosmos.checkpoint.formats.torch import TorchFileSource, write_torch_file
from nemo_cosmos.checkpoint.tokenizer.files import MODEL_FILE, export_original_tokenizer
from nemo_cosmos.checkpoint.world.config import (
    DESCRIPTION_FILE,
    TOKENIZER_FOLDER,
    WorldConfig,
    read_description,
    write_config,
)
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.presets import AUTOREGRESSIVE, ARPreset, get_ar_preset
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.settings import FAMILY, ARSettings, ar_settings
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH
from nemo_cosmos.models.common.text.embedded import EMBEDDED_DIM
from nemo_cosmos.models.common.text.t5 import REFERENCE_T5
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

COSMOS: Final = "cosmos"
TRANSFORMERS: Final = "transformers"
IN_PARTS: Final = {f"cosmos-tp{size}": size for size in (2, 4, 8)}
"""Formats with a file for each tensor-parallel rank, and their number of ranks."""
_QUERIES = "layers.0.attention.wq.weight"
_PUBLISHED_FPS = 24.0


class OriginalARWorld:
    """An original autoregressive model: ``model.pt``, or a file for each tensor-parallel rank.

    Args:
        place: the file, or a folder with it or with the parts.
        tokenizer: the tokenizer of the model's codes.
        preset: the model's preset; None finds it by the file beside it, or by shapes.

    Raises:
        CheckpointError: a file is damaged or of no known model.
        MissingFileError: a part is missing.
    """

    def __init__(self, place: Path, tokenizer: TokenizerConfig, preset: str | None) -> None:
        folder = place if place.is_dir() else place.parent
        parts = shard_files(place) if place.is_dir() else []
        self._source: TensorSource = (
            ShardedSource(parts) if parts else TorchFileSource(_original_file(place))
        )
        self.place = self._source.place
        self.config = read_description(folder) or published_world(
            _preset_of(self._source, preset), tokenizer
        )

    def stream(self, expected: Shapes) -> TensorStream:
        """Return the weights under our names."""
        network = ar_settings(self.config.model).network_config()
        return import_stream(self._source, network, expected)


class AutoregressiveFormats:
    """The original ``model.pt``, its parts for 2, 4 or 8 tensor-parallel ranks, transformers'."""

    names = (COSMOS, *IN_PARTS, TRANSFORMERS)

    def recognises(self, place: Path) -> bool:
        """Whether a place is a ``model.pt``, or a folder of parts, with an AR model's layers."""
        parts = [shard_name(0), shard_name(1)] if place.is_dir() else []
        files = [place / name for name in parts if (place / name).is_file()]
        file = files[0] if files else _original_file(place)
        if not file.is_file() or file.suffix != ".pt":
            return False
        names = TorchFileSource(file).specs
        return any(name.removeprefix(PREFIX) == _QUERIES for name in names)

    def open(self, place: Path, tokenizer: TokenizerConfig, preset: str | None) -> ForeignWorld:
        """Open a ``model.pt``, or a folder with one or with parts."""
        return OriginalARWorld(place, tokenizer, preset)

    def describe_preset(self, preset: str, tokenizer: TokenizerConfig) -> WorldConfig:
        """Return the description of a preset with the settings of the published models."""
        return published_world(get_ar_preset(preset), tokenizer)

    def write(
        self,
        format: str,
        folder: Path,
        config: WorldConfig,
        source: TensorSource,
        tokenizer: VideoTokenizer,
    ) -> None:
        """Write the weights, with the tokenizer beside them.

        Raises:
            ConfigError: the model has a control, the weights do not divide over the ranks, or
                transformers has no class that computes the network.
        """
        if config.controls:
            raise ConfigError(
                f"The model has the control '{config.controls[0].name}', which other formats "
                "cannot express. Export it with --format nemo, which keeps everything."
            )
        network = ar_settings(config.model).network_config()
        export_original_tokenizer(tokenizer, folder / TOKENIZER_FOLDER)
        if format == TRANSFORMERS:
            write_qwen3_vl(folder, network, source)
        elif format == COSMOS:
            write_torch_file(folder / MODEL_FILE, export_stream(source, network))
        else:
            whole, size = unfused(source, network), IN_PARTS[format]
            for rank in range(size):
                stream = rank_stream(whole, list(whole.specs), rank, size)
                write_torch_file(folder / shard_name(rank), stream)
        write_config(folder / DESCRIPTION_FILE, config)


def published_world(preset: ARPreset, tokenizer: TokenizerConfig) -> WorldConfig:
    """Return the description of a preset with the settings of the published models."""
    config = preset.config()
    given = 0 if config.begin_token else 1
    text: dict[str, object] = {
        "kind": "embedded", "max_length": REFERENCE_MAX_LENGTH, "dim": EMBEDDED_DIM
    }  # fmt: skip
    if config.context_channels:
        text = {
            "kind": "t5",
            "path": REFERENCE_T5,
            "max_length": REFERENCE_MAX_LENGTH,
            "dim": config.context_channels,
        }
    side = tokenizer.spatial_factor
    return WorldConfig(
        family=FAMILY,
        model=ARSettings(config.architecture(), ARProcess(given, top_p=preset.top_p)),
        text_encoder=text,
        video={
            "num_frames": tokenizer.num_pixel_frames(config.max_frames),
            "fps": _PUBLISHED_FPS,
            "height": config.max_height * side,
            "width": config.max_width * side,
        },
        preset=preset.name,
    )


def _preset_of(source: TensorSource, name: str | None) -> ARPreset:
    """Find the preset of original weights by their layers, their width and their text.

    Raises:
        CheckpointError: they are of no preset.
    """
    if name is not None:
        return get_ar_preset(name)
    shapes = {key.removeprefix(PREFIX): spec.shape for key, spec in source.specs.items()}
    layers = {key.split(".")[1] for key in shapes if key.startswith("layers.")}
    found = (len(layers), shapes.get(_QUERIES), _has_text(shapes))
    for preset in AUTOREGRESSIVE.values():
        if found == _traits(preset.config()):
            return preset
    raise CheckpointError(
        f"'{source.place}' is not an autoregressive model of a known size: it has {found[0]} "
        f"layers with queries {found[1]}, {'with' if found[2] else 'without'} a text. Known are "
        f"{', '.join(AUTOREGRESSIVE)}; name one with --model to see what differs. Of a "
        "checkpoint in parts, those of the last ranks may be missing."
    )


def _traits(config: ARConfig) -> tuple[int, tuple[int, int], bool]:
    queries = (config.num_attention_heads * config.head_dim, config.hidden_size)
    return config.num_layers, queries, bool(config.context_channels)


def _has_text(shapes: dict[str, tuple[int, ...]]) -> bool:
    return any(".cross_attention." in name for name in shapes)


def _original_file(place: Path) -> Path:
    return place / MODEL_FILE if place.is_dir() else place


AUTOREGRESSIVE_FORMATS: FamilyFormats = AutoregressiveFormats()
