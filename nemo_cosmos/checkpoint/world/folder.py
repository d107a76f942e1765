"""World folders: the one writer and the one reader, for training, import and inference.

::

    my_world/
      config.json          format, preset, the family's settings, text encoder, controls, video
      model.safetensors    weights of the network and its controls (the average, if EMA was on),
                           or shards of them with an index
      tokenizer/           the tokenizer's folder, so that the world is complete
      ...                  what a family adds later, such as heads that guess ahead

A folder is written whole or not at all, one tensor in memory at a time. It is read strictly: a
weight that is missing, unknown, of another shape, NaN or infinite is one clear error. Nothing in it
is unpickled.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from nemo_cosmos.checkpoint.formats.json_files import read_object
from nemo_cosmos.checkpoint.formats.safetensors import (
    SafetensorsSource,
    usual_order,
    weight_files,
    write_safetensors,
)
from nemo_cosmos.checkpoint.formats.tensors import (
    MemorySource,
    PartSource,
    TensorStream,
    check_fit,
    finite,
    named_tensors,
    shapes_of,
    stream_of,
    watched,
)
from nemo_cosmos.checkpoint.loading import load_weights
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    WorldConfig,
    current_name,
    read_config,
    write_config,
)
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import default_device, ensure_model_parallel
from nemo_cosmos.progress import Progress
from nemo_cosmos.provenance.belonging import ALLOWED_KEY, Parts, check_together
from nemo_cosmos.provenance.hashes import file_sha256, files_sha256
from nemo_cosmos.storage import atomic_path, exported_folder


class Savable(Protocol):
    """Anything that writes itself into a folder, as ``VideoTokenizer`` does."""

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the folder."""
        ...


@dataclass(frozen=True)
class World:
    """A loaded world model.

    Attributes:
        net: the network, in evaluation mode.
        config: its description.
        tokenizer: pixels to latents and back.
        folder: where it was loaded from.
        adapters: what was put on its weights, for the record.
    """

    net: nn.Module
    config: WorldConfig
    tokenizer: VideoTokenizer
    folder: Path
    adapters: tuple[Mapping[str, object], ...] = ()


class AdaptedWorld(Protocol):
    """The description and the weights of a folder's world with adapters."""

    @property
    def config(self) -> WorldConfig:
        """The description of the whole."""
        ...

    @property
    def source(self) -> PartSource:
        """Its weights."""
        ...

    @property
    def records(self) -> tuple[Mapping[str, object], ...]:
        """The adapters, for the record."""
        ...


def write_world(
    path: str | PathLike[str],
    config: WorldConfig,
    stream: TensorStream,
    tokenizer: Savable | str | PathLike[str],
    *,
    place: str = "",
    progress: Progress | None = None,
) -> None:
    """Write a world folder, whole or not at all; large weights in shards.

    Args:
        path: the folder; a former one is replaced.
        config: the world's description.
        stream: the weights of the whole network and its controls, under our names.
        tokenizer: the tokenizer, or the folder of one, which is copied.
        place: where the weights come from, for messages; by default ``path``.
        progress: called after every tensor.

    Raises:
        NumericsError: a weight is NaN or infinite.
        MissingFileError: there is no tokenizer folder.
        StorageFullError: no space left; what was at ``path`` is intact.
    """
    checked = finite(stream.tensors, f"'{place}'" if place else f"the weights for '{path}'")
    # A NaN is found while the stream is written; what was at the path stays until all is written.
    with atomic_path(path) as temporary:
        temporary.mkdir()
        tensors = watched(checked, stream.specs, progress)
        weights = replace(stream, tensors=tensors)
        write_safetensors(temporary / WEIGHTS_FILE, weights, metadata=None)
        if isinstance(tokenizer, str | PathLike):
            shutil.copytree(_tokenizer_folder(tokenizer), temporary / TOKENIZER_FOLDER)
        else:
            tokenizer.save(temporary / TOKENIZER_FOLDER)
        inside = VideoTokenizer.from_folder(temporary / TOKENIZER_FOLDER)
        write_config(temporary / CONFIG_FILE, replace(config, made_with=inside.describe()))


def save_world(
    path: str | PathLike[str],
    weights: nn.Module | Mapping[str, Tensor],
    config: WorldConfig,
    tokenizer: Savable | str | PathLike[str],
) -> None:
    """Write a world folder of a network that is in memory; see :func:`write_world`.

    Args:
        path: the folder; a former one is replaced.
        weights: the network, with its controls if it has any; or its tensors by name.
        config: the world's description.
        tokenizer: the tokenizer, or the folder of one, which is copied.
    """
    state = named_tensors(weights) if isinstance(weights, nn.Module) else weights
    source = MemorySource(usual_order(state), place=f"the weights for '{path}'")
    write_world(path, config, stream_of(source), tokenizer)


