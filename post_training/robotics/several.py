"""Actions of several robots for one world: rows of one width that say whose they are.

A file holds the numbers of its own robot, and the recording's JSON names the embodiment. The world
is told rows of W + 1 numbers, W that of its widest embodiment: first the place of the embodiment
among the world's, then the robot's own numbers, then zeros. So samples of all robots share a batch.

Shape suffixes: N actions, A numbers of a robot's own, M = W + 1 numbers that a world is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import MAX_ACTION, Signal, SignalArray, Values
from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment
from nemo_cosmos.errors import SampleError, nearest_names
from post_training.robotics.signal import ACTION, rescaled

Several = tuple[Embodiment, ...]


def told_width(several: Sequence[Embodiment]) -> int:
    """Numbers of a row that a world is told, M."""
    return 1 + max(one.width for one in several)


def told_signal(several: Several) -> Signal:
    """The signal ``action.npy`` of a world that several robots steer.

    Args:
        several: their embodiments, in the world's order.
    """
    names = [EMBODIMENT, *(f"a{place}" for place in range(told_width(several) - 1))]
    array = SignalArray(
        ACTION.name,
        "step",
        (len(names),),
        units="of the embodiment",
        convention=f"place among {', '.join(one.name for one in several)}, its numbers, zeros",
        max_abs=MAX_ACTION,
        columns=tuple(names),
    )
    return Signal(
        ACTION.suffix,
        (array,),
        find_fault=partial(_find_fault, several),
        rescale=partial(_rescale, several),
        complete=partial(_complete, several),
        kind_of=partial(_kind_of, several),
    )


def tell(several: Sequence[Embodiment], name: str, actions_NA: Array) -> Array:
    """Put a robot's actions into the rows that a world is told.

    Args:
        several: the world's embodiments.
        name: the robot's.
        actions_NA: its actions.
    """
    place = [one.name for one in several].index(name)
    told_NM = np.zeros((len(actions_NA), told_width(several)), actions_NA.dtype)
    told_NM[:, 0] = place
    told_NM[:, 1 : 1 + actions_NA.shape[1]] = actions_NA
    return told_NM


def own_numbers(several: Sequence[Embodiment], told_NM: Array) -> tuple[Embodiment, Array]:
    """Return whose actions a world is told, and the robot's own numbers; inverse of :func:`tell`.

    Args:
        several: the world's embodiments.
        told_NM: the rows, at least one.
    """
    embodiment = several[int(told_NM[0, 0])]
    return embodiment, told_NM[:, 1 : 1 + embodiment.width]


def _complete(several: Several, values: Values, record: Mapping[str, Any], where: str) -> Values:
    actions_NA = values[ACTION.name]
    if actions_NA.ndim == 2 and actions_NA.shape[1] == told_width(several):
        return values  # wider than any robot's own: it is complete
    return {ACTION.name: tell(several, _find(several, actions_NA, record, where), actions_NA)}


def _find(several: Several, actions_NA: Array, record: Mapping[str, Any], where: str) -> str:
    """The name of the embodiment that actions are of: as the record says, else by their width."""
    of = where or "the control"
    named = record.get(EMBODIMENT)
    by_name = {one.name: one for one in several}
    if named is not None and named not in by_name:
        raise SampleError(
            f"The actions of {of} are of the embodiment '{named}', but the model is told in "
            f"{nearest_names(str(named), by_name, 9)}. Use a model of that robot."
        )
    possible = [by_name[str(named)]] if named is not None else list(several)
    width = actions_NA.shape[1] if actions_NA.ndim == 2 else None
    fitting = [one.name for one in possible if one.width == width]
    if not fitting:
        expected = " or ".join(
            f"(N, {one.width}) of '{one.name}' ({', '.join(one.names)})" for one in possible
        )
        raise SampleError(
            f"The actions of {of} have the shape {actions_NA.shape}; expected {expected}. Write "
            "the file again in that form."
        )
    if len(fitting) > 1:
        raise SampleError(
            f"The actions of {of} may be of {' or '.join(map(repr, fitting))}, which have {width} "
            'numbers both. Say which: --embodiment NAME, or \'"embodiment": "NAME"\' in the '
            "recording's JSON."
        )
    return fitting[0]


def _find_fault(several: Several, values: Values) -> str | None:
    told_NM = values[ACTION.name]
    if not len(told_NM):
        return None
    places = np.unique(told_NM[:, 0])
    if len(places) > 1 or places[0] not in range(len(several)):
        return (
            f"names the embodiments {places.tolist()} in its first column; expected one number, "
            f"from 0 to {len(several) - 1}, in all rows."
        )
    embodiment, own_NA = own_numbers(several, told_NM)
    return embodiment.find_row_fault(own_NA)


def _rescale(several: Several, values: Values, scale: float) -> Values:
    told_NM = values[ACTION.name]
    if not len(told_NM):
        return values
    embodiment, own_NA = own_numbers(several, told_NM)
    return {ACTION.name: tell(several, embodiment.name, rescaled(embodiment, own_NA, scale))}


def _kind_of(several: Several, values: Values) -> str:
    told_NM = values[ACTION.name]
    return several[int(told_NM[0, 0])].name if len(told_NM) else ""
