"""What post-training takes from its starting weights instead of from the recipe.

Weights fix the network that they fit. A recipe's sizes are its preset's, so a world of no preset's
size would have to be retyped key by key; here network, process and text length come from the
weights. What a person sets stays and is compared later: another value than the weights' is refused
with both. What the recipe itself changes of its preset, such as a control's conditioning, stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import fiddle as fdl
import nemo_run as run

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.formats.json_files import read_object
from nemo_cosmos.checkpoint.world.config import CONFIG_FILE, TOKENIZER_FORMAT, format_of
from nemo_cosmos.checkpoint.world.parts import described_world, fixed_by_tokenizer
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.provenance.belonging import MODEL
from nemo_cosmos.training.checkpointing.resume import restore_source
from recipes.config import parameters

#: Changed by what training adds to given weights, not by the weights.
_ADDED = frozenset({"control_channels"})
#: What a network's setting says of its task, without and with it.
_TASKS = {
    "condition_mask": ("Text2World", "Video2World"),
    "context_channels": ("continuation", "text-conditioned"),
}


def take_from_weights(recipe: run.Partial, plain: run.Partial, words: Sequence[str]) -> None:
    """Set what the starting weights of a recipe fix, in place.

    Args:
        recipe: a configured recipe for post-training.
        plain: the recipe of the same preset, without what the task changes.
        words: the ``key=value`` words of a person, whose keys stay as they are.

    Raises:
        ConfigError: the weights are of a model for another task.
        CheckpointError: the description of the weights is damaged.
    """
    restore = getattr(recipe.resume, "restore_config", None)
    path = getattr(restore, "path", None)
    if not path or not Path(path).is_dir():
        return
    source = restore_source(Path(path))
    said = {word.partition("=")[0].strip() for word in words}
    if format_of(source) == TOKENIZER_FORMAT:
        own: JsonObject = (read_object(source / CONFIG_FILE) or {}).get("network") or {}
        _take(recipe.model, "config", fixed_by_tokenizer(own), said)
        return
    world = described_world(source)
    if world is None or getattr(fdl.get_callable(recipe.model), "family", None) != world.family:
        return  # refused where everything is compared
    content = world.to_dict()
    # What the recipe goes on from on purpose stays the recipe's, too.
    kept = {*_ADDED, *(getattr(recipe.model, "extends", None) or ())}
    network: JsonObject = content.get("network") or {}
    _check_task(recipe, network, source, kept)
    _take(recipe.model, "config", {k: v for k, v in network.items() if k not in kept}, said)
    process: JsonObject = content.get("process") or {}
    process = {k: v for k, v in process.items() if k not in kept}
    _take_process(recipe, plain, process, said)
    for number, spec in enumerate(getattr(recipe.model, "controls", None) or ()):
        options = {one.name: one.options for one in world.controls}.get(spec.name)
        if options is not None and not _said(said, f"model.controls.{number}", "model.controls"):
            spec.options = dict(options)
    own_text = {"data.text_length", "text_length"} & {*said, *kept}
    takes_text = "text_length" in parameters(fdl.get_callable(recipe.data))
    if takes_text and not own_text and world.text_encoder.get("max_length"):
        recipe.data.text_length = world.text_encoder["max_length"]


def _take_process(
    recipe: run.Partial, plain: run.Partial, process: JsonObject, said: Collection[str]
) -> None:
    """Set the process, whose settings are in sections or, in some families, at the top."""
    own, there = recipe.model.process, plain.model.process
    top = {name: value for name, value in process.items() if not isinstance(value, Mapping)}
    kept = {
        name: value for name, value in top.items() if getattr(own, name) == getattr(there, name)
    }
    _take(recipe.model, "process", kept, said)
    for section in process.keys() - top.keys():
        values = process[section]
        changed = _changed(recipe.model.process, plain.model.process, section)
        kept = {name: value for name, value in values.items() if name not in changed}
        _take(recipe.model.process, section, kept, said, "model.process.")


def _check_task(
    recipe: run.Partial, network: JsonObject, source: Path, kept: Collection[str]
) -> None:
    """Refuse a recipe for another task than the weights': another recipe is meant."""
    for field, names in _TASKS.items():
        if field in kept or not hasattr(recipe.model.config, field):
            continue  # a task to go on from, or another family's
        task, own = (
            names[bool(value)]
            for value in (network.get(field), getattr(recipe.model.config, field))
        )
        if task != own and MODEL not in recipe.resume.allow_mismatch:
            raise ConfigError(
                f"'{source}' is a {task} model, but the recipe trains a {own} model, which has "
                f"another network. Use a recipe for {task} ('nemo-cosmos finetune --list')."
            )


def _take(
    node: Any, name: str, values: Mapping[str, Any], said: Collection[str], prefix: str = "model."
) -> None:
    """Set fields of a configuration, but for those that a person set."""
    if _said(said, f"{prefix}{name}", exact=True):
        return
    target = getattr(node, name)
    known = parameters(fdl.get_callable(target))
    for field, value in values.items():
        if field in known and f"{prefix}{name}.{field}" not in said:
            setattr(target, field, tuple(value) if isinstance(value, list) else value)


def _changed(recipe: Any, plain: Any, section: str) -> set[str]:
    """Fields of a section of the process in which a recipe differs from that of its preset."""
    here, there = (getattr(process, section).__arguments__ for process in (recipe, plain))
    return {name for name in here if here[name] != there.get(name)}


def _said(said: Collection[str], *keys: str, exact: bool = False) -> bool:
    return any(
        word == key or (not exact and word.startswith(f"{key}.")) for word in said for key in keys
    )