def load_world(
    path: str | PathLike[str],
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    tp: int = 1,
    cp: int = 1,
    allow_mismatch: Collection[str] = (),
    adapted: AdaptedWorld | None = None,
) -> World:
    """Read a world folder, and say what was loaded.

    Args:
        path: the folder, or that of the run that exported it.
        dtype: precision to compute in.
        device: where to put the model; the default device if not given.
        tp: tensor-parallel ranks, each of which reads only its part of the weights.
        cp: context-parallel ranks, each of which holds all weights and a part of the video.
        allow_mismatch: kinds of difference between its parts that are meant; see
            :mod:`nemo_cosmos.provenance.belonging`.
        adapted: the folder's world with adapters, to load instead of its own weights.

    Raises:
        ConfigError: its tokenizer is not the one that it was made with.
        MissingFileError: the folder or one of its files does not exist.
        CheckpointError: a file is damaged or does not fit the others.
        NumericsError: a weight is NaN or infinite.
    """
    folder = exported_folder(path)
    config = read_config(folder) if adapted is None else adapted.config
    device = device or default_device()
    tokenizer = VideoTokenizer.from_folder(folder / TOKENIZER_FOLDER)
    config = check_tokenizer(config, tokenizer, folder, allow_mismatch)
    ensure_model_parallel(tp=tp, cp=cp)
    net = _build(config, tokenizer.config, dtype, tp=tp, cp=cp)
    weights = open_weights(folder / WEIGHTS_FILE) if adapted is None else adapted.source
    load_weights([net], weights, f"the model in '{CONFIG_FILE}'", is_filled=False).say()
    return World(
        net=net.to(device).eval().requires_grad_(False),
        config=config,
        tokenizer=tokenizer.to(device),
        folder=folder,
        adapters=() if adapted is None else adapted.records,
    )


def check_tokenizer(
    config: WorldConfig, tokenizer: VideoTokenizer, folder: Path, allowed: Collection[str] = ()
) -> WorldConfig:
    """Require the tokenizer of a world folder to be the one that made the world's latents.

    Args:
        config: the world's description.
        tokenizer: the tokenizer in the folder.
        folder: the folder, for messages.
        allowed: kinds of difference that are meant.

    Returns:
        the description, with the differences that were allowed.

    Raises:
        ConfigError: it is another.
    """
    inside = Parts(str(folder / TOKENIZER_FOLDER), tokenizer=tokenizer.describe())
    meant = check_together([config.parts(str(folder / CONFIG_FILE)), inside], allowed)
    return replace(config, allowed_mismatch=(*config.allowed_mismatch, *meant))


def meta_network(config: WorldConfig, tokenizer: TokenizerConfig) -> nn.Module:
    """Build the whole network without memory: names, shapes and places of its weights."""
    ensure_model_parallel()
    with torch.device("meta"):
        return _build(config, tokenizer, torch.float32)


def check_weights(config: WorldConfig, tokenizer: TokenizerConfig, folder: Path) -> nn.Module:
    """Require a world folder's weights to be those of the model that it describes.

    Names and shapes are compared, which stand at the beginning of a file; no weight is read.

    Args:
        config: the world's description.
        tokenizer: the description of its tokenizer.
        folder: the folder.

    Returns:
        the network without memory.

    Raises:
        MissingFileError: there are no weights.
        CheckpointError: a file is damaged, or of another model.
    """
    net = meta_network(config, tokenizer)
    expected = {name: tuple(value.shape) for name, value in named_tensors(net).items()}
    weights = open_weights(folder / WEIGHTS_FILE)
    check_fit(
        expected,
        shapes_of(weights.specs),
        weights.place,
        f"the model in '{CONFIG_FILE}'",
        f"'{CONFIG_FILE}' was changed, or is another model's; export or copy the folder again.",
    )
    return net


def open_weights(file: Path) -> SafetensorsSource:
    """Open a folder's weights under the network's names, whatever the folder's version.

    Args:
        file: the weights, beside their ``config.json``.

    Raises:
        MissingFileError: there are no weights.
        CheckpointError: a file is damaged.
    """
    data = read_object(file.parent / CONFIG_FILE) or {}
    return SafetensorsSource(file, lambda name: current_name(name, data))


def model_record(world: World) -> dict[str, object]:
    """Describe the weights that a video was generated with."""
    meant = world.config.allowed_mismatch
    return {
        "name": world.folder.resolve().name,
        "preset": world.config.preset,
        "weights_sha256": files_sha256(weight_files(world.folder / WEIGHTS_FILE)),
        "tokenizer_sha256": file_sha256(world.folder / TOKENIZER_FOLDER / WEIGHTS_FILE),
        "text_encoder": dict(world.config.text_encoder),
        **({"adapters": [dict(one) for one in world.adapters]} if world.adapters else {}),
        **({ALLOWED_KEY: list(meant)} if meant else {}),
    }


def _build(
    config: WorldConfig, tokenizer: TokenizerConfig, dtype: torch.dtype, tp: int = 1, cp: int = 1
) -> nn.Module:
    return get_family(config.family).build_network(
        config.model,
        tokenizer,
        config.controls,
        dtype=dtype,
        tp=tp,
        cp=cp,
    )


def _tokenizer_folder(path: str | PathLike[str]) -> Path:
    folder = Path(path)
    if not (folder / CONFIG_FILE).is_file():
        raise MissingFileError(
            f"'{folder}' is not a tokenizer folder: it has no {CONFIG_FILE}. The latents were made "
            "with it, and the world model needs it to decode; put it back, or give the model "
            "world=WorldInfo(...) with its new place."
        )
    return folder
