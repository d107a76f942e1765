"""The classic faults of robot data, each looked for where the data can show it.

A finding is ``ok`` (looked for, not there), ``found`` (there, with its fix) or ``ask`` (the data
cannot show it: somebody has to say).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls.embodiment import Embodiment
from nemo_cosmos.controls.number_group import ADDABLE_FORMS, ANGLE_UNITS, NumberGroup, spans
from nemo_cosmos.errors import counted
from post_training.finding import Finding as Finding
from post_training.robotics.inspection.reading import Recorded
from post_training.robotics.inspection.readings import (
    Fit,
    Reading,
    declared_reading,
    fit,
    in_plain_units,
    predictions,
    state_groups,
)

Rows = NDArray[np.float64]

FITS = 0.8
"""Another reading must correlate so well with the numbers to be reported."""
CLOSE = 0.02
"""Correlations that differ by less count as the same."""
WEAK = 0.3
"""A correlation below this says nothing."""
MIN_ACTIONS = 20
_PER_DEGREE = 180 / np.pi
_TURN_RAD = 2 * np.pi


def number_findings(recordings: Sequence[Recorded], embodiment: Embodiment) -> list[Finding]:
    """Look for all faults that actions and states show.

    Args:
        recordings: the recordings; their actions are as wide as the embodiment's.
        embodiment: what the numbers are said to be.
    """
    found = [*_rate(recordings, embodiment)]
    recordings, in_degrees = _with_states_in_radians(recordings, embodiment)
    found += in_degrees
    for said, columns in spans(embodiment.numbers):
        group = said
        rows = np.concatenate([one.actions_NA[:, columns] for one in recordings])
        if _are_degrees(rows, said):
            found.append(_degrees(_named(said), float(np.abs(rows / said.scale).max())))
            group = replace(said, units="deg")  # so that nothing else is blamed for it
        fits = _fits(recordings, embodiment, group, columns)
        if group.kind == "opening":
            found += _opening(recordings, group, columns, fits)
        elif group.kind == "other":
            found.append(
                Finding("meaning", "ask", _named(group), "nothing says what they are", _DESCRIBE)
            )
        else:
            found += _motion(recordings, group, columns, fits)
    return found


_DESCRIBE = (
    "Say what they are in a YAML file of your own and name it with --embodiment FILE.yaml:NAME "
    "(docs/embodiments.md)."
)


def _with_states_in_radians(
    recordings: Sequence[Recorded], embodiment: Embodiment
) -> tuple[list[Recorded], list[Finding]]:
    """Turn states that are in degrees into radians, and say so."""
    found: dict[str, Finding] = {}
    for states_TA in (one.states_TA for one in recordings if one.states_TA is not None):
        for group, columns in spans(state_groups(embodiment, states_TA.shape[1])):
            if _are_degrees(states_TA[:, columns], group):
                about = f"states, {_named(group)}"
                largest = float(np.abs(states_TA[:, columns] / group.scale).max())
                found[about] = _degrees(about, largest)
    return [_in_radians(one, embodiment, found) for one in recordings], list(found.values())


def _in_radians(one: Recorded, embodiment: Embodiment, found: Collection[str]) -> Recorded:
    """A recording with those groups of its states that were found to be degrees in radians."""
    if one.states_TA is None:
        return one
    states_TA = one.states_TA.copy()
    for group, columns in spans(state_groups(embodiment, states_TA.shape[1])):
        if f"states, {_named(group)}" in found:
            states_TA[:, columns] /= _PER_DEGREE
    return replace(one, states_TA=states_TA)


def _are_degrees(rows: Rows, group: NumberGroup) -> bool:
    """Whether angles are too large to be radians."""
    if group.units != "rad" or not _is_angle(group):
        return False
    # A joint may go round more than once, a rotation cannot.
    largest = 2 * _TURN_RAD if group.kind == "joints" else _TURN_RAD
    limit = np.pi if group.relation == "step" else largest
    return float(np.abs(rows / group.scale).max(initial=0)) > limit * 1.05


def _is_angle(group: NumberGroup) -> bool:
    """Whether a group's numbers are angles, in radians or degrees."""
    return group.units in ANGLE_UNITS and (group.kind == "joints" or group.form in ADDABLE_FORMS)


def _degrees(about: str, largest: float) -> Finding:
    return Finding(
        "degrees", "found", about, f"reach {largest:.4g}, which is no angle in radians here",
        "Convert them to radians, or say units: deg in the embodiment.",
    )  # fmt: skip


