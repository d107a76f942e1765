"""Which format a checkpoint is of, and world models in formats other than ours."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from nemo_cosmos.checkpoint.diffusion.descriptions import (
    original_preset,
    published_world,
    with_learned_variance,
)
from nemo_cosmos.checkpoint.diffusion.diffusers import VAE, DiffusersWorld, is_diffusers_folder
from nemo_cosmos.checkpoint.diffusion.keys import has_learned_variance, import_stream
from nemo_cosmos.checkpoint.formats.nemo_weights import NemoSource, is_nemo_checkpoint
from nemo_cosmos.checkpoint.formats.tensors import Shapes, TensorStream, shapes_of, stream_of
from nemo_cosmos.checkpoint.formats.torch import TorchFileSource
from nemo_cosmos.checkpoint.tokenizer.files import MODEL_FILE, is_tokenizer_place
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    WorldConfig,
    format_of,
    read_description,
    recorded_tokenizer,
)
from nemo_cosmos.checkpoint.world.folder import meta_network
from nemo_cosmos.errors import CheckpointError, InputError
from nemo_cosmos.models.diffusion.family import diffusion_settings
from nemo_cosmos.models.diffusion.presets import get_diffusion_preset
from nemo_cosmos.models.tokenizer.config import TokenizerConfig


class ForeignWorld(Protocol):
    """A world model in another format."""

    config: WorldConfig
    place: str

    def stream(self, expected: Shapes) -> TensorStream:
        """Its weights under our names, given those of our network."""
        ...


class OriginalWorld:
    """``model.pt`` of an original Cosmos diffusion model."""

    def __init__(self, file: Path, tokenizer: TokenizerConfig, preset: str | None) -> None:
        self._source = TorchFileSource(file)
        self.place = self._source.place
        described = read_description(file.parent) if preset is None else None
        if described is None:
            found = original_preset(shapes_of(self._source.specs), self.place, preset)
            described = published_world(found, tokenizer)
        learned = has_learned_variance(self._source.specs)
        self.config = with_learned_variance(described, learned)

    def stream(self, expected: Shapes) -> TensorStream:
        """The weights under our names."""
        network = diffusion_settings(self.config.model).network_config()
        return import_stream(self._source, network, "cosmos", expected)


class NemoWorld:
    """A NeMo distributed checkpoint."""

    def __init__(
        self, folder: Path, tokenizer: TokenizerConfig, preset: str | None, use_average: bool
    ) -> None:
        described = read_description(folder) if preset is None else None
        if described is None and preset is None:
            raise InputError(
                f"'{folder}' does not say which model it is of (it has no 'nemo_cosmos.json'). "
                "Name the preset that it was trained with: --model diffusion_7b_text2world."
            )
        if described is None:
            described = published_world(get_diffusion_preset(str(preset)), tokenizer)
        self.config = described
        self._source = NemoSource(folder, meta_network(self.config, tokenizer), use_average)
        self.place = self._source.place

    def stream(self, expected: Shapes) -> TensorStream:
        """The weights under our names."""
        return stream_of(self._source)


def open_world(
    place: Path, tokenizer: TokenizerConfig, model: str | None, use_average: bool
) -> ForeignWorld:
    """Find out the format of a world model.

    Args:
        place: a file or folder.
        tokenizer: of the model's latents.
        model: the preset that it is of, where the files do not say it.
        use_average: of a NeMo checkpoint's weights.
    """
    if is_diffusers_folder(place):
        return DiffusersWorld(place, tokenizer)
    if is_nemo_checkpoint(place):
        return NemoWorld(place, tokenizer, model, use_average)
    file = place / MODEL_FILE if place.is_dir() else place
    return OriginalWorld(file, tokenizer, model)


def is_foreign_tokenizer(place: Path) -> bool:
    """Whether to import a tokenizer; raises for what is neither that nor a world model."""
    kind = format_of(place)
    if kind is not None:
        raise InputError(
            f"'{place}' is a folder of ours already ({kind}). Use it as it is, or turn it into "
            "another format with 'nemo-cosmos export'."
        )
    if is_diffusers_folder(place) or is_nemo_checkpoint(place):
        return False
    if is_tokenizer_place(place):
        return True
    file = place / MODEL_FILE if place.is_dir() else place
    if not file.is_file():
        raise CheckpointError(
            f"'{place}' is no checkpoint that is known: expected a diffusers folder "
            "(model_index.json), an original model.pt, the .jit files of a tokenizer, or a NeMo "
            "distributed checkpoint (weights/metadata.json)."
        )
    names = TorchFileSource(file).specs
    return any(name.startswith(("encoder.", "decoder.")) for name in names)


def tokenizer_place(place: Path, given: Path | None) -> Path:
    """Where the tokenizer of a world model is.

    Raises:
        InputError: nowhere, and none is named.
    """
    if given is not None:
        return given
    folder = place if place.is_dir() else place.parent
    for name in (VAE, TOKENIZER_FOLDER):
        if (folder / name / CONFIG_FILE).is_file() or (folder / name / MODEL_FILE).is_file():
            return folder / name
    recorded = recorded_tokenizer(folder)
    if recorded is not None and (recorded / CONFIG_FILE).is_file():
        return recorded
    raise InputError(
        f"'{place}' comes without a tokenizer, which a world model needs to turn latents into "
        "pixels. Name the one it was trained with: --tokenizer FOLDER, a folder of ours, of "
        "diffusers (vae/), or of original files (autoencoder.jit, mean_std.pt)."
    )
