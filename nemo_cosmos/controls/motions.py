"""Actions and states in a mirrored world, and several steps made one, as their embodiment says.

What a number becomes depends on what it means: a rotation turns the other way round, an opening
stays, the left arm's numbers are the mirrored robot's right arm's. So nothing is decided by width.
The meaning is that of the embodiment which the recording's JSON names; a recording that names none
is ``bridge_7`` where it has seven numbers, as it is everywhere, and refused where it has others.

The world is mirrored at the plane where one of its axes is 0. What moves has axes of its own:

* A camera's x axis leads to its right, a vehicle's y axis to its left. Their mirror images have
  these axes the other way round, whatever the world's axis is.
* A gripper of two fingers is its own mirror image at both planes through its middle, so that its
  axes are mirrored as the world's are; it has no mirror image along its own z, where it reaches.

A matrix that takes numbers from one set of axes to another gets the signs of both, and angles and
axis times angle, which are no vectors but turns, keep the number about the mirrored axis and change
the others.

Shape suffixes: T rows, S steps that are joined, A numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.embodiment import (
    DEFAULT_EMBODIMENT,
    EMBODIMENT,
    Embodiment,
    find_embodiment,
)
from nemo_cosmos.controls.number_group import ADDABLE_FORMS, NumberGroup, spans
from nemo_cosmos.controls.rotation import as_rotation, from_rotation
from nemo_cosmos.errors import ConfigError, SampleError

Groups = Sequence[NumberGroup]

_OWN_LATERAL = {"camera": 0, "head": 0, "vehicle": 1}
"""The axis of a moving part that leads to its side, by its name or that of its axes."""
_SIDES = {"left": "right", "right": "left"}


def mirrored_motions(values: Mapping[str, Array], change: PictureChange) -> Mapping[str, Array]:
    """Actions in a changed picture: mirrored with it; a crop leaves them alone.

    Raises:
        SampleError: the mirror image of a number is unknown.
    """
    axis = change.mirror_axis
    if axis is None:
        return values
    return {
        name: mirror_rows(_embodiment(change.record, rows).numbers, rows, axis)
        for name, rows in values.items()
    }


def mirrored_states(values: Mapping[str, Array], change: PictureChange) -> Mapping[str, Array]:
    """States of a robot in a changed picture.

    Raises:
        SampleError: the mirror image of a number is unknown.
    """
    axis = change.mirror_axis
    if axis is None:
        return values
    return {
        name: mirror_rows(_state_groups(change.record, rows), rows, axis)
        for name, rows in values.items()
    }


def mirror_rows(groups: Groups, rows_TA: Array, axis: int) -> Array:
    """Mirror motions, or poses.

    Args:
        groups: what the numbers mean.
        rows_TA: the numbers, as files hold them.
        axis: the world's axis that changes its sign.

    Raises:
        SampleError: the mirror image of a number is unknown.
    """
    mirrored_TA = np.array(rows_TA, np.float64)
    for (group, columns), source in zip(spans(groups), _opposite(groups), strict=True):
        part_TA = np.asarray(rows_TA[:, source], np.float64)
        mirrored_TA[:, columns] = _mirror(group, part_TA, axis)
    return mirrored_TA.astype(rows_TA.dtype)


def join_motions(rows_TSA: Array, record: Mapping[str, Any]) -> Array:
    """Make one action of S actions in a row.

    Steps of a part that are seen from the part itself are composed, each seen from where the one
    before led; those seen from the room turn about the room's axes, and positions add up. Values
    that are no change since the frame before are the last one's.

    The JSON's ``action.scale`` comes before the embodiment's. Where neither is known, the angles
    are, too, and numbers are added, which is exact while the part does not turn.

    Args:
        rows_TSA: groups of actions.
        record: the sample's JSON.

    Raises:
        SampleError: the embodiment is unknown.
    """
    rows = np.asarray(rows_TSA, np.float64)
    embodiment = _embodiment(record, rows_TSA)
    scale_A = _scale_of(record, embodiment)
    joined_TA = np.array(rows[:, -1])
    by_part: dict[tuple[str, str], dict[str, tuple[NumberGroup, slice]]] = {}
    for group, columns in spans(embodiment.numbers):
        if group.relation != "step":
            continue
        joined_TA[:, columns] = rows[:, :, columns].sum(axis=1)
        by_part.setdefault((group.part, group.frame), {})[group.kind] = group, columns
    for moved in by_part.values():
        # Where the scale is unknown, only forms that have none say how far a part turned.
        if "rotation" in moved and (scale_A is not None or not _is_addable(moved["rotation"][0])):
            scale = np.ones(embodiment.width) if scale_A is None else scale_A
            _compose(moved, rows, scale, joined_TA)
    return joined_TA.astype(rows_TSA.dtype)


def _compose(
    moved: Mapping[str, tuple[NumberGroup, slice]],
    rows_TSA: Array,
    scale_A: Array,
    joined_TA: Array,
) -> None:
    """Write the composed steps of one part into the joined rows."""
    turns, turn_columns = moved["rotation"]
    form = str(turns.form)
    degrees = np.pi / 180 if turns.units == "deg" and _is_addable(turns) else 1.0
    position, position_columns = moved.get("position", (None, slice(0, 0)))
    rotation_T = Rotation.identity(len(rows_TSA))
    position_T3 = np.zeros((len(rows_TSA), 3))
    for step in range(rows_TSA.shape[1]):
        row_TA = rows_TSA[:, step] / scale_A
        turned_T = as_rotation(row_TA[:, turn_columns] * degrees, form)
        if position is not None:
            step_T3 = row_TA[:, position_columns]
            position_T3 += rotation_T.apply(step_T3) if position.moves_with_part else step_T3
        in_own_axes = turns.moves_with_part
        rotation_T = rotation_T * turned_T if in_own_axes else turned_T * rotation_T
    joined_TA[:, turn_columns] = from_rotation(rotation_T, form) / degrees * scale_A[turn_columns]
    if position is not None:
        joined_TA[:, position_columns] = position_T3 * scale_A[position_columns]


def _mirror(group: NumberGroup, rows_TA: Array, axis: int) -> Array:
    """Mirror the numbers of one group."""
    own = _own_axis(group, axis)
    seen_from = own if group.moves_with_part else axis
    if group.kind == "opening":
        return rows_TA
    if group.kind == "position":
        return np.asarray(rows_TA * _signs(seen_from))
    if group.kind == "rotation":
        # A change is seen from the same axes before and after; a pose leads from its own to them.
        of = own if group.relation == "absolute" else seen_from
        return _mirror_rotation(group, rows_TA, seen_from, of)
    raise SampleError(
        f"holds {', '.join(group.names)}, which are {group.kind} numbers of '{group.part}', and "
        "nobody knows their mirror image. Tokenize without mirroring, or leave the file out."
    )


def _mirror_rotation(group: NumberGroup, rows_TA: Array, left: int, right: int) -> Array:
    form = str(group.form)
    left_3, right_3 = _signs(left), _signs(right)
    if form in ("6d", "matrix"):
        # Of a 6-D rotation files hold two columns, one after the other; of a matrix its rows.
        signs_33 = np.outer(left_3, right_3)
        signs = signs_33[:, :2].T.ravel() if form == "6d" else signs_33.ravel()
        return np.asarray(rows_TA * signs)
    if left != right:
        degrees = np.pi / 180 if group.units == "deg" and _is_addable(group) else 1.0
        factor = group.scale / degrees
        matrices_T33 = as_rotation(rows_TA / factor, form).as_matrix()
        mirrored = Rotation.from_matrix(left_3[:, None] * matrices_T33 * right_3)
        return np.asarray(from_rotation(mirrored, form) * factor)
    signs = -left_3
    if form == "quaternion_xyzw":
        return np.asarray(rows_TA * np.append(signs, 1.0))
    mirrored_T3 = np.asarray(rows_TA * signs)
    if form == "euler_xyz" and group.relation == "absolute" and len(rows_TA):
        # A gripper that points down has a roll near half a turn, which recordings keep free of
        # jumps: its mirror image is beyond half a turn, not at the circle's other end.
        half_turn = group.scale * (180.0 if group.units == "deg" else np.pi)
        if signs[0] < 0:
            mirrored_T3[:, 0] += 2 * half_turn * np.round(np.median(rows_TA[:, 0]) / half_turn)
    return mirrored_T3


def _own_axis(group: NumberGroup, axis: int) -> int:
    """The moving part's own axis that is mirrored."""
    for name in (group.frame, group.part):
        if name in _OWN_LATERAL:
            return _OWN_LATERAL[name]
    return axis if axis != 2 else 1


