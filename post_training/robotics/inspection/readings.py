"""What the actions would be under each reading, as the states show it.

A reading says what a group of numbers is: a change since the frame before, a change since the first
frame, or a value; and the axes that it is seen in. The states tell what a robot did, so that each
reading predicts the actions; the true one correlates with them.

Shape suffixes: N actions, T = N + 1 states, G numbers of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls.embodiment import Embodiment
from nemo_cosmos.controls.number_group import ADDABLE_FORMS, NumberGroup, spans
from nemo_cosmos.controls.rotation import as_rotation

Rows = NDArray[np.float64]

OWN, ROOM = "the moving part's own", "the room's"
_PER_UNIT = {"cm": 0.01, "mm": 0.001, "deg": np.pi / 180}
"""Metres and radians of a unit."""


class Reading(NamedTuple):
    """What a group of numbers may be.

    Attributes:
        relation: as :class:`NumberGroup` has it.
        axes: :data:`OWN`, :data:`ROOM`, or empty where there are no axes.
    """

    relation: str
    axes: str

    def words(self) -> str:
        """The reading in words."""
        what = {
            "step": "the change since the frame before",
            "start": "the change since the first frame",
            "absolute": "the value itself",
        }[self.relation]
        return f"{what} in {self.axes} axes" if self.axes else what


@dataclass(frozen=True)
class Fit:
    """How well a reading explains a group's numbers.

    Attributes:
        reading: the reading.
        score: mean correlation of each number with what the reading predicts for it, -1 to 1.
        order: the prediction that each number follows best, by place in the group.
        signs: the sign of each of these correlations.
        best: mean absolute correlation in that order.
        slope: the number for one metre or radian, in that order.
    """

    reading: Reading
    score: float
    order: tuple[int, ...]
    signs: tuple[int, ...]
    best: float
    slope: float


def declared_reading(group: NumberGroup) -> Reading:
    """What the embodiment says that a group is."""
    if group.kind not in ("position", "rotation"):
        return Reading(group.relation, "")
    is_own = group.moves_with_part and group.relation != "absolute"
    return Reading(group.relation, OWN if is_own else ROOM)


def state_groups(embodiment: Embodiment, width: int) -> tuple[NumberGroup, ...]:
    """The groups of a state, where the embodiment says or its width shows what they are."""
    if sum(group.width for group in embodiment.state) == width:
        return embodiment.state
    plain = all(g.kind != "rotation" or g.form in ADDABLE_FORMS for g in embodiment.numbers)
    if embodiment.width != width or not plain or embodiment.state:
        return ()
    return tuple(
        replace(group, relation="absolute", scale=1.0, frame="base" if group.frame else "")
        for group in embodiment.numbers
    )


def in_plain_units(rows: Rows, group: NumberGroup) -> Rows:
    """A group's rows without its scale, in metres or radians; rotations as rotation vectors."""
    values = rows / group.scale * _PER_UNIT.get(group.units, 1.0)
    if group.kind == "rotation" and group.form not in ADDABLE_FORMS:
        vectors: Rows = as_rotation(values, str(group.form)).as_rotvec()
        return vectors
    return values


def predictions(
    group: NumberGroup, states_TA: Rows, layout: Sequence[NumberGroup]
) -> Iterator[tuple[Reading, Rows]]:
    """Yield what a group's numbers of an episode would be under each reading.

    Args:
        group: the group of the actions.
        states_TA: the states of the episode.
        layout: the groups of a state.
    """
    same = [
        (g, c)
        for g, c in spans(layout)
        if (g.part, g.kind, g.width) == (group.part, group.kind, group.width)
    ]
    # Of several the one of the same names, as of the joints of two fingers.
    same.sort(key=lambda one: one[0].names != group.names)
    turned = next(
        (
            as_rotation(in_plain_units_of_state(states_TA[:, c], g), str(g.form))
            for g, c in spans(layout)
            if g.part == group.part and g.kind == "rotation"
        ),
        None,
    )
    if group.kind == "rotation" and turned is not None:
        yield from _rotations(group, turned)
    elif group.kind != "rotation" and same:
        state_group, place = same[0]
        values_TG = in_plain_units_of_state(states_TA[:, place], state_group)
        in_axes = ROOM if group.kind == "position" else ""
        changes = {"step": np.diff(values_TG, axis=0), "start": values_TG[1:] - values_TG[0]}
        yield Reading("absolute", in_axes), values_TG[1:]
        for relation, change_NG in changes.items():
            yield Reading(relation, in_axes), change_NG
            if group.kind == "position" and turned is not None and group.width == 3:
                before = turned[:-1] if relation == "step" else turned[:1]
                yield Reading(relation, OWN), before.inv().apply(change_NG)


