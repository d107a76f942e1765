"""Stages that other packages add, by an entry point each.

The entry point's name is the stage's name and its object is the settings class, whose ``after``
names the stage that it follows::

    [project.entry-points."nemo_cosmos.stages"]
    sharpness = "my_package.sharpness:SharpnessSettings"

An installed stage runs with its default settings unless others are given. Its options appear in
``nemo-cosmos curate --help``, and its settings in the record of every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from data_curation.stages.base import StageSettings
from nemo_cosmos.errors import ConfigError, nearest_names

ENTRY_POINT_GROUP = "nemo_cosmos.stages"


def installed_stages() -> dict[str, type[StageSettings]]:
    """Settings classes of the stages that installed packages add, by name of the stage.

    Raises:
        ConfigError: an entry point cannot be loaded or is no settings class.
    """
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {point.name: _load(point) for point in sorted(found, key=lambda point: point.name)}


def _load(point: EntryPoint) -> type[StageSettings]:
    where = f"The stage '{point.name}' of the entry point '{point.value}'"
    try:
        kind = point.load()
    except Exception as error:
        raise ConfigError(
            f"{where} cannot be loaded: {type(error).__name__}: {error}. Repair or uninstall the "
            "package that brings it."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, StageSettings)):
        raise ConfigError(
            f"{where} is no class of settings. Expected a dataclass that derives from "
            "data_curation.stages.base.StageSettings."
        )
    return kind


def in_order(own: Sequence[str], added: Mapping[str, type[StageSettings]]) -> list[str]:
    """Names of all stages: the product's own, and each added one behind the stage it follows.

    Args:
        own: names of the product's stages, in order.
        added: settings classes of the others, by name.

    Raises:
        ConfigError: an added stage has the name of one of ours, or follows an unknown stage.
    """
    order = list(own)
    waiting = dict(sorted(added.items(), reverse=True))
    for name in waiting:
        if name in own:
            raise ConfigError(
                f"A package adds a stage '{name}', which is the name of a stage of nemo_cosmos. "
                "Choose another name for its entry point."
            )
    while waiting:
        ready = [name for name, kind in waiting.items() if kind.after in order]
        if not ready:
            name, kind = next(iter(waiting.items()))
            known = [*own, *added]
            raise ConfigError(
                f"The added stage '{name}' stands after '{kind.after}', which is no stage before "
                f"it. Expected one of {nearest_names(kind.after, known)}."
            )
        for name in ready:
            order.insert(order.index(waiting.pop(name).after) + 1, name)
    return order
