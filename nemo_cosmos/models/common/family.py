"""What the other rooms may ask of a model family without knowing it.

A *world* is a trained model with its tokenizer and text encoder. Checkpoints, inference, training
and planning work with any family: they read its name in ``config.json`` (``nemo_cosmos.<name>``)
or on the Lightning module, and ask :func:`get_family` for the rest. A family of another package
registers itself under the entry point group ``nemo_cosmos.families``::

    [project.entry-points."nemo_cosmos.families"]
    flow = "my_package.family:FLOW"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError, nearest_names

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from megatron.core.transformer.transformer_config import TransformerConfig
    from torch import nn

    from nemo_cosmos.models.common.costs import Size3, StepInputs, Workload
    from nemo_cosmos.models.common.generator import Generator
    from nemo_cosmos.models.common.latents import LatentCodec, LatentGrid

ENTRY_POINT_GROUP = "nemo_cosmos.families"
OPTIONS_ENTRY_POINT_GROUP = "nemo_cosmos.family_options"


class FamilySettings(Protocol):
    """A family's own part of ``config.json``; the family knows its fields."""

    def to_dict(self) -> dict[str, object]:
        """Return plain data, one entry for each of :attr:`WorldFamily.config_keys`."""
        ...


@dataclass(frozen=True)
class WorldInfo:
    """What a world model takes over from the data that it is trained on.

    Attributes:
        tokenizer: folder of the tokenizer that made the latents.
        text_encoder: kind, path, max_length and dim of the encoder that made the embeddings.
        video: num_frames, fps, height and width of the clips, in pixels.
        made_with: what identifies that tokenizer; empty where nothing records it.
    """

    tokenizer: str
    text_encoder: Mapping[str, Any]
    video: Mapping[str, Any]
    made_with: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelDescription:
    """What a Lightning module says about the network that it trains; the export records it.

    Attributes:
        family: name of its family.
        settings: the family's part of ``config.json``.
        preset: name of the preset that it was made from; None for a size of one's own.
        controls: what steers it.
        fps: frame rate in Hz of the first training batch; None before training.
    """

    family: str
    settings: FamilySettings
    preset: str | None = None
    controls: tuple[ControlSpec, ...] = ()
    fps: float | None = None


@runtime_checkable
class WorldModel(Protocol):
    """A Lightning module that trains a world model of any family.

    Attributes:
        family: name of its family; an attribute of the class.
        config: Megatron's configuration of the network.
        preset: name of the preset that it was made from; None for a size of one's own.
        world: tokenizer, text encoder and video size for the export; None takes the data's.
    """

    family: ClassVar[str]
    config: TransformerConfig
    preset: str | None
    world: WorldInfo | None

    def describe(self) -> ModelDescription:
        """Say what the network is."""
        ...


class Preset(Protocol):
    """A model size and task with a name."""

    @property
    def name(self) -> str:
        """The name, such as ``"diffusion_7b_text2world"``."""
        ...

    @property
    def task(self) -> str:
        """What the model makes its video of, such as ``"text2world"``."""
        ...

    @property
    def tokenizer(self) -> str:
        """The tokenizer preset whose latents the model makes."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Numbers that tell the sizes of a family apart, such as ``layers`` and ``width``."""
        ...


