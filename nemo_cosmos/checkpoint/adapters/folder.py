"""Adapter folders: what training saves beside an export, and what merging reads.

::

    adapter/
      adapter_config.json          rank, alpha, targets; the base, and the adapted world's config
      adapter_model.safetensors    NAME.lora_A.weight and NAME.lora_B.weight of each adapted map
                                   NAME.weight, and weights that were trained in full (controls)

The names of the first fields are those of the PEFT library; names of weights are ours, since it is
our fused projections that have adapters. ``nemo-cosmos export ADAPTER --format diffusers`` writes
the other library's. A folder is written whole or not at all, and nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.formats.json_files import read_object, write_object
from nemo_cosmos.checkpoint.formats.safetensors import (
    SafetensorsSource,
    tensor_bytes,
    usual_order,
    write_safetensors,
)
from nemo_cosmos.checkpoint.formats.tensors import (
    MemorySource,
    TensorSource,
    check_finite,
    stream_of,
)
from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError, counted
from nemo_cosmos.home import expanded
from nemo_cosmos.options import Range, check_record, check_value
from nemo_cosmos.storage import atomic_path

ADAPTER_FOLDER = "adapter"
"""Where a run's folder holds its adapter."""
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FORMAT = "nemo_cosmos.adapter"
VERSION = 1
MAX_RANK = 4096
LORA_A, LORA_B, WEIGHT = ".lora_A.weight", ".lora_B.weight", ".weight"

_FIELDS = (
    "format",
    "version",
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "base_model_name_or_path",
    "base",
    "world",
)
_BASE = ("preset", "weights_sha256")


@dataclass(frozen=True)
class AdapterConfig:
    """The description of an adapter and of its base.

    Attributes:
        rank: channels between its factors.
        alpha: their product counts ``alpha / rank`` times.
        dropout: share of the input that was dropped in training.
        target_modules: maps that have an adapter.
        trained_modules: modules that were trained in full.
        base: the folder of the base when it was trained, for people.
        base_preset: the base's preset; None for a size of its own.
        base_sha256: :func:`weights_sha256` of the base.
        world: the adapted world's description.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    trained_modules: tuple[str, ...]
    base: str
    base_preset: str | None
    base_sha256: str
    world: WorldConfig

    @property
    def scale(self) -> float:
        """How often the product of the factors counts."""
        return self.alpha / self.rank

    def to_dict(self) -> JsonObject:
        """Return the content of ``adapter_config.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": list(self.target_modules),
            "modules_to_save": list(self.trained_modules),
            "base_model_name_or_path": self.base,
            "base": {"preset": self.base_preset, "weights_sha256": self.base_sha256},
            "world": self.world.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: JsonObject) -> Self:
        """Rebuild from the content of ``adapter_config.json``.

        Raises:
            CheckpointError: it is of another library or release.
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        kind, version = data.get("format"), data.get("version")
        if kind != FORMAT or version != VERSION:
            raise CheckpointError(
                f"It is of format {kind!r} version {version!r}; expected '{FORMAT}' version "
                f"{VERSION}, as 'nemo-cosmos finetune ... peft_scheme=lora' writes it. Adapters of "
                "other libraries are not read."
            )
        check_record(data, CONFIG_FILE, _FIELDS, required=_FIELDS)
        base = check_record(data["base"], "base", _BASE, required=_BASE)
        check_value("r", data["r"], int, Range(least=1, most=MAX_RANK))
        check_value("lora_alpha", data["lora_alpha"], float, Range(above=0))
        check_value("lora_dropout", data["lora_dropout"], float, Range(least=0, most=1))
        for name in ("target_modules", "modules_to_save"):
            check_value(name, data[name], tuple[str, ...])
        check_value("base_model_name_or_path", data["base_model_name_or_path"], str)
        check_value("base.preset", base["preset"], str | None)
        check_value("base.weights_sha256", base["weights_sha256"], str)
        world = check_record(data["world"], "world", data["world"])
        return cls(
            rank=data["r"],
            alpha=float(data["lora_alpha"]),
            dropout=float(data["lora_dropout"]),
            target_modules=tuple(data["target_modules"]),
            trained_modules=tuple(data["modules_to_save"]),
            base=data["base_model_name_or_path"],
            base_preset=base["preset"],
            base_sha256=base["weights_sha256"],
            world=WorldConfig.from_dict(dict(world)),
        )


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, its names read and not yet its weights.

    Attributes:
        folder: where it is.
        config: what it is, and of what.
    """

    folder: Path
    config: AdapterConfig

    @cached_property
    def source(self) -> SafetensorsSource:
        """Its tensors by name."""
        return SafetensorsSource(self.folder / WEIGHTS_FILE)

    @cached_property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """By the name of an adapted weight, the names of its factors A and B."""
        maps = [name.removesuffix(LORA_A) for name in self.source.specs if name.endswith(LORA_A)]
        return {name + WEIGHT: (name + LORA_A, name + LORA_B) for name in maps}

    @cached_property
    def whole(self) -> list[str]:
        """Names of the weights that were trained in full."""
        return [name for name in self.source.specs if not name.endswith((LORA_A, LORA_B))]


