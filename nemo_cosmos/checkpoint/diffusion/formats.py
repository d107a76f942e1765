"""The formats in which diffusion models come and go: diffusers' folders and original files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from nemo_cosmos.checkpoint.diffusion.adapter import write_diffusers_adapter
from nemo_cosmos.checkpoint.diffusion.descriptions import (
    check_plain,
    original_preset,
    published_world,
    with_learned_variance,
)
from nemo_cosmos.checkpoint.diffusion.diffusers import (
    DiffusersWorld,
    is_diffusers_folder,
    write_diffusers_folder,
)
from nemo_cosmos.checkpoint.diffusion.keys import (
    export_stream,
    has_learned_variance,
    import_stream,
)
from nemo_cosmos.checkpoint.foreign import FamilyFormats, ForeignWorld
from nemo_cosmos.checkpoint.formats.tensors import Shapes, TensorSource, TensorStream, shapes_of
from nemo_cosmos.checkpoint.formats.torch import TorchFileSource, write_torch_file
from nemo_cosmos.checkpoint.tokenizer.files import MODEL_FILE, export_original_tokenizer
from nemo_cosmos.checkpoint.world.config import (
    DESCRIPTION_FILE,
    TOKENIZER_FOLDER,
    WorldConfig,
    read_description,
    write_config,
)
from nemo_cosmos.models.diffusion.presets import get_diffusion_preset
from nemo_cosmos.models.diffusion.settings import diffusion_settings
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

DIFFUSERS: Final = "diffusers"
COSMOS: Final = "cosmos"
_LAYERS = "blocks.block"


class OriginalWorld:
    """``model.pt`` of an original Cosmos diffusion model.

    Args:
        file: the file.
        tokenizer: the tokenizer of the model's latents.
        preset: the model's preset; None finds it by the file beside it, or by shapes.

    Raises:
        CheckpointError: the file is damaged or of no known model.
    """

    def __init__(self, file: Path, tokenizer: TokenizerConfig, preset: str | None) -> None:
        self._source = TorchFileSource(file)
        self.place = self._source.place
        described = read_description(file.parent)
        if described is None:
            found = original_preset(shapes_of(self._source.specs), self.place, preset)
            described = published_world(found, tokenizer)
        learned = has_learned_variance(self._source.specs)
        self.config = with_learned_variance(described, learned)

    def stream(self, expected: Shapes) -> TensorStream:
        """Return the weights under our names."""
        network = diffusion_settings(self.config.model).network_config()
        return import_stream(self._source, network, COSMOS, expected)


class DiffusionFormats:
    """Diffusers' pipelines and the original ``model.pt``."""

    names = (DIFFUSERS, COSMOS)
    adapters: ClassVar = {DIFFUSERS: write_diffusers_adapter}

    def recognises(self, place: Path) -> bool:
        """Whether a place is a pipeline of diffusers, or a ``model.pt`` with a DiT's layers."""
        if is_diffusers_folder(place):
            return True
        file = _original_file(place)
        if not file.is_file() or file.suffix != ".pt":
            return False
        names = TorchFileSource(file).specs
        return any(name.removeprefix("net.").startswith(_LAYERS) for name in names)

    def open(self, place: Path, tokenizer: TokenizerConfig, preset: str | None) -> ForeignWorld:
        """Open a pipeline's folder, a ``model.pt``, or a folder with one."""
        if is_diffusers_folder(place):
            return DiffusersWorld(place, tokenizer)
        return OriginalWorld(_original_file(place), tokenizer, preset)

    def describe_preset(self, preset: str, tokenizer: TokenizerConfig) -> WorldConfig:
        """Return the description of a preset with the settings of the published models."""
        return published_world(get_diffusion_preset(preset), tokenizer)

    def write(
        self,
        format: str,
        folder: Path,
        config: WorldConfig,
        source: TensorSource,
        tokenizer: VideoTokenizer,
    ) -> None:
        """Write a pipeline's folder, or ``model.pt`` with its tokenizer beside it."""
        if format == DIFFUSERS:
            write_diffusers_folder(folder, config, source, tokenizer)
        else:
            _write_original(folder, config, source, tokenizer)


def _original_file(place: Path) -> Path:
    return place / MODEL_FILE if place.is_dir() else place


def _write_original(
    folder: Path, config: WorldConfig, source: TensorSource, tokenizer: VideoTokenizer
) -> None:
    check_plain(config, "original checkpoints")
    settings = diffusion_settings(config.model)
    network, learned = settings.network_config(), settings.process.edm.learned_variance
    export_original_tokenizer(tokenizer, folder / TOKENIZER_FOLDER)
    write_torch_file(folder / MODEL_FILE, export_stream(source, network, COSMOS, learned))
    write_config(folder / DESCRIPTION_FILE, config)


DIFFUSION_FORMATS: FamilyFormats = DiffusionFormats()