def _signs(axis: int) -> Array:
    signs_3 = np.ones(3)
    signs_3[axis] = -1
    return signs_3


def _opposite(groups: Groups) -> list[slice]:
    """The columns that each group takes its numbers from: of a left part, those of the right one.

    Raises:
        SampleError: a part on one side has none on the other.
    """
    places = {_place(group): columns for group, columns in spans(groups)}
    found = []
    for group, columns in spans(groups):
        other = _other_side(group.part)
        if other is None:
            found.append(columns)
            continue
        place = (other, *_place(group)[1:])
        if place not in places:
            raise SampleError(
                f"holds {', '.join(group.names)} of '{group.part}', and no such numbers of "
                f"'{other}', which it is when mirrored. Tokenize without mirroring, or leave the "
                "file out."
            )
        found.append(places[place])
    return found


def _place(group: NumberGroup) -> tuple[object, ...]:
    """What a group and its opposite have in common, after the name of the part."""
    kind = (group.kind, group.units, group.relation, group.frame, group.form)
    return group.part, *kind, group.scale, group.high, group.width


def _other_side(part: str) -> str | None:
    words = part.split("_")
    if not any(word in _SIDES for word in words):
        return None
    return "_".join(_SIDES.get(word, word) for word in words)


def _is_addable(group: NumberGroup) -> bool:
    return group.form in ADDABLE_FORMS


