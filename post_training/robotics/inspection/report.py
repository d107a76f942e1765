"""Inspect a data set: statistics of each number, and a finding for each fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.controls.embodiment import (
    Embodiment,
    Given,
    find_embodiment,
    of_width,
    unknown_embodiment,
)
from nemo_cosmos.controls.number_group import capital, spans
from nemo_cosmos.errors import SampleError
from post_training.finding import Finding, Findings
from post_training.robotics.inspection.faults import number_findings
from post_training.robotics.inspection.picture import picture_finding
from post_training.robotics.inspection.reading import Recorded, read_recordings
from post_training.robotics.inspection.readings import state_groups
from post_training.robotics.signal import action_stats

FORMAT = "nemo_cosmos.inspection"


@dataclass(frozen=True)
class NumberStatistics:
    """What one number of the actions is over the data set, as files hold it.

    Attributes:
        name: its name.
        units: its unit.
        mean, std, least, most: over all actions.
        p01, p99: the values below which 1 % and 99 % are.
    """

    name: str
    units: str
    mean: float
    std: float
    least: float
    p01: float
    p99: float
    most: float


@dataclass(frozen=True)
class Inspection(Findings):
    """What was found of a data set.

    Attributes:
        place: the data set.
        num_recordings: recordings with actions.
        num_actions: their actions.
        embodiment: what the numbers are said to be, with the statistics that were measured.
        numbers: the statistics of each number.
        findings: one for each fault that was looked for.
    """

    place: str
    num_recordings: int
    num_actions: int
    embodiment: Embodiment
    numbers: tuple[NumberStatistics, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> JsonObject:
        """Plain data; ``embodiment`` is a record that a control takes."""
        return {
            "format": FORMAT,
            "place": self.place,
            "num_recordings": self.num_recordings,
            "num_actions": self.num_actions,
            "embodiment": self.embodiment.to_dict(),
            "numbers": [asdict(one) for one in self.numbers],
            "findings": [asdict(one) for one in self.findings],
        }


def inspect_dataset(
    place: str | PathLike[str],
    embodiment: Given | None = None,
    *,
    limit: int | None = None,
    with_video: bool = True,
) -> Inspection:
    """Measure a robot data set and look for the classic faults.

    Args:
        place: a folder of recordings, a Bridge or LeRobot data set, or shards.
        embodiment: what its actions are said to be; by default the only one of the table with so
            many numbers, else numbers of unknown meaning.
        limit: how many recordings to read at most.
        with_video: whether to decode videos, to find pictures that are turned.

    Raises:
        MissingFileError: there is no recording with actions.
        SampleError: a file is damaged, or has other numbers than the embodiment; names file and
            row.
        NumericsError: an array holds NaN or infinity.
        ConfigError: the embodiment does not exist, or is wrong.
    """
    chosen = None if embodiment is None else find_embodiment(embodiment)
    recordings: list[Recorded] = []
    for one in read_recordings(place):
        chosen = chosen or _guess(one.actions_NA.shape[1])
        _check_width(one, chosen)
        recordings.append(one)
        if limit is not None and len(recordings) >= limit:
            break
    actions = sum(len(one.actions_NA) for one in recordings)
    if chosen is None or not actions:
        raise SampleError(f"'{place}' holds no action; name a data set with at least one.")
    findings = [*_assumed(embodiment, chosen), *number_findings(recordings, chosen)]
    if with_video:
        findings.append(picture_finding(recordings, chosen))
    measured = _with_recorded_scale(chosen, recordings)
    stats = action_stats(one.actions_NA for one in recordings)
    return Inspection(
        fspath(place),
        len(recordings),
        actions,
        measured.with_statistics(stats["mean"], stats["std"]),
        _statistics(recordings, measured),
        tuple(findings),
    )


def _guess(width: int) -> Embodiment:
    names = of_width(width)
    return find_embodiment(names[0]) if len(names) == 1 else unknown_embodiment(width)


def _assumed(given: Given | None, chosen: Embodiment) -> Iterable[Finding]:
    if given is not None:
        return []
    known = of_width(chosen.width)
    also = f" The table has {' and '.join(known)} of that width." if len(known) > 1 else ""
    return [
        Finding(
            "embodiment", "ask", "all numbers",
            f"taken as {chosen.name}, since there are {chosen.width}.{also}",
            "Say --embodiment NAME, or FILE.yaml:NAME of your own.",
        )
    ]  # fmt: skip


def _check_width(one: Recorded, embodiment: Embodiment) -> None:
    width = one.actions_NA.shape[1]
    if width != embodiment.width:
        raise SampleError(
            f"{capital(one.place)} has {width} numbers in row 0; expected {embodiment.width}, as "
            f"the embodiment '{embodiment.name}' has: {', '.join(embodiment.names)}. Name another "
            "embodiment, or leave the recording out."
        )
    if (fault := embodiment.find_row_fault(one.actions_NA)) is not None:
        raise SampleError(f"{capital(one.place)} {fault}")
    if one.states_TA is not None:
        layout = state_groups(embodiment, one.states_TA.shape[1])
        of_states = replace(embodiment, numbers=layout, mean=None, std=None)
        if (fault := of_states.find_row_fault(one.states_TA)) is not None:
            raise SampleError(f"The state beside {one.place} {fault}")


def _with_recorded_scale(embodiment: Embodiment, recordings: Sequence[Recorded]) -> Embodiment:
    """The embodiment with the scale that the recordings state, where all state the same."""
    scale = recordings[0].scale
    if scale is None or any(one.scale != scale for one in recordings):
        return embodiment
    if len(scale) != embodiment.width:
        return embodiment
    groups = []
    for group, columns in spans(embodiment.numbers):
        factors = set(scale[columns])
        groups.append(replace(group, scale=factors.pop()) if len(factors) == 1 else group)
    rates = {one.fps for one in recordings}
    rate = next(iter(rates)) if len(rates) == 1 else embodiment.rate_hz
    return replace(embodiment, numbers=tuple(groups), rate_hz=rate)


def _statistics(
    recordings: Sequence[Recorded], embodiment: Embodiment
) -> tuple[NumberStatistics, ...]:
    actions_NA = np.concatenate([one.actions_NA for one in recordings])
    p01, p99 = np.percentile(actions_NA, [1, 99], axis=0)
    rows = []
    for group, columns in spans(embodiment.numbers):
        for name, place in zip(group.names, range(columns.start, columns.stop), strict=True):
            values = actions_NA[:, place]
            rows.append(
                NumberStatistics(
                    name=name,
                    units=group.units,
                    mean=float(values.mean()),
                    std=float(values.std()),
                    least=float(values.min()),
                    p01=float(p01[place]),
                    p99=float(p99[place]),
                    most=float(values.max()),
                )
            )
    return tuple(rows)
