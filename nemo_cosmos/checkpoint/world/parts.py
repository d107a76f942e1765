"""What a folder of weights was made of, whatever kind of folder it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nemo_cosmos.checkpoint.formats.json_files import read_object
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    TOKENIZER_FORMAT,
    WorldConfig,
    format_of,
    read_config,
    read_description,
)
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.tokenizer import STATS_FILE, VideoTokenizer
from nemo_cosmos.provenance.belonging import Parts
from nemo_cosmos.storage import exported_folder

TOKENIZER_FAMILY = "tokenizer"
"""What :attr:`Parts.family` says of a tokenizer's weights."""


def described_world(folder: Path) -> WorldConfig | None:
    """Return the description of a world folder or NeMo checkpoint; None of anything else.

    Raises:
        CheckpointError: it is damaged or of another release.
    """
    kind = format_of(folder)
    if kind is None:
        return read_description(folder)
    return None if kind == TOKENIZER_FORMAT else read_config(folder)


def parts_of_weights(folder: Path) -> Parts | None:
    """Return what weights were made of: a world, a checkpoint or a tokenizer; None of others.

    Raises:
        CheckpointError: the description is damaged or of another release.
    """
    if format_of(folder) == TOKENIZER_FORMAT:
        network = (read_object(folder / CONFIG_FILE) or {}).get("network")
        return Parts(str(folder), family=TOKENIZER_FAMILY, model=fixed_by_tokenizer(network or {}))
    config = described_world(folder)
    if config is None:
        return None
    parts = config.parts(str(folder))
    return parts if parts.tokenizer else replace(parts, tokenizer=_older_record(folder))


def parts_of_tokenizer(folder: Path) -> Parts:
    """Return what identifies the latents of a tokenizer's folder, for joining with others.

    Raises:
        MissingFileError, CheckpointError: there is no such tokenizer, or it is damaged.
    """
    place = exported_folder(folder)
    return Parts(str(place), tokenizer=VideoTokenizer.from_folder(place).describe())


def fixed_by_tokenizer(network: dict[str, object]) -> dict[str, object]:
    """The settings of a tokenizer's network that its weights fix."""
    free = ("name", "dropout", "training_frames")
    return {name: value for name, value in network.items() if name not in free}


def _older_record(folder: Path) -> dict[str, object]:
    """What a world folder shows that was written before its tokenizer was recorded."""
    tokenizer = folder / TOKENIZER_FOLDER
    found: dict[str, object] = {}
    name = (read_object(tokenizer / CONFIG_FILE) or {}).get("preset")
    if isinstance(name, str):
        found["tokenizer_name"] = name
    if (tokenizer / STATS_FILE).is_file():
        stats = LatentStats.load(tokenizer / STATS_FILE)
        found["latent_stats"] = {"mean": stats.mean.tolist(), "std": stats.std.tolist()}
    return found
