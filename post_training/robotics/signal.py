"""A robot's recording as signals: actions between the frames, states at them.

What the numbers of an action mean, and how many they are, is the model's embodiment
(:mod:`nemo_cosmos.controls.embodiment`); row t moves frame t to frame t + 1. Our own episodes are
``bridge_7``: the change of the gripper's position (3) and of its rotation (3), seen from the
gripper, and its opening (1), scaled to about [-1, 1]. So is a world that names no embodiment.

A world that several robots steer is told their actions in rows of one width: the number of the
embodiment among the world's, the robot's own numbers, and zeros
(:mod:`post_training.robotics.several`). Files hold the robot's own numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import MAX_ACTION, Control, Signal, SignalArray, Values
from nemo_cosmos.controls.embodiment import DEFAULT_EMBODIMENT as DEFAULT_EMBODIMENT
from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment, find_embodiment
from nemo_cosmos.controls.number_group import ADDABLE_FORMS, NumberGroup, spans
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.options import check_names

ACTION_DIM = 7

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


def embodiments_of(options: Mapping[str, Any]) -> tuple[Embodiment, ...]:
    """All embodiments that an action control is told in: one, or those under ``embodiments``.

    Args:
        options: the control's options.

    Raises:
        ConfigError: there is no such embodiment, or two have one name.
    """
    given = options.get("embodiments")
    if given is None:
        return (embodiment_of(options),)
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ConfigError(
            f"embodiments is {given!r:.80}; expected a list of names or files, such as "
            "[bridge_7, arm_10]."
        )
    found = tuple(find_embodiment(one) for one in given)
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"embodiments has '{twice[0]}' twice; the name tells them apart. Rename one, or name "
            "it once."
        )
    return found


def settle_action(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put the whole record in place of an embodiment's name; options without one stay as they are.

    Args:
        options: the control's options.

    Raises:
        ConfigError: an option is unknown, there is no such embodiment, or statistics do not fit it.
    """
    check_names(options, ("embodiment", "embodiments", "cumulative", "mean", "std"))
    if options.get("embodiments") is not None:
        several = embodiments_of(options)
        others = {name: options[name] for name in ("cumulative",) if name in options}
        records = [one.to_dict() for one in several]
        return others | (
            {"embodiment": records[0]} if len(records) == 1 else {"embodiments": records}
        )
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
        several = embodiments_of(options)
    except ConfigError:
        return options
    told = []
    for one in several:
        record = one.to_dict()
        kept = [name for name in ("image", "numbers", "mean", "std") if name in record]
        told.append({name: record[name] for name in kept} | {"embodiment": one.name})
    own = ("mean", "std", "embodiment", "embodiments")
    others = {name: each for name, each in options.items() if name not in own}
    return {**others, **(told[0] if len(told) == 1 else {"embodiments": told})}


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
        ACTION.suffix,
        (array,),
        find_fault=partial(_find_fault, embodiment),
        rescale=partial(_rescale, embodiment),
        complete=partial(_check_name, embodiment),
    )


def _find_fault(embodiment: Embodiment, values: Values) -> str | None:
    return embodiment.find_row_fault(values[ACTION.name])


def _check_name(
    embodiment: Embodiment, values: Values, record: Mapping[str, Any], where: str
) -> Values:
    """Actions of one robot, as they are; those of another must not be taken for them."""
    name = record.get(EMBODIMENT)
    if name is not None and name != embodiment.name:
        raise SampleError(
            f"The actions of {where or 'the control'} are of the embodiment '{name}', but the "
            f"model is told in '{embodiment.name}' ({', '.join(embodiment.names)}). Use a model "
            "of that robot, or train one on both."
        )
    return values


def _rescale(embodiment: Embodiment, values: Values, scale: float) -> Values:
    return {ACTION.name: rescaled(embodiment, values[ACTION.name], scale)}


def rescaled(embodiment: Embodiment, actions_NA: Array, scale: float) -> Array:
    """More or less of the same motion: a multiple of a 6-D rotation would be no rotation.

    Args:
        embodiment: what the numbers mean.
        actions_NA: actions.
        scale: the factor; 0 stands still.
    """
    rows_NA = np.array(actions_NA, np.float64)
    for group, columns in spans(embodiment.numbers if len(rows_NA) else ()):
        part = rows_NA[:, columns]
        if group.kind == "rotation" and group.form not in ADDABLE_FORMS:
            rows_NA[:, columns] = _turned(part, group, scale)
        elif group.relation == "absolute" and group.kind != "opening":
            rows_NA[:, columns] = part[:1] + scale * (part - part[:1])
        else:
            rows_NA[:, columns] = part * scale
    return np.asarray(rows_NA.astype(actions_NA.dtype))


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
    several = embodiments_of(options)
    if len(several) == 1:
        return (action_signal(several[0]),)
    from post_training.robotics.several import told_signal

    return (told_signal(several),)


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