def save_adapter(
    path: str | PathLike[str], config: AdapterConfig, tensors: Mapping[str, Tensor]
) -> None:
    """Write an adapter's folder, whole or not at all.

    Args:
        path: the folder; a former one is replaced.
        config: what the adapter is.
        tensors: factors and weights trained in full, by the names in the file.

    Raises:
        NumericsError: one is NaN or infinite.
        StorageFullError: no space left; what was at ``path`` is intact.
    """
    check_finite(tensors.items(), f"the adapter for '{path}'")
    source = MemorySource(usual_order(tensors), place=str(path))
    with atomic_path(path) as temporary:
        temporary.mkdir()
        write_safetensors(temporary / WEIGHTS_FILE, stream_of(source))
        write_object(temporary / CONFIG_FILE, config.to_dict())


def is_adapter(folder: str | PathLike[str]) -> bool:
    """Whether a folder is an adapter's, or what is left of one."""
    place = expanded(str(folder))
    return (place / CONFIG_FILE).is_file() or (place / WEIGHTS_FILE).is_file()


def adapter_folder(path: str | PathLike[str]) -> Path:
    """The folder of an adapter that a person names: itself, or the run's that trained it."""
    folder = expanded(str(path))
    inside = folder / ADAPTER_FOLDER
    return inside if is_adapter(inside) and not is_adapter(folder) else folder


def open_adapter(path: str | PathLike[str]) -> Adapter:
    """Open an adapter, strictly: every factor has its other one, of the rank that is recorded.

    Args:
        path: its folder, or that of the run that trained it.

    Raises:
        MissingFileError: the folder or one of its files does not exist.
        CheckpointError: a file is damaged, or the two do not fit each other.
        ConfigError: the description holds an unknown name or an impossible value.
    """
    folder = adapter_folder(path)
    file = folder / CONFIG_FILE
    data = read_object(file)
    if data is None:
        raise MissingFileError(
            f"There is no '{file}'. An adapter's folder holds {CONFIG_FILE} and {WEIGHTS_FILE}; "
            "'nemo-cosmos finetune ... peft_scheme=lora' writes one to '<run>/adapter'."
        )
    try:
        config = AdapterConfig.from_dict(data)
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"'{file}' cannot be used. {error}") from error
    adapter = Adapter(folder, config)
    _check_factors(adapter)
    return adapter


def check_effect(adapter: Adapter) -> None:
    """Require an adapter that is written without its world to hold finite numbers, not all zero.

    Raises:
        NumericsError: a number is NaN or infinite.
        CheckpointError: it would change nothing.
    """
    read = adapter.source.read
    check_finite(
        ((name, read(name)) for name in adapter.source.specs), f"the adapter '{adapter.folder}'"
    )
    if not adapter.whole and not any(
        bool((read(b).float() @ read(a).float()).any()) for a, b in adapter.pairs.values()
    ):
        raise CheckpointError(without_effect(adapter, len(adapter.pairs)))


def without_effect(adapter: Adapter, num_weights: int) -> str:
    """What is wrong with an adapter that changes none of its weights."""
    return (
        f"The adapter '{adapter.folder}' changes none of {counted(num_weights, 'weight')}: its "
        "factors multiply to zero, as before the first step of training. A video made with it "
        "would be the base's; train it, or leave it out."
    )


def weights_sha256(source: TensorSource) -> str:
    """A hash of all weights: names, types, shapes and values, in whatever files they lie."""
    digest = hashlib.sha256()
    for name in sorted(source.specs):
        spec = source.specs[name]
        digest.update(f"{name} {spec.dtype} {spec.shape}".encode())
        digest.update(tensor_bytes(source.read(name)))
    return digest.hexdigest()


def _check_factors(adapter: Adapter) -> None:
    specs: Mapping[str, Any] = adapter.source.specs
    rank = adapter.config.rank
    for a, b in adapter.pairs.values():
        if b not in specs:
            raise CheckpointError(broken(adapter, f"'{a}' is without '{b}'"))
        found = specs[a].shape[:1] + specs[b].shape[1:]
        if len(specs[a].shape) != 2 or found != (rank, rank):
            raise CheckpointError(
                broken(adapter, f"'{a}' and '{b}' are of rank {found}, the description of {rank}")
            )
    lonely = {name.removesuffix(LORA_B) + WEIGHT for name in specs if name.endswith(LORA_B)}
    for name in sorted(lonely - adapter.pairs.keys()):
        factor = name.removesuffix(WEIGHT) + LORA_B
        raise CheckpointError(broken(adapter, f"'{factor}' is without its other factor"))
    if not specs:
        raise CheckpointError(broken(adapter, "it holds no tensor"))


def broken(adapter: Adapter, what: str) -> str:
    """The message of an adapter whose weights are not those of its description.

    Args:
        adapter: the adapter.
        what: the difference.
    """
    return (
        f"'{adapter.folder / WEIGHTS_FILE}' is no adapter of '{CONFIG_FILE}' beside it: {what}. "
        "The file was changed or is another adapter's; copy the folder again."
    )