def in_plain_units_of_state(rows: Rows, group: NumberGroup) -> Rows:
    """A state group's rows in metres or radians, in its own form."""
    plain: Rows = rows / group.scale * _PER_UNIT.get(group.units, 1.0)
    return plain


def _rotations(group: NumberGroup, turned: Rotation) -> Iterator[tuple[Reading, Rows]]:
    def form(rotation: Rotation) -> Rows:
        is_euler = group.form == "euler_xyz"
        rows: Rows = rotation.as_euler("xyz") if is_euler else rotation.as_rotvec()
        return rows

    first = turned[0]
    yield Reading("absolute", ROOM), form(turned[1:])
    yield Reading("step", OWN), form(turned[:-1].inv() * turned[1:])
    yield Reading("step", ROOM), form(turned[1:] * turned[:-1].inv())
    yield Reading("start", OWN), form(first.inv() * turned[1:])
    yield Reading("start", ROOM), form(turned[1:] * first.inv())


def fit(reading: Reading, given_NG: Rows, predicted_NG: Rows) -> Fit | None:
    """Compare a group's numbers with what a reading predicts, over all episodes.

    Args:
        reading: the reading.
        given_NG: the numbers, without scale, in metres or radians.
        predicted_NG: the prediction.

    Returns:
        None where hardly anything moves.
    """
    given, predicted = given_NG - given_NG.mean(0), predicted_NG - predicted_NG.mean(0)
    std_given, std_predicted = given.std(0), predicted.std(0)
    floor = 1e-3 * max(float(std_predicted.max(initial=0)), 1e-9)
    moves = (std_given > 1e-3 * max(float(std_given.max(initial=0)), 1e-12)) & (std_given > 1e-12)
    if not moves.any() or not (std_predicted > floor).any() or std_predicted.max() < 1e-9:
        return None
    norm = np.outer(std_given.clip(1e-12), std_predicted.clip(floor))
    correlation = (given.T @ predicted) / len(given) / norm
    correlation[~moves] = 0
    rows, order = linear_sum_assignment(-np.abs(correlation))
    chosen = correlation[rows, order]
    # Around their means, since positions may be counted from another origin.
    signed = (predicted[:, order] * np.where(chosen < 0, -1, 1))[:, moves]
    slope = float((given[:, moves] * signed).sum()) / max(float((signed**2).sum()), 1e-12)
    # A number that never moves keeps its place: nothing says otherwise.
    order = _still_in_place(order, moves)
    return Fit(
        reading,
        float(np.diag(correlation)[moves].mean()),
        tuple(int(place) for place in order),
        tuple(1 if not m or c >= 0 else -1 for c, m in zip(chosen, moves, strict=True)),
        float(np.abs(chosen[moves]).mean()),
        slope,
    )


def _still_in_place(order: NDArray[np.intp], moves: NDArray[np.bool_]) -> NDArray[np.intp]:
    taken = {int(order[place]) for place in np.flatnonzero(moves)}
    fixed = order.copy()
    free = [place for place in range(len(order)) if place not in taken]
    still = [int(place) for place in np.flatnonzero(~moves)]
    for place in [p for p in still if p in free]:
        fixed[place] = place
        free.remove(place)
        still.remove(place)
    for place, other in zip(still, free, strict=True):
        fixed[place] = other
    return fixed