class WorldFamily(Protocol):
    """A kind of world model, such as diffusion; its Lightning module is a :class:`WorldModel`."""

    @property
    def name(self) -> str:
        """The family's name; the format in ``config.json`` is ``nemo_cosmos.<name>``."""
        ...

    @property
    def config_keys(self) -> tuple[str, ...]:
        """The entries of ``config.json`` that belong to the family, in the order of writing."""
        ...

    @property
    def presets(self) -> Mapping[str, Preset]:
        """The family's models by name."""
        ...

    def count_parameters(self, preset: str) -> int:
        """Return a preset's number of parameters, counted without memory."""
        ...

    def read_settings(self, data: Mapping[str, Any]) -> FamilySettings:
        """Rebuild the settings from the entries :attr:`config_keys` of ``config.json``.

        Raises:
            ConfigError: a value is unknown or impossible.
        """
        ...

    def fixed_settings(self, settings: FamilySettings) -> Mapping[str, Any]:
        """Return the settings that given weights fix: with others, they compute something else.

        Args:
            settings: what :meth:`read_settings` gave, or a model's own.
        """
        ...

    def data_settings(self, settings: FamilySettings) -> Mapping[str, int]:
        """Return what the training data must be like.

        Returns:
            ``text_channels`` of the text embeddings and ``latent_channels``, as far as they matter.
        """
        ...

    def build_network(
        self,
        settings: FamilySettings,
        tokenizer: LatentGrid,
        controls: Sequence[ControlSpec],
        *,
        dtype: torch.dtype,
        tp: int = 1,
        cp: int = 1,
    ) -> nn.Module:
        """Build this rank's part of the network without initialising it.

        Call :func:`nemo_cosmos.platform.ensure_model_parallel` before. Inside
        ``torch.device("meta")`` the network takes no memory.

        Args:
            settings: what :meth:`read_settings` gave.
            tokenizer: the world's tokenizer.
            controls: what steers the model.
            dtype: precision of the weights.
            tp: tensor-parallel size.
            cp: context-parallel size.

        Raises:
            ConfigError: the settings do not fit each other, or not the parallel sizes.
        """
        ...

    def make_generator(
        self,
        net: nn.Module,
        settings: FamilySettings,
        tokenizer: LatentCodec,
        folder: Path | None = None,
    ) -> Generator:
        """Return what makes videos with a built network.

        Args:
            net: what :meth:`build_network` gave, with its weights, in evaluation mode.
            settings: the settings that it was built with.
            tokenizer: pixels to latents and back.
            folder: the world's folder, for what a family keeps beside the weights; None where the
                network is in training.
        """
        ...

    def share_weights(self, net: nn.Module) -> None:
        """Keep this rank's part of every weight, in place; a layer is gathered while it computes.

        Args:
            net: the network, whole on every rank, on any device.
        """
        ...

    def usual_clip(self, model: Any, tokenizer: LatentGrid) -> Size3:
        """Return the size of a training video, where no data name one.

        Args:
            model: the family's Lightning module; its network need not be built.
            tokenizer: the tokenizer of its latents.
        """
        ...

    def workload(self, model: Any, tokenizer: LatentGrid, inputs: StepInputs) -> Workload:
        """Describe one training step to the planner.

        Args:
            model: the family's Lightning module; its network need not be built.
            tokenizer: the tokenizer of its latents.
            inputs: what the step is fed with.

        Raises:
            WrongFrameCountError, WrongSizeError: the network does not take such videos.
        """
        ...


_BUILTIN = {
    "diffusion": "nemo_cosmos.models.diffusion.family:DIFFUSION_FAMILY",
    "autoregressive": "nemo_cosmos.models.autoregressive.family:AUTOREGRESSIVE_FAMILY",
}
_REGISTERED: dict[str, WorldFamily] = {}
# Apart from the families, whose modules import torch: ``--help`` shows these options.
_BUILTIN_OPTIONS = {
    "diffusion": "nemo_cosmos.models.diffusion.options:DiffusionOptions",
    "autoregressive": "nemo_cosmos.models.autoregressive.options:AROptions",
}


def register_family(family: WorldFamily) -> None:
    """Make a family known in this process; one of the same name is replaced."""
    _REGISTERED[family.name] = family


def available_families() -> list[str]:
    """Return the names of all known families."""
    installed = (point.name for point in entry_points(group=ENTRY_POINT_GROUP))
    return sorted({*_BUILTIN, *_REGISTERED, *installed})


def get_family(name: str) -> WorldFamily:
    """Return a family by name.

    Raises:
        ConfigError: no such family is known; the message names the nearest.
    """
    if name not in _REGISTERED:
        _REGISTERED[name] = _load(name)
    return _REGISTERED[name]


def generation_options() -> dict[str, type[Any]]:
    """Return the dataclass of each family's own generation options, without importing a network.

    A family of another package names its dataclass under the entry point group
    ``nemo_cosmos.family_options``.
    """
    builtin = {name: _import(target) for name, target in _BUILTIN_OPTIONS.items()}
    installed = entry_points(group=OPTIONS_ENTRY_POINT_GROUP)
    return builtin | {point.name: point.load() for point in installed}


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _load(name: str) -> WorldFamily:
    """Import a built-in family or one of an installed package."""
    if name in _BUILTIN:
        builtin: WorldFamily = _import(_BUILTIN[name])
        return builtin
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        installed: WorldFamily = point.load()
        return installed
    raise ConfigError(
        f"There is no model family '{name}'. Known are {nearest_names(name, available_families())}."
        f" A family of another package registers itself under the entry point group "
        f"'{ENTRY_POINT_GROUP}'; install its package."
    )
