"""Folders of a diffusers pipeline: ``CosmosTextToWorldPipeline`` or ``CosmosVideoToWorldPipeline``.

::

    my_world/
      model_index.json     which classes stand where
      transformer/         config.json, diffusion_pytorch_model.safetensors (or shards of it)
      vae/                 the tokenizer
      scheduler/           scheduler_config.json
      text_encoder/        T5, where the folder has it; else diffusers is given one
      nemo_cosmos.json     ours: what the others do not say
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemo_cosmos.checkpoint.diffusion.descriptions import (
    config_for_diffusers,
    diffusers_config,
    with_learned_variance,
    world_of,
)
from nemo_cosmos.checkpoint.diffusion.keys import export_stream, import_stream
from nemo_cosmos.checkpoint.foreign import VAE_FOLDER
from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource, write_safetensors
from nemo_cosmos.checkpoint.formats.tensors import Shapes, TensorSource, TensorStream
from nemo_cosmos.checkpoint.tokenizer.files import VAE_WEIGHTS, export_diffusers_vae
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    DESCRIPTION_FILE,
    WorldConfig,
    read_description,
    write_config,
)
from nemo_cosmos.errors import CheckpointError, MissingFileError
from nemo_cosmos.models.diffusion.family import diffusion_settings
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.samplers import RHO, SIGMA_MAX, SIGMA_MIN
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

INDEX_FILE = "model_index.json"
TRANSFORMER, VAE, SCHEDULER = "transformer", VAE_FOLDER, "scheduler"
TEXT_ENCODER, TEXT_TOKENIZER = "text_encoder", "tokenizer"
DIFFUSERS_VERSION = "0.35.2"


def is_diffusers_folder(folder: Path) -> bool:
    """Whether it is a pipeline's folder."""
    return (folder / INDEX_FILE).is_file() or (folder / TRANSFORMER / CONFIG_FILE).is_file()


class DiffusersWorld:
    """A world model in a diffusers folder.

    Args:
        folder: of the pipeline.
        tokenizer: of its latents.

    Raises:
        MissingFileError: a file is not there.
        CheckpointError: a file is damaged or of another model.
    """

    def __init__(self, folder: Path, tokenizer: TokenizerConfig) -> None:
        file = folder / TRANSFORMER / CONFIG_FILE
        network = diffusers_config(_read_json(file), file)
        self.config = _describe(folder, network, tokenizer)
        self._network = network
        self._source = SafetensorsSource(folder / TRANSFORMER / VAE_WEIGHTS)
        self.place = self._source.place

    def stream(self, expected: Shapes) -> TensorStream:
        """The weights under our names; ``expected`` are those of our network."""
        return import_stream(self._source, self._network, "diffusers", expected)


def _describe(folder: Path, network: DiTConfig, tokenizer: TokenizerConfig) -> WorldConfig:
    """What ``nemo_cosmos.json`` says, or the settings of the published models."""
    described = read_description(folder)
    if described is not None:
        recorded = diffusion_settings(described.model).network_config()
        if recorded.architecture() != network.architecture():
            raise CheckpointError(
                f"'{folder}' describes two networks: 'nemo_cosmos.json' and "
                f"'{TRANSFORMER}/{CONFIG_FILE}' differ. Delete the former if the latter is right."
            )
        # diffusers has no place for the learned variance, so its weights are not there.
        return with_learned_variance(described, False)
    conditioning = ConditioningConfig(max_condition_latents=2 if network.condition_mask else 0)
    process = DiffusionConfig(conditioning=conditioning)
    config = world_of(network, process, tokenizer, preset=None)
    if (folder / TEXT_ENCODER / CONFIG_FILE).is_file():
        config = replace(
            config, text_encoder={**config.text_encoder, "path": str(folder.resolve())}
        )
    return config


def write_diffusers_folder(
    folder: Path, config: WorldConfig, source: TensorSource, tokenizer: VideoTokenizer
) -> None:
    """Write a pipeline's folder, streaming.

    Args:
        folder: does not exist yet.
        config: of the world model.
        source: its weights under our names.
        tokenizer: its tokenizer.

    Raises:
        ConfigError: diffusers has no such model.
    """
    network = diffusion_settings(config.model).network_config()
    transformer = config_for_diffusers(config)
    export_diffusers_vae(tokenizer, folder / VAE)
    _write_json(folder / TRANSFORMER / CONFIG_FILE, transformer)
    stream = export_stream(source, network, "diffusers")
    write_safetensors(folder / TRANSFORMER / VAE_WEIGHTS, stream)
    _write_json(folder / SCHEDULER / "scheduler_config.json", _scheduler(config))
    _write_json(folder / INDEX_FILE, _index(network))
    _copy_text_encoder(folder, config)
    write_config(folder / DESCRIPTION_FILE, config)


def _scheduler(config: WorldConfig) -> dict[str, Any]:
    """Our sampler ``edm_euler``, whose last step removes all noise."""
    return {
        "_class_name": "EDMEulerScheduler",
        "sigma_min": SIGMA_MIN,
        "sigma_max": SIGMA_MAX,
        "sigma_data": diffusion_settings(config.model).process.edm.sigma_data,
        "sigma_schedule": "karras",
        "rho": RHO,
        "prediction_type": "epsilon",
        "final_sigmas_type": "zero",
    }


def _index(network: DiTConfig) -> dict[str, Any]:
    kind = "Video" if network.condition_mask else "Text"
    return {
        "_class_name": f"Cosmos{kind}ToWorldPipeline",
        "_diffusers_version": DIFFUSERS_VERSION,
        SCHEDULER: ["diffusers", "EDMEulerScheduler"],
        TEXT_ENCODER: ["transformers", "T5EncoderModel"],
        TEXT_TOKENIZER: ["transformers", "T5TokenizerFast"],
        TRANSFORMER: ["diffusers", "CosmosTransformer3DModel"],
        VAE: ["diffusers", "AutoencoderKLCosmos"],
    }


def _copy_text_encoder(folder: Path, config: WorldConfig) -> None:
    """Copy T5 where it is a pair of folders of a pipeline; a hub name stays a name."""
    place = Path(str(config.text_encoder.get("path") or ""))
    for name in (TEXT_ENCODER, TEXT_TOKENIZER):
        if config.text_encoder.get("kind") == "t5" and (place / TEXT_ENCODER).is_dir():
            shutil.copytree(place / name, folder / name)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingFileError(
            f"'{file}' cannot be read: {error.strerror}. A diffusers folder of a Cosmos model "
            f"holds {TRANSFORMER}/, {VAE}/ and {SCHEDULER}/."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"'{file}' is not valid JSON: {error}. Copy it again.") from error
    return data if isinstance(data, dict) else {}


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
