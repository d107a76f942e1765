"""World models in formats other than ours, whichever family they are of.

A NeMo distributed checkpoint can hold any family. Other formats belong to one family, whose
:class:`FamilyFormats` reads and writes them; the built-in ones are in ``checkpoint/<family>``, and
a package adds its own under the entry point group ``nemo_cosmos.checkpoint_formats``, with its
family's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from nemo_cosmos.checkpoint.formats.nemo_weights import NemoSource, is_nemo_checkpoint
from nemo_cosmos.checkpoint.formats.tensors import (
    Shapes,
    TensorSource,
    TensorStream,
    named_few,
    stream_of,
)
from nemo_cosmos.checkpoint.formats.torch import TorchFileSource
from nemo_cosmos.checkpoint.tokenizer.files import MODEL_FILE, is_tokenizer_place
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    DESCRIPTION_FILE,
    TOKENIZER_FOLDER,
    WorldConfig,
    check_holds_all,
    format_of,
    read_description,
    recorded_tokenizer,
)
from nemo_cosmos.checkpoint.world.folder import meta_network
from nemo_cosmos.errors import CheckpointError, ConfigError, InputError, nearest_names
from nemo_cosmos.models.common.family import available_families, get_family
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

ENTRY_POINT_GROUP = "nemo_cosmos.checkpoint_formats"
NEMO = "nemo"
VAE_FOLDER = "vae"
"""Where folders of diffusers hold the tokenizer."""

_BUILTIN = {
    "diffusion": "nemo_cosmos.checkpoint.diffusion.formats:DIFFUSION_FORMATS",
    "autoregressive": "nemo_cosmos.checkpoint.autoregressive.formats:AUTOREGRESSIVE_FORMATS",
}


class ForeignWorld(Protocol):
    """A world model in another format."""

    @property
    def config(self) -> WorldConfig:
        """The world's description."""
        ...

    @property
    def place(self) -> str:
        """Where the weights are, for messages."""
        ...

    def stream(self, expected: Shapes) -> TensorStream:
        """Return the weights under our names, given the names and shapes of our network."""
        ...


class FamilyFormats(Protocol):
    """The formats of other libraries in which a family's models come and go."""

    @property
    def names(self) -> tuple[str, ...]:
        """The formats that ``nemo-cosmos export --format`` offers for the family."""
        ...

    def recognises(self, place: Path) -> bool:
        """Whether a place holds a world model of this family in one of these formats."""
        ...

    def open(self, place: Path, tokenizer: TokenizerConfig, preset: str | None) -> ForeignWorld:
        """Open a world model.

        Args:
            place: a file or folder that :meth:`recognises` accepts.
            tokenizer: the tokenizer of the model's latents.
            preset: the model's preset, where the files do not say it.

        Raises:
            CheckpointError: it is damaged or of another model.
        """
        ...

    def describe_preset(self, preset: str, tokenizer: TokenizerConfig) -> WorldConfig:
        """Return the description of a preset with the settings of the published models."""
        ...

    def write(
        self,
        format: str,
        folder: Path,
        config: WorldConfig,
        source: TensorSource,
        tokenizer: VideoTokenizer,
    ) -> None:
        """Write a world model in another format, streaming.

        Args:
            format: one of :attr:`names`.
            folder: the new folder.
            config: the world's description.
            source: the weights under our names.
            tokenizer: the world's tokenizer.

        Raises:
            ConfigError: the format cannot express such a model.
        """
        ...

    # A family whose adapters another library reads says so by ``adapters``: by format, a function
    # of the new folder and the opened adapter.


def formats_of(family: str) -> FamilyFormats | None:
    """Return the foreign formats of a family; None where it has none."""
    if family in _BUILTIN:
        module, _, attribute = _BUILTIN[family].partition(":")
        builtin: FamilyFormats = getattr(import_module(module), attribute)
        return builtin
    for point in entry_points(group=ENTRY_POINT_GROUP, name=family):
        installed: FamilyFormats = point.load()
        return installed
    return None


class NemoWorld:
    """A NeMo distributed checkpoint.

    Args:
        folder: the checkpoint.
        tokenizer: the tokenizer of the model's latents.
        preset: the model's preset, where the checkpoint does not say it.
        use_average: whether to take the moving average of the weights, where there is one.

    Raises:
        InputError: nothing says which model it is of.
        CheckpointError: it is damaged or of another model.
    """

    def __init__(
        self, folder: Path, tokenizer: TokenizerConfig, preset: str | None, use_average: bool
    ) -> None:
        check_holds_all(folder)
        described = read_description(folder)
        if described is None and preset is None:
            raise InputError(
                f"'{folder}' does not say which model it is of (it has no '{DESCRIPTION_FILE}'). "
                "Name the preset that it was trained with: --model diffusion_7b_text2world."
            )
        self.config = described or _describe_preset(str(preset), tokenizer)
        self._source = NemoSource(folder, meta_network(self.config, tokenizer), use_average)
        self.place = self._source.place

    def stream(self, expected: Shapes) -> TensorStream:
        """Return the weights under our names."""
        return stream_of(self._source)