def _fits(
    recordings: Sequence[Recorded], embodiment: Embodiment, group: NumberGroup, columns: slice
) -> list[Fit]:
    """How well each reading explains a group, over all recordings that have states."""
    given: list[Rows] = []
    predicted: dict[Reading, list[Rows]] = {}
    for one in recordings:
        if one.states_TA is None or not len(one.actions_NA):
            continue
        layout = state_groups(embodiment, one.states_TA.shape[1])
        under = dict(predictions(group, one.states_TA, layout))
        if under:
            given.append(in_plain_units(one.actions_NA[:, columns], group))
            for reading, rows in under.items():
                if group.kind == "rotation" and reading.relation != "step":
                    # An angle and itself plus a turn are one; files jump at different places.
                    rows = rows + _TURN_RAD * np.round((given[-1] - rows) / _TURN_RAD)
                predicted.setdefault(reading, []).append(rows)
    if sum(map(len, given)) < MIN_ACTIONS:
        return []
    rows = np.concatenate(given)
    # A reading that only some recordings allow, whose states differ, cannot be compared.
    whole = {reading: parts for reading, parts in predicted.items() if len(parts) == len(given)}
    fits = [fit(reading, rows, np.concatenate(parts)) for reading, parts in whole.items()]
    return [one for one in fits if one is not None]


def _motion(
    recordings: Sequence[Recorded], group: NumberGroup, columns: slice, fits: list[Fit]
) -> Iterator[Finding]:
    """Relation, axes, order, signs and scale of a position, a rotation or joints."""
    about = _named(group)
    wanted = declared_reading(group)
    mine = next((one for one in fits if one.reading == wanted), None)
    if not fits:
        yield from _magnitudes(recordings, group, columns)
        yield Finding(
            "relation", "ask", about, "no states to compare them with",
            f"Make sure that they are {wanted.words()}, in the order of the embodiment.",
        )  # fmt: skip
        return
    best = max(fits, key=lambda one: one.score)
    ceiling = max(one.best for one in fits)
    # Exact data leave no doubt; commands that a robot follows loosely leave much.
    enough = ceiling - max(CLOSE, (1 - ceiling) / 2)
    if mine is not None and mine.score >= max(enough, WEAK):
        measured = f"follow the states ({mine.score:.2f})"
        yield Finding("relation", "ok", about, measured)
        yield Finding("axis order", "ok", about, measured)
        yield _scale(recordings, group, columns, mine)
        return
    if best.score >= max(enough, FITS):
        yield Finding(
            "relation", "found", about,
            f"are {best.reading.words()} ({best.score:.2f}), not {wanted.words()} "
            f"({0 if mine is None else mine.score:.2f})",
            f"Convert them, or say relation and frame so in the embodiment: {_as_said(best)}.",
        )  # fmt: skip
        yield _scale(recordings, group, columns, best)
        return
    is_mine = mine is not None and mine.best >= enough
    reordered = mine if mine is not None and is_mine else max(fits, key=lambda one: one.best)
    if reordered.best >= FITS:
        yield _order(group, reordered)
        yield _scale(recordings, group, columns, reordered)
        return
    yield Finding(
        "relation", "ask", about,
        f"follow the states under no reading (at best {best.score:.2f}: {best.reading.words()})",
        "Say what they are, and check that actions and states are of the same recording and "
        "aligned in time.",
    )  # fmt: skip


def _as_said(best: Fit) -> str:
    return f"relation {best.reading.relation}" + (
        f", frame of {best.reading.axes} axes" if best.reading.axes else ""
    )


def _order(group: NumberGroup, found: Fit) -> Finding:
    """Another order, or other signs."""
    names = group.names if len(group.names) == len(found.order) else _ROTATION_AXES
    told = ", ".join(
        f"{name} is {'-' if sign < 0 else ''}{names[place]}"
        for name, place, sign in zip(names, found.order, found.signs, strict=True)
    )
    return Finding(
        "axis order", "found", _named(group),
        f"{told} ({found.best:.2f}, as {found.reading.words()})",
        "Reorder the columns and correct their signs. Where only signs differ, the axes may be "
        "those of another frame, or rotations be inverted (rows of the matrix for columns).",
    )  # fmt: skip


_ROTATION_AXES = ("about x", "about y", "about z")


def _scale(
    recordings: Sequence[Recorded], group: NumberGroup, columns: slice, found: Fit
) -> Finding:
    """Units and scale, from how large the numbers are for the motion that the states show."""
    about = _named(group)
    said = {one.scale[columns] for one in recordings if one.scale is not None}
    stated = float(np.mean(next(iter(said)))) / group.scale if len(said) == 1 else 1.0
    stated = stated if stated > 0 else 1.0
    ratio = found.slope / stated
    is_angle = _is_angle(group)
    measured = f"{found.slope * group.scale:.4g} for one {'radian' if is_angle else 'unit'}"
    if group.kind == "rotation" and not is_angle:
        return Finding("units", "ok", about, "have none")
    if 0.4 <= ratio <= 2.5:
        return Finding("units", "ok", about, measured)
    if is_angle and 0.5 <= ratio / _PER_DEGREE <= 2:
        return Finding(
            "degrees", "found", about, f"{measured}: degrees", "Convert them to radians, or say "
            "units: deg in the embodiment."
        )  # fmt: skip
    if is_angle and 0.5 <= ratio * _PER_DEGREE <= 2:
        return Finding(
            "degrees", "found", about, f"{measured}: radians, or actions of states in degrees",
            "Correct 'units' in the embodiment, or convert the states.",
        )  # fmt: skip
    return Finding(
        "units", "found", about,
        f"{measured}; the embodiment says {group.scale * stated:.4g}",
        "Correct 'units' or 'scale' in the embodiment, or convert the numbers.",
    )  # fmt: skip


