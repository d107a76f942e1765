"""Data, starting weights, the run's own checkpoints and the model must belong together.

What each was made of is read here; :mod:`nemo_cosmos.provenance.belonging` compares.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nemo_cosmos.checkpoint.world.config import (
    TOKENIZER_FOLDER,
    TOKENIZER_FORMAT,
    format_of,
    parts_of_model,
)
from nemo_cosmos.checkpoint.world.parts import (
    TOKENIZER_FAMILY,
    described_world,
    fixed_by_tokenizer,
    parts_of_tokenizer,
    parts_of_weights,
)
from nemo_cosmos.data.tokenize.dataset_info import parts_of_data, read_dataset_info
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.models.common.family import WorldModel
from nemo_cosmos.models.tokenizer.model import TokenizerModel
from nemo_cosmos.provenance.belonging import (
    TEXT_ENCODER,
    TEXT_LENGTH,
    Parts,
    check_together,
)
from nemo_cosmos.storage import is_url, resolve_from_folder
from nemo_cosmos.training.weights.initial import is_exported


def check_belonging(
    model: object,
    folders: Sequence[str],
    weights: Path | None = None,
    allowed: Collection[str] = (),
    *,
    text_length: int = 0,
    checkpoint: Path | None = None,
    encoders: Sequence[str] = (),
) -> list[str]:
    """Require what is trained together to belong together.

    Args:
        model: what is trained; other than world models and tokenizers are not checked.
        folders: all folders of training and validation data.
        weights: the folder of the starting weights: an export or a NeMo checkpoint; None for none.
        allowed: kinds of difference that are meant; see :mod:`nemo_cosmos.provenance.belonging`.
        text_length: tokens that the data module pads a text embedding to; 0 where it has none.
        checkpoint: the checkpoint that the run resumes from; None where it starts.
        encoders: folders of tokenizers that make the latents or codes in the step.

    Returns:
        the differences that were allowed, for the record of what is trained.

    Raises:
        ConfigError: something differs, the weights are of another kind, or an unknown kind of
            difference is allowed.
    """
    if weights is not None:
        check_kind_of_weights(type(model), weights)
    here = _of_model(model, text_length)
    if here is None:
        return check_together([], allowed)
    extended: Collection[str] = getattr(model, "extends", ())
    before = [
        _without(parts, changed)
        for folder, changed in ((weights, extended), (checkpoint, ()))
        if folder is not None and (parts := parts_of_weights(folder)) is not None
    ]
    for parts in before:
        _check_controls(here, parts)
    if weights is not None and before and not is_exported(weights):
        _check_nothing_new(here, before[0])
        _check_same_modules(model, before[0])
    if here.family == TOKENIZER_FAMILY:  # trained on pixels, which no encoder made
        return check_together([*before, here], allowed)
    data = [parts for folder in folders if (parts := parts_of_data(folder)) is not None]
    makers = [maker for folder in folders[:1] for maker in _tokenizer_of(folder)]
    makers += [parts_of_tokenizer(Path(folder)) for folder in encoders]
    return check_together([*before, here, *data, *makers], allowed)


def check_kind_of_weights(trained: object, weights: Path) -> None:
    """Refuse to start a world model from a tokenizer, or a tokenizer from a world.

    No such weights load, so nobody can allow it.

    Args:
        trained: the class of what is trained; other than world models and tokenizers may start
            from anything.
        weights: the folder of the starting weights.

    Raises:
        ConfigError: they are of the other kind; says what to give.
    """
    if not isinstance(trained, type):
        return
    if issubclass(trained, TokenizerModel):
        if described_world(weights) is not None:
            raise ConfigError(
                f"'{weights}' is a world, but this recipe trains a tokenizer. Start from a "
                "tokenizer: --from FOLDER with the export of a tokenizer's run ('<run>/export'); "
                f"that of a world is in its folder '{TOKENIZER_FOLDER}'. Nothing has been done."
            )
    elif hasattr(trained, "family") and format_of(weights) == TOKENIZER_FORMAT:
        raise ConfigError(
            f"'{weights}' is a tokenizer, but this recipe trains a world model. Start from a "
            "world: --from FOLDER with the export of a world model's run ('<run>/export'), or "
            "weights that 'nemo-cosmos import' converted. The tokenizer needs no option: the data "
            "name it. Nothing has been done."
        )


def _of_model(model: object, text_length: int) -> Parts | None:
    if isinstance(model, TokenizerModel):
        network = fixed_by_tokenizer(model.tokenizer_config.to_dict())
        return Parts("this run", family=TOKENIZER_FAMILY, model=network)
    if not isinstance(model, WorldModel):
        return None
    described = model.describe()
    parts = parts_of_model(described.family, described.settings, described.controls, "this run")
    return replace(parts, text_length=text_length or None)


def _check_controls(model: Parts, weights: Parts) -> None:
    """Require every control of the weights; a model without it would lose what it learnt.

    Raises:
        ConfigError: one is missing.
    """
    lost = sorted(weights.controls.keys() - model.controls.keys())
    if lost and weights.family == model.family:
        raise ConfigError(
            f"'{weights.place}' is steered by the control '{lost[0]}', but this run has "
            f"{', '.join(sorted(model.controls)) or 'no control'}. Use a recipe with that control "
            "(finetune --list), or start from weights without it. Nothing has been done."
        )


def _check_nothing_new(model: Parts, checkpoint: Parts) -> None:
    """Require a NeMo checkpoint to hold every control: NeMo restores all parameters or none.

    Raises:
        ConfigError: it lacks one; names the command that makes a world of it.
    """
    new = sorted(model.controls.keys() - checkpoint.controls.keys())
    if new and checkpoint.family == model.family:
        raise ConfigError(
            f"'{checkpoint.place}' is a checkpoint without the control '{new[0]}', which this run "
            "adds; a control is added to a world folder. Make one of the checkpoint and start from "
            f"that: nemo-cosmos import {checkpoint.place} WORLD, then --from WORLD. Nothing has "
            "been done."
        )


def _without(parts: Parts, settings: Collection[str]) -> Parts:
    """Leave out settings in which a model goes on from its weights on purpose."""
    return replace(
        parts,
        model={name: value for name, value in parts.model.items() if name not in settings},
        text_encoder={} if TEXT_ENCODER in settings else parts.text_encoder,
        text_length=None if TEXT_LENGTH in settings else parts.text_length,
    )


def _check_same_modules(model: object, checkpoint: Parts) -> None:
    """Require a NeMo checkpoint to hold every module: NeMo restores all parameters or none.

    Raises:
        ConfigError: the model adds some; names the command that makes a world of it.
    """
    added = sorted(getattr(model, "new_modules", ()))
    if added:
        raise ConfigError(
            f"'{checkpoint.place}' is a checkpoint, but this run adds the module '{added[0]}' to "
            "its weights, which takes a world folder. Make one of the checkpoint and start from "
            f"that: nemo-cosmos import {checkpoint.place} WORLD, then --from WORLD. Nothing has "
            "been done."
        )


def _tokenizer_of(folder: str) -> Iterator[Parts]:
    """The tokenizer as it is now where the data say; it is exported with the world.

    One that was trained again since lies in the same place.
    """
    try:
        written = read_dataset_info(folder).get("tokenizer")
    except MissingFileError:
        return
    place = resolve_from_folder(written, folder) if isinstance(written, str) else ""
    if place and not is_url(place) and Path(place).is_dir():
        yield parts_of_tokenizer(Path(place))
