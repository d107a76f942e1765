"""Read a world-model folder: what training exports and inference loads, without NeMo.

What is in it stands in :mod:`nemo_cosmos.models.diffusion.world`, which writes it.
Nothing in it is unpickled. It is read strictly: a weight that is
missing, unknown, of another shape, NaN or infinite is one clear error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource, weight_files
from nemo_cosmos.checkpoint.formats.tensors import check_fit, finite, shapes_of
from nemo_cosmos.errors import CheckpointError, MissingFileError
from nemo_cosmos.models.common.megatron.parts import parts_of
from nemo_cosmos.models.diffusion.build import ControlSpec, WorldNetwork, build_network
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.world import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    WorldConfig,
    WorldInfo,
    save_world,
)
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import default_device, ensure_model_parallel
from nemo_cosmos.provenance.hashes import file_sha256
from nemo_cosmos.provenance.record import files_sha256

__all__ = ["World", "WorldConfig", "WorldInfo", "load_world", "read_config", "save_world"]


@dataclass(frozen=True)
class World:
    """A loaded world model.

    Attributes:
        net: the network, in evaluation mode.
        config: what it is made of.
        tokenizer: pixels to latents and back.
        folder: where it came from.
    """

    net: WorldNetwork
    config: WorldConfig
    tokenizer: VideoTokenizer
    folder: Path


def load_world(
    path: str | PathLike[str],
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    tp: int = 1,
    cp: int = 1,
) -> World:
    """Read a world-model folder.

    Args:
        path: the folder.
        dtype: precision to compute in.
        device: where to put the model; the default device if not given.
        tp: tensor-parallel processes, of which each reads its part of the weights alone.
        cp: context-parallel processes, of which each holds all weights and a part of the video.

    Raises:
        MissingFileError: the folder or one of its files is not there.
        CheckpointError: a file is damaged or does not fit the others.
        NumericsError: a weight is NaN or infinite.
    """
    folder = Path(path)
    config = read_config(folder)
    device = device or default_device()
    tokenizer = VideoTokenizer.from_folder(folder / TOKENIZER_FOLDER)
    ensure_model_parallel(tp=tp, cp=cp)
    network_config = DiTConfig.from_architecture(
        config.network,
        params_dtype=dtype,
        perform_initialization=False,
        tensor_model_parallel_size=tp,
        context_parallel_size=cp,
    )
    net = build_network(network_config, config.process, control_spec(config, tokenizer))
    load_weights(net, folder / WEIGHTS_FILE)
    return World(
        net=net.to(device).eval().requires_grad_(False),
        config=config,
        tokenizer=tokenizer.to(device),
        folder=folder,
    )


def read_config(folder: Path) -> WorldConfig:
    """Read ``config.json`` of a world-model folder.

    Raises:
        MissingFileError: there is none.
        CheckpointError: it is damaged or of another format.
    """
    file = _existing(folder / CONFIG_FILE)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"'{file}' is not valid JSON: {error}. Export or copy the folder again."
        ) from error
    return WorldConfig.from_dict(data if isinstance(data, dict) else {})


def model_record(world: World) -> dict[str, Any]:
    """Describe the weights that a video was generated with."""
    return {
        "name": world.folder.resolve().name,
        "preset": world.config.preset,
        "weights_sha256": files_sha256(weight_files(world.folder / WEIGHTS_FILE)),
        "tokenizer_sha256": file_sha256(world.folder / TOKENIZER_FOLDER / WEIGHTS_FILE),
        "text_encoder": dict(world.config.text_encoder),
    }


def control_spec(config: WorldConfig, tokenizer: VideoTokenizer) -> ControlSpec | None:
    """Return how to build the model's control; None without one."""
    if config.control is None:
        return None
    return ControlSpec(
        name=config.control,
        temporal_factor=tokenizer.config.temporal_factor,
        spatial_factor=tokenizer.config.spatial_factor,
        options=config.control_options,
    )


@torch.no_grad()
def load_weights(net: nn.Module, file: Path) -> None:
    """Copy a safetensors file, or its shards, into a network, strictly.

    A process that holds a part of the network reads that part alone.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged, or its tensors are not those of the network.
        NumericsError: it holds NaN or infinity.
    """
    shards = parts_of(net)
    weights = SafetensorsSource(file)
    check_fit(
        {shard.name: shard.whole_shape for shard in shards},
        shapes_of(weights.specs),
        weights.place,
        f"the model in '{CONFIG_FILE}'",
        "The two are of different models; export the folder again.",
    )
    targets = {shard.name: shard.tensor for shard in shards}
    parts = ((shard.name, weights.read_part(shard.name, shard.slices)) for shard in shards)
    for name, part in finite(parts, f"'{file}'"):
        targets[name].copy_(part)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(
            f"There is no '{path}'. A world-model folder holds {CONFIG_FILE}, {WEIGHTS_FILE} and "
            f"{TOKENIZER_FOLDER}/; training writes one to '<run>/export'."
        )
    return path