def _magnitudes(
    recordings: Sequence[Recorded], group: NumberGroup, columns: slice
) -> Iterator[Finding]:
    """What a group's size alone shows of its units."""
    rows = np.concatenate([one.actions_NA[:, columns] for one in recordings])
    if _is_angle(group) and group.units == "rad":
        largest = float(np.abs(rows / group.scale).max(initial=0))
        yield Finding("degrees", "ok", _named(group), f"reach {largest:.4g}, as radians may")
    if group.kind == "position" and group.relation == "step":
        largest = float(np.abs(in_plain_units(rows, group)).max(initial=0))
        if largest > 1:
            yield Finding(
                "units", "found", _named(group),
                f"reach {largest:.4g} m within one frame",
                "They are values and no changes, or of another unit or scale: correct 'relation', "
                "'units' or 'scale' in the embodiment, or convert them.",
            )  # fmt: skip


def _opening(
    recordings: Sequence[Recorded], group: NumberGroup, columns: slice, fits: list[Fit]
) -> Iterator[Finding]:
    """Sign and range of an opening."""
    about = _named(group)
    rows = np.concatenate([one.actions_NA[:, columns] for one in recordings]) / group.scale
    low, high = float(rows.min()), float(rows.max())
    says = f"{high:g} means {group.high}"
    if group.units == "0 to 1" and (low < -0.05 or high > 1.05):
        yield Finding(
            "gripper range", "found", about, f"reach from {low:.4g} to {high:.4g}, not 0 to 1",
            "Bring them to 0 to 1, or say their units in the embodiment.",
        )  # fmt: skip
    if high - low < 1e-6:
        yield Finding("gripper sign", "ask", about, f"is always {low:g}", f"Make sure that {says}.")
        return
    with_states = [one for one in fits if one.reading.relation == "absolute"]
    score = with_states[0].score if with_states else 0.0
    if score <= -WEAK:
        yield Finding(
            "gripper sign", "found", about,
            f"run against the opening in the states ({score:.2f})",
            "Subtract them from 1, or say the other meaning under 'high' in the embodiment.",
        )  # fmt: skip
        return
    begins = np.array([float(one.actions_NA[0, columns][0]) for one in recordings if len(
        one.actions_NA)])  # fmt: skip
    is_open = (begins / group.scale > (low + high) / 2) == (group.high == "open")
    share = f"{int(is_open.sum())} of {counted(len(is_open), 'recording')} begin open"
    if is_open.mean() < 0.5:
        yield Finding(
            "gripper sign", "ask", about, f"{share} if {says}, though robots mostly do",
            f"Look at a video and make sure that {says}; else subtract them from 1, in the states "
            "too.",
        )  # fmt: skip
    elif score >= WEAK:
        yield Finding("gripper sign", "ok", about, f"follow the states ({score:.2f}); {share}")
    else:
        yield Finding(
            "gripper sign", "ask", about, f"no state to compare with; {share}",
            f"Make sure that {says}.",
        )  # fmt: skip


def _rate(recordings: Sequence[Recorded], embodiment: Embodiment) -> Iterator[Finding]:
    rates = sorted({round(one.fps, 3) for one in recordings if one.fps is not None})
    told = ", ".join(f"{rate:g}" for rate in rates) or "unknown"
    if len(rates) > 1:
        yield Finding(
            "rate", "found", "all numbers", f"{told} Hz in one data set",
            "Resample the recordings to one rate: a change within a frame means another speed.",
        )  # fmt: skip
    elif not rates:
        yield Finding("rate", "ask", "all numbers", "nothing says it", "Say rate_hz.")
    elif embodiment.rate_hz is not None and abs(rates[0] / embodiment.rate_hz - 1) > 0.01:
        yield Finding(
            "rate", "ok", "all numbers",
            f"{told} Hz; {embodiment.name} is usually {embodiment.rate_hz:g} Hz",
        )  # fmt: skip
    else:
        yield Finding("rate", "ok", "all numbers", f"{told} Hz")


def _named(group: NumberGroup) -> str:
    return group.names[0] if group.width == 1 else f"{group.names[0]} to {group.names[-1]}"
