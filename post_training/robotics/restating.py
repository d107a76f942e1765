"""The same motion in another robot's numbers: other units, scale, or form of rotation.

Only what is the same motion is restated: parts, kinds, relation and frame must agree. A step seen
from the gripper is no step seen from the base without the gripper's pose, and nobody guesses that.

Shape suffixes: N actions, A numbers of each.
"""

from __future__ import annotations

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.embodiment import Embodiment, find_embodiment
from nemo_cosmos.controls.number_group import ADDABLE_FORMS, NumberGroup, spans
from nemo_cosmos.controls.rotation import as_rotation, from_rotation
from nemo_cosmos.errors import ConfigError
from post_training.robotics.signal import DEFAULT_EMBODIMENT

_PER_UNIT = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "rad": 1.0, "deg": np.pi / 180}
"""Metres or radians in a unit."""


def restate(actions_NA: Array, given: Embodiment, wanted: Embodiment) -> Array:
    """Write the actions of one embodiment in the numbers of another.

    Args:
        actions_NA: actions as files hold them.
        given: what their numbers mean.
        wanted: what they should mean.

    Raises:
        ConfigError: the two do not say the same of the same parts.
    """
    check_restatable(given, wanted)
    rows_NA = np.asarray(actions_NA, np.float64)
    parts = [
        _restate_group(rows_NA[:, columns], one, other)
        for (one, columns), other in zip(spans(given.numbers), wanted.numbers, strict=True)
    ]
    return np.asarray(np.concatenate(parts, axis=1), np.float32)


def restate_own(actions_NA: Array, action_scale: Array, wanted: Embodiment) -> Array:
    """Write the simulator's own actions in the numbers of an embodiment.

    Args:
        actions_NA: actions as its episodes hold them, (N, 7).
        action_scale: their factors from metres, radians and opening, which follow the frame rate.
        wanted: what they should mean.

    Raises:
        ConfigError: it does not say the same of the same parts.
    """
    usual = find_embodiment(DEFAULT_EMBODIMENT)
    if wanted.numbers == usual.numbers:
        return actions_NA  # whose scale may be another than Bridge's: 1 is full speed at any rate
    factors = [group.scale for group in usual.numbers for _ in group.names]
    return restate(actions_NA / action_scale * factors, usual, wanted)


def check_restatable(given: Embodiment, wanted: Embodiment) -> None:
    """Require two embodiments to say the same of the same parts.

    Args:
        given: what there is.
        wanted: what is asked for.

    Raises:
        ConfigError: says what differs.
    """
    ours, theirs = ([_meaning(group) for group in one.numbers] for one in (given, wanted))
    if ours == theirs:
        return
    raise ConfigError(
        f"Actions of '{given.name}' cannot be written as '{wanted.name}': that takes "
        f"{'; '.join(theirs)}, and there is {'; '.join(ours)}. Choose an embodiment that differs "
        "in units, scale, sign or form of rotation alone, such as arm_10."
    )


def _meaning(group: NumberGroup) -> str:
    seen = f" seen from {group.frame}" if group.frame else ""
    # Numbers of no known unit are what they are.
    units = f" in {group.units}" if group.kind in ("joints", "other") else ""
    count = f" {group.width}" if group.kind in ("joints", "other") else ""
    return f"{group.part}: {group.relation}{count} {group.kind}{seen}{units}"


def _restate_group(rows_NA: Array, given: NumberGroup, wanted: NumberGroup) -> Array:
    values_NA = rows_NA / given.scale
    if given.kind == "position":
        values_NA = values_NA * _PER_UNIT[given.units] / _PER_UNIT[wanted.units]
    elif given.kind == "rotation":
        if given.form in ADDABLE_FORMS:
            values_NA = values_NA * _PER_UNIT[given.units]
        values_NA = from_rotation(as_rotation(values_NA, str(given.form)), str(wanted.form))
        if wanted.form in ADDABLE_FORMS:
            values_NA = values_NA / _PER_UNIT[wanted.units]
    elif given.kind == "opening" and given.high != wanted.high:
        values_NA = 1 - values_NA
    return np.asarray(values_NA * wanted.scale)