def _embodiment(record: Mapping[str, Any], rows: Array) -> Embodiment:
    """The embodiment of a recording's actions.

    Raises:
        SampleError: it is unknown, or has another number of numbers.
    """
    embodiment = _named(record)
    width = rows.shape[-1] if rows.ndim > 1 else 0
    if embodiment.width != width:
        raise _wrong_width(record, embodiment, rows, embodiment.width)
    return embodiment


def _state_groups(record: Mapping[str, Any], rows: Array) -> Groups:
    embodiment = _named(record)
    width = sum(group.width for group in embodiment.state)
    if not embodiment.state:
        raise SampleError(
            f"holds states, and the embodiment '{embodiment.name}' does not say what their numbers "
            "mean. Add 'state' to its record (docs/embodiments.md), tokenize without mirroring, or "
            "leave the file out."
        )
    if width != (rows.shape[-1] if rows.ndim > 1 else 0):
        raise _wrong_width(record, embodiment, rows, width)
    return embodiment.state


def _named(record: Mapping[str, Any]) -> Embodiment:
    given = record.get(EMBODIMENT)
    try:
        return find_embodiment(DEFAULT_EMBODIMENT if given is None else given)
    except ConfigError as error:
        raise SampleError(
            f"is of the embodiment {given!r:.80}, and nobody has said what its numbers mean, so "
            "that they cannot follow a mirrored or faster picture. Name its file: --embodiment "
            "FILE.yaml:NAME (docs/embodiments.md)."
        ) from error


def _wrong_width(
    record: Mapping[str, Any], embodiment: Embodiment, rows: Array, width: int
) -> SampleError:
    is_named = record.get(EMBODIMENT) is not None
    whose = "its JSON names" if is_named else "a recording that names none has"
    return SampleError(
        f"has shape {rows.shape}, and the embodiment that {whose}, '{embodiment.name}', has "
        f"{width} numbers. Say what the numbers mean: --embodiment NAME or FILE.yaml:NAME, or "
        '\'"embodiment": "NAME"\' in the JSON; or leave the file out.'
    )


def _scale_of(record: Mapping[str, Any], embodiment: Embodiment) -> Array | None:
    """What files hold over units, of each number; None where nothing says it."""
    described = record.get("action")
    scale = described.get("scale") if isinstance(described, Mapping) else None
    if isinstance(scale, list | tuple) and len(scale) == embodiment.width:
        scale_A = np.asarray(scale, np.float64)
        if (scale_A > 0).all():
            return scale_A
    if record.get(EMBODIMENT) is None:
        return None
    return np.concatenate([np.full(one.width, one.scale) for one in embodiment.numbers])