def open_world(
    place: Path, tokenizer: TokenizerConfig, preset: str | None, use_average: bool
) -> ForeignWorld:
    """Find out the format of a world model.

    Args:
        place: a file or folder.
        tokenizer: the tokenizer of the model's latents.
        preset: the model's preset, where the files do not say it.
        use_average: whether to take the moving average of a NeMo checkpoint's weights.
    """
    if preset is not None:
        family_of_preset(preset)  # a misspelt name is one also where the files need none
    if is_nemo_checkpoint(place):
        return _as_named(NemoWorld(place, tokenizer, preset, use_average), preset, tokenizer)
    for formats in _all_formats():
        if formats.recognises(place):
            return _as_named(formats.open(place, tokenizer, preset), preset, tokenizer)
    file = _model_file(place)
    names = sorted(TorchFileSource(file).specs) if file.is_file() else []
    found = f" {named_few(names, 'unexpected')}" if names else ""
    raise CheckpointError(
        f"'{place}' holds no world model that is known: 0 tensors matched,{found or ' 0 found'}. "
        "Expected a folder of diffusers, an original Cosmos model.pt, or a NeMo distributed "
        "checkpoint; names that all carry one more prefix have to lose it first."
    )


def _as_named(world: ForeignWorld, preset: str | None, tokenizer: TokenizerConfig) -> ForeignWorld:
    """Require a world to be of the preset that a person names, where its files say what it is.

    Raises:
        InputError: it is of another; names the first setting that differs.
    """
    if preset is None or world.config.preset == preset:
        return world
    named, found = _describe_preset(preset, tokenizer), world.config
    fixed = get_family(found.family).fixed_settings
    if named.family != found.family:
        differs = f"family={found.family}, '{preset}' {named.family}"
    else:
        there, here = fixed(found.model), fixed(named.model)
        name = next((name for name in there if there[name] != here.get(name)), None)
        if name is None:
            return world
        differs = f"{name}={there[name]}, '{preset}' {here.get(name)}"
    raise InputError(
        f"--model names '{preset}', but '{world.place}' describes itself as "
        f"'{found.preset or 'a model of its own size'}': it has {differs}. Leave --model out."
    )


def family_of_preset(preset: str) -> str:
    """Return the name of the family that a preset is of.

    Raises:
        ConfigError: there is no such preset; the message names the nearest.
    """
    presets = {name: family for family in available_families() for name in _presets(family)}
    if preset not in presets:
        raise ConfigError(
            f"There is no model called '{preset}'. The nearest names are "
            f"{nearest_names(preset, presets)}; `nemo-cosmos models` lists all."
        )
    return presets[preset]


def is_foreign_tokenizer(place: Path) -> bool:
    """Whether a place holds a tokenizer, and not a world model.

    Raises:
        InputError: it is a folder of ours already.
        CheckpointError: it is neither a tokenizer nor a world model.
    """
    kind = format_of(place)
    if kind is not None:
        raise InputError(
            f"'{place}' is a folder of ours already ({kind}). Use it directly, or turn it into "
            "another format with 'nemo-cosmos export'."
        )
    if is_nemo_checkpoint(place) or any(one.recognises(place) for one in _all_formats()):
        return False
    if is_tokenizer_place(place):
        return True
    file = _model_file(place)
    if not file.is_file():
        raise CheckpointError(
            f"'{place}' is not a known checkpoint: expected a diffusers folder (model_index.json), "
            "an original model.pt, the .jit files of a tokenizer, or a NeMo distributed checkpoint "
            "(weights/metadata.json)."
        )
    return any(name.startswith(("encoder.", "decoder.")) for name in TorchFileSource(file).specs)


def _model_file(place: Path) -> Path:
    return place / MODEL_FILE if place.is_dir() else place


def tokenizer_place(place: Path, given: Path | None) -> Path:
    """Return where the tokenizer of a world model is.

    Args:
        place: the world model.
        given: the tokenizer that the user names; None looks beside the model.

    Raises:
        InputError: nowhere, and none is named.
    """
    if given is not None:
        return given
    folder = place if place.is_dir() else place.parent
    for name in (VAE_FOLDER, TOKENIZER_FOLDER):
        if (folder / name / CONFIG_FILE).is_file() or (folder / name / MODEL_FILE).is_file():
            return folder / name
    recorded = recorded_tokenizer(folder)
    if recorded is not None and (recorded / CONFIG_FILE).is_file():
        return recorded
    raise InputError(
        f"'{place}' comes without a tokenizer, which a world model needs to turn latents into "
        "pixels. Name the one that it was trained with: --tokenizer FOLDER, a folder of ours, of "
        "diffusers (vae/), or of original files (autoencoder.jit, mean_std.pt)."
    )


def _describe_preset(preset: str, tokenizer: TokenizerConfig) -> WorldConfig:
    family = family_of_preset(preset)
    formats = formats_of(family)
    if formats is None:
        raise InputError(
            f"The family '{family}' has no published settings to complete a checkpoint of "
            f"'{preset}' with. Put the '{DESCRIPTION_FILE}' that training wrote beside its weights."
        )
    return formats.describe_preset(preset, tokenizer)


def _all_formats() -> Iterator[FamilyFormats]:
    for family in available_families():
        formats = formats_of(family)
        if formats is not None:
            yield formats


def _presets(family: str) -> list[str]:
    return list(get_family(family).presets)
