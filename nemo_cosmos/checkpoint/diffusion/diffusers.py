"""Folders of a diffusers pipeline: ``CosmosTextToWorldPipeline`` or ``CosmosVideoToWorldPipeline``.

::

    my_world/
      model_index.json     the class of each part
      transformer/         config.json, diffusion_pytorch_model.safetensors (or shards of it)
      vae/                 the tokenizer
      scheduler/           scheduler_config.json
      text_encoder/        T5, where the folder has it; else diffusers is given one
      nemo_cosmos.json     ours: what the other files leave out
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.diffusion.descriptions import (
    config_for_diffusers,
    diffusers_config,
    with_learned_variance,
    world_of,
)
from nemo_cosmos.checkpoint.diffusion.keys import export_stream, import_stream
from nemo_cosmos.checkpoint.foreign import VAE_FOLDER
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
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.process.samplers import RHO, SIGMA_MAX, SIGMA_MIN
from nemo_cosmos.models.diffusion.settings import diffusion_settings
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

INDEX_FILE = "model_index.json"
TRANSFORMER, VAE, SCHEDULER = "transformer", VAE_FOLDER, "scheduler"
TEXT_ENCODER, TEXT_TOKENIZER = "text_encoder", "tokenizer"
DIFFUSERS_VERSION = "0.35.2"
SCHEDULER_FILE = "scheduler_config.json"
PIPELINES = ("CosmosTextToWorldPipeline", "CosmosVideoToWorldPipeline")
# What our samplers do; sigma_data is taken over, and the number of training steps has no effect.
_SAMPLING: dict[str, tuple[Any, ...]] = {
    "sigma_min": (SIGMA_MIN,),
    "sigma_max": (SIGMA_MAX,),
    "sigma_schedule": ("karras",),
    "rho": (RHO,),
    "prediction_type": ("epsilon",),
    "final_sigmas_type": ("zero", "sigma_min"),
}


def is_diffusers_folder(folder: Path) -> bool:
    """Whether a folder is a pipeline's."""
    return (folder / INDEX_FILE).is_file() or (folder / TRANSFORMER / CONFIG_FILE).is_file()


class DiffusersWorld:
    """A world model in a diffusers folder.

    Args:
        folder: the pipeline's folder.
        tokenizer: the tokenizer of its latents.

    Raises:
        MissingFileError: a file does not exist.
        CheckpointError: a file is damaged or of another model.
    """

    def __init__(self, folder: Path, tokenizer: TokenizerConfig) -> None:
        file = folder / TRANSFORMER / CONFIG_FILE
        _check_pipeline(folder)
        network = diffusers_config(_read(file), file)
        self.config = _describe(folder, network, tokenizer)
        self._network = network
        self._source = SafetensorsSource(variant_of(folder / TRANSFORMER / VAE_WEIGHTS))
        self.place = self._source.place

    def stream(self, expected: Shapes) -> TensorStream:
        """Return the weights under our names; ``expected`` are those of our network."""
        return import_stream(self._source, self._network, "diffusers", expected)


def _check_pipeline(folder: Path) -> None:
    """Require a pipeline that generates as the Cosmos 1 models do.

    Raises:
        CheckpointError: it is of another class, or its scheduler does something else.
    """
    index = read_object(folder / INDEX_FILE)
    if index is not None and index.get("_class_name") not in PIPELINES:
        raise CheckpointError(
            f"'{folder / INDEX_FILE}' is of a {index.get('_class_name')}, which generates in "
            f"another way; expected {' or '.join(PIPELINES)}."
        )
    file = folder / SCHEDULER / SCHEDULER_FILE
    scheduler = read_object(file)
    if scheduler is None:
        return
    if scheduler.get("_class_name") != "EDMEulerScheduler":
        raise CheckpointError(
            f"'{file}' is of a {scheduler.get('_class_name')}, which generates in another way; "
            "expected an EDMEulerScheduler."
        )
    check_fields(scheduler, file, ("sigma_data", "num_train_timesteps"), _SAMPLING)


def _sigma_data(folder: Path) -> float:
    scheduler = read_object(folder / SCHEDULER / SCHEDULER_FILE) or {}
    return float(scheduler.get("sigma_data", EDMConfig.sigma_data))


def _describe(folder: Path, network: DiTConfig, tokenizer: TokenizerConfig) -> WorldConfig:
    """Return what ``nemo_cosmos.json`` records, or the settings of the published models."""
    described = read_description(folder)
    if described is not None:
        recorded = diffusion_settings(described.model).network_config()
        if recorded.architecture() != network.architecture():
            raise CheckpointError(
                f"'{folder}' describes two networks: 'nemo_cosmos.json' and "
                f"'{TRANSFORMER}/{CONFIG_FILE}' differ. Delete the former if the latter is right."
            )
        # diffusers cannot hold the learned variance, so its weights are missing.
        return with_learned_variance(described, False)
    conditioning = ConditioningConfig(max_condition_latents=2 if network.condition_mask else 0)
    edm = EDMConfig(sigma_data=_sigma_data(folder))
    process = DiffusionConfig(edm=edm, conditioning=conditioning)
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
        folder: the new folder.
        config: the world's description.
        source: the weights under our names.
        tokenizer: the world's tokenizer.

    Raises:
        ConfigError: diffusers has no such model.
    """
    network = diffusion_settings(config.model).network_config()
    transformer = config_for_diffusers(config)
    export_diffusers_vae(tokenizer, folder / VAE)
    write_object(folder / TRANSFORMER / CONFIG_FILE, transformer)
    stream = export_stream(source, network, "diffusers")
    write_safetensors(folder / TRANSFORMER / VAE_WEIGHTS, stream)
    write_object(folder / SCHEDULER / SCHEDULER_FILE, _scheduler(config))
    write_object(folder / INDEX_FILE, _index(network))
    _copy_text_encoder(folder, config)
    write_config(folder / DESCRIPTION_FILE, config)


def _scheduler(config: WorldConfig) -> JsonObject:
    """Describe our sampler ``edm_euler``, whose last step removes all noise."""
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


def _index(network: DiTConfig) -> JsonObject:
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


def _read(file: Path) -> JsonObject:
    """Read a file that every pipeline's folder has.

    Raises:
        MissingFileError: there is none.
    """
    data = read_object(file)
    if data is None:
        raise MissingFileError(
            f"There is no '{file}'. A diffusers folder of a Cosmos model holds {TRANSFORMER}/, "
            f"{VAE}/ and {SCHEDULER}/."
        )
    return data
