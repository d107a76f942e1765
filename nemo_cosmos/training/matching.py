"""Data, tokenizer, text encoder and starting weights must belong together.

Latents of one tokenizer look like those of another, and any text embedding of the right width fits:
a run that mixes them trains to its end and is worthless. What they record of their making is
compared before the first step; whoever means a difference names it in ``resume.allow_mismatch``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.batch import spec_of
from nemo_cosmos.checkpoint.formats.json_files import read_object
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    WorldConfig,
    format_of,
    read_config,
    read_description,
)
from nemo_cosmos.data.tokenize.dataset_info import read_dataset_info
from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError, nearest_names
from nemo_cosmos.models.common.family import WorldModel, get_family
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.tokenizer import STATS_FILE

logger = logging.getLogger(__name__)

TOKENIZER, TEXT_ENCODER, MODEL = "tokenizer", "text_encoder", "model"
KINDS = (TOKENIZER, TEXT_ENCODER, MODEL)
"""What may differ, and what ``resume.allow_mismatch`` takes."""


@dataclass(frozen=True)
class Encoders:
    """The encoders that made tokenised data, or that a world was trained with.

    Attributes:
        place: where this is recorded.
        text_encoder: its specification.
        latent_stats: mean and standard deviation of the tokenizer's latents by channel, which no
            two trained tokenizers share; None where they are not recorded.
        tokenizer_name: the tokenizer's preset; None where it is not recorded.
    """

    place: str
    text_encoder: Mapping[str, object]
    latent_stats: Mapping[str, list[float]] | None
    tokenizer_name: str | None


@dataclass(frozen=True)
class Mismatch:
    """Two records that differ.

    Attributes:
        kind: one of :data:`KINDS`.
        text: both values, and where each is recorded.
    """

    kind: str
    text: str


def check_belonging(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    weights: Path | None,
    allowed: Collection[str] = (),
) -> None:
    """Require what is trained together to belong together.

    Args:
        model: what is trained; other than world models are not checked.
        data: the data module; what it records of its folders is compared.
        weights: the folder of the starting weights: an export or a NeMo checkpoint; None for none.
        allowed: kinds of difference that are meant; they are logged.

    Raises:
        ConfigError: something differs, or an unknown kind is allowed.
    """
    for kind in allowed:
        if kind not in KINDS:
            raise ConfigError(
                f"resume.allow_mismatch has '{kind}'; the nearest are {nearest_names(kind, KINDS)}."
            )
    if not isinstance(model, WorldModel):
        return
    for found in _mismatches(model, spec_of(data).folders, weights):
        if found.kind not in allowed:
            raise ConfigError(
                f"{found.text} A model that mixes them is worthless, and no loss shows it. "
                "Training has not started. If you mean it, set "
                f"resume.allow_mismatch=[{found.kind}]."
            )
        logger.warning("Allowed by resume.allow_mismatch: %s", found.text)


def _mismatches(
    model: WorldModel, folders: Sequence[str], weights: Path | None
) -> Iterator[Mismatch]:
    made_by = [encoders for folder in folders for encoders in _of_data(folder)]
    start = None if weights is None else _world_at(weights)
    if weights is not None and start is not None:
        yield from _different_models(model, start, weights)
        made_by.insert(0, _of_world(start, weights))
    for other in made_by[1:]:
        yield from _different_encoders(made_by[0], other)


def _of_data(folder: str) -> Iterator[Encoders]:
    """What ``dataset.json`` records; nothing where a model brings its own ``WorldInfo`` instead."""
    try:
        info = read_dataset_info(folder)
    except MissingFileError:
        return
    yield Encoders(
        folder, info.get("text_encoder") or {}, info.get("latent_stats"), info.get("tokenizer_name")
    )


def _of_world(config: WorldConfig, folder: Path) -> Encoders:
    """What a world folder records; a NeMo checkpoint holds no tokenizer."""
    tokenizer, stats = folder / TOKENIZER_FOLDER, None
    if (tokenizer / STATS_FILE).is_file():
        values = LatentStats.load(tokenizer / STATS_FILE)
        stats = {"mean": values.mean.tolist(), "std": values.std.tolist()}
    name = (read_object(tokenizer / CONFIG_FILE) or {}).get("preset")
    return Encoders(str(folder), config.text_encoder, stats, name)


def _world_at(folder: Path) -> WorldConfig | None:
    """The description beside weights; None where there is none."""
    if format_of(folder) is not None:
        try:
            return read_config(folder)
        except CheckpointError:  # an export of another kind, such as a tokenizer's
            return None
    return read_description(folder)


def _different_encoders(one: Encoders, other: Encoders) -> Iterator[Mismatch]:
    places = f"'{one.place}' and '{other.place}'"
    if (
        one.latent_stats is not None
        and other.latent_stats is not None
        and one.latent_stats != other.latent_stats
    ):
        yield Mismatch(
            TOKENIZER,
            f"The latents of {places} are of two tokenizers ('{one.tokenizer_name}' and "
            f"'{other.tokenizer_name}'; the statistics of their latents differ).",
        )
    texts = [_identity(encoders.text_encoder) for encoders in (one, other)]
    if all(texts) and texts[0] != texts[1]:
        yield Mismatch(
            TEXT_ENCODER,
            f"The text embeddings of {places} are of two encoders: {_listed(texts[0])} and "
            f"{_listed(texts[1])}.",
        )


def _identity(spec: Mapping[str, object]) -> JsonObject:
    """What identifies a text encoder; of its path the last part, as machines differ in the rest."""
    path = spec.get("path")
    known = {"kind": spec.get("kind"), "dim": spec.get("dim")}
    known["path"] = None if path is None else Path(str(path)).name
    return {name: value for name, value in known.items() if value is not None}


def _different_models(model: WorldModel, start: WorldConfig, weights: Path) -> Iterator[Mismatch]:
    described = model.describe()
    if described.family != start.family:
        yield Mismatch(
            MODEL,
            f"The weights in '{weights}' are of a {start.family} model, but this run trains a "
            f"{described.family} model.",
        )
        return
    family = get_family(start.family)
    here, there = (family.fixed_settings(one) for one in (described.settings, start.model))
    for name in here:
        if here[name] != there.get(name):
            yield Mismatch(
                MODEL,
                f"The weights in '{weights}' were trained with {name}={there.get(name)}, but this "
                f"run has {name}={here[name]}.",
            )


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
