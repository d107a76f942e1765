"""A robot's recording as signals: actions between the frames, states at them.

What the numbers of an action mean, and how many they are, is the model's embodiment
(:mod:`nemo_cosmos.controls.embodiment`); row t moves frame t to frame t + 1. Our own episodes are
``bridge_7``: the change of the gripper's position (3) and of its rotation (3), seen from the
gripper, and its opening (1), scaled to about [-1, 1]. So is a world that names no embodiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import MAX_ACTION, Control, Signal, SignalArray, Values
from nemo_cosmos.controls.embodiment import Embodiment, find_embodiment
from nemo_cosmos.controls.number_group import ADDABLE_FORMS, NumberGroup, spans
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.options import check_names

ACTION_DIM = 7
DEFAULT_EMBODIMENT = "bridge_7"
"""Of worlds that were made before a world folder named its embodiment."""

ACTION = Signal(
    "action.npy",
    (
        SignalArray(
            "action",
            "step",
            (ACTION_DIM,),
            units="m, rad, opening",
            convention="change seen from the gripper",
            max_abs=MAX_ACTION,
        ),
    ),
)

STATE = Signal(
    "state.npy",
    (
        SignalArray(
            "state",
            "frame",
            (ACTION_DIM,),
            units="m, rad, opening",
            convention="x y z roll pitch yaw opening, in the robot's base frame",
        ),
    ),
)


def embodiment_of(options: Mapping[str, Any]) -> Embodiment:
    """The embodiment that an action control is told in, with the statistics that it normalises by.

    Args:
        options: the control's options.

    Raises:
        ConfigError: there is no such embodiment, or statistics do not fit it.
    """
    given = options.get("embodiment")
    embodiment = find_embodiment(DEFAULT_EMBODIMENT if given is None else given)
    # A recipe has statistics for its own data; those measured for an embodiment come first.
    if embodiment.mean is not None or not {"mean", "std"} & options.keys():
        return embodiment
    mean = options.get("mean", (0.0,) * embodiment.width)
    std = options.get("std", (1.0,) * embodiment.width)
    try:
        return embodiment.with_statistics(mean, std)
    except ConfigError as error:
        if given is None:
            raise
        raise ConfigError(
            f"The embodiment '{embodiment.name}' has no statistics of its own, and the recipe's do "
            f"not fit. {error}"
        ) from error


def settle_action(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put the whole record in place of an embodiment's name; options without one stay as they are.

    Args:
        options: the control's options.

    Raises:
        ConfigError: an option is unknown, there is no such embodiment, or statistics do not fit it.
    """
    check_names(options, ("embodiment", "cumulative", "mean", "std"))
    if options.get("embodiment") is None:
        return options
    others = {name: each for name, each in options.items() if name not in ("mean", "std")}
    return {**others, "embodiment": embodiment_of(options).to_dict()}


def comparable_action(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What decides the meaning of actions: the numbers and their statistics, not their title.

    A world without an embodiment, of an earlier release, compares as the ``bridge_7`` that it is.

    Args:
        options: the control's options; those that are wrong stay as they are.
    """
    try:
        embodiment = embodiment_of(options)
    except ConfigError:
        return options
    record = embodiment.to_dict()
    kept = [name for name in ("image", "numbers", "mean", "std") if name in record]
    told: dict[str, Any] = {name: record[name] for name in kept}
    others = {name: each for name, each in options.items() if name not in ("mean", "std")}
    return {**others, **told, "embodiment": embodiment.name}


def action_signal(embodiment: Embodiment) -> Signal:
    """The signal ``action.npy`` of an embodiment: so many numbers, in its units.

    Args:
        embodiment: what the numbers mean.
    """
    units = ", ".join(dict.fromkeys(group.units for group in embodiment.numbers))
    array = SignalArray(
        ACTION.name,
        "step",
        (embodiment.width,),
        units=units,
        convention=embodiment.title,
        max_abs=MAX_ACTION,
        columns=embodiment.names,
    )
    return Signal(
        ACTION.suffix, (array,), partial(_find_fault, embodiment), partial(_rescale, embodiment)
    )


def _find_fault(embodiment: Embodiment, values: Values) -> str | None:
    return embodiment.find_row_fault(values[ACTION.name])


def _rescale(embodiment: Embodiment, values: Values, scale: float) -> Values:
    """More or less of the same motion: a multiple of a 6-D rotation would be no rotation."""
    actions_NA = values[ACTION.name]
    rows_NA = np.array(actions_NA, np.float64)
    for group, columns in spans(embodiment.numbers if len(rows_NA) else ()):
        part = rows_NA[:, columns]
        if group.kind == "rotation" and group.form not in ADDABLE_FORMS:
            rows_NA[:, columns] = _turned(part, group, scale)
        elif group.relation == "absolute" and group.kind != "opening":
            rows_NA[:, columns] = part[:1] + scale * (part - part[:1])
        else:
            rows_NA[:, columns] = part * scale
    return {ACTION.name: rows_NA.astype(actions_NA.dtype)}


def _turned(rows_NA: Array, group: NumberGroup, scale: float) -> Array:
    """Rotations by another share of their angle, from the first one on if they are poses."""
    from scipy.spatial.transform import Rotation

    from nemo_cosmos.controls.rotation import as_rotation, from_rotation

    form = str(group.form)
    rotations = as_rotation(rows_NA / group.scale, form)
    begin = rotations[0] if group.relation == "absolute" else Rotation.identity()
    share = Rotation.from_rotvec(scale * (begin.inv() * rotations).as_rotvec())
    return np.asarray(from_rotation(begin * share, form) * group.scale)


def _signals_of(options: Mapping[str, Any]) -> tuple[Signal, ...]:
    return (action_signal(embodiment_of(options)),)


ACTION_CONTROL = Control(
    "action",
    (ACTION,),
    {
        "diffusion": "post_training.robotics.action:ActionEmbedder",
        "autoregressive": "post_training.robotics.action_context:ActionContext",
    },
    settle=settle_action,
    signals_of=_signals_of,
    comparable=comparable_action,
)


def action_stats(episodes: Iterable[np.ndarray]) -> dict[str, list[float]]:
    """Return mean and standard deviation of each number over all actions.

    A number that never changes gets standard deviation 1, so that it passes unscaled.

    Args:
        episodes: arrays (N, A) of actions.

    Raises:
        SampleError: there is no action.
    """
    collected = [np.asarray(episode, dtype=np.float64) for episode in episodes]
    if not sum(len(episode) for episode in collected):
        raise SampleError("There are no actions to take statistics of; give at least one episode.")
    actions = np.concatenate(collected)
    std = actions.std(axis=0)
    return {
        "mean": actions.mean(axis=0).tolist(),
        "std": np.where(std > 1e-6, std, 1.0).tolist(),
    }
