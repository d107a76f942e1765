"""Pictures for people: what the world model imagined passes the guards before it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video.pictures import png_bytes
from post_training.robotics.usefulness.ranking import SIMULATOR, WORLD

_GREEN, _GREY = "#3f6600", "#9aa5a0"
_GAP_PX = 4


def write_sheet(
    file: Path,
    rows: Sequence[Sequence[np.ndarray]],
    guards: GuardPolicy | None,
    context: Mapping[str, object] | None = None,
) -> None:
    """Write pictures in rows as one PNG.

    Args:
        file: the PNG.
        rows: pictures of one size, uint8 (H, W, C); a shorter row leaves the rest white.
        guards: the guards, which judge all pictures as one video; None for pictures that no model
            made.
        context: what the audit log says of it.

    Raises:
        RefusedError: a guard refused.
        StorageFullError: no space left.
    """
    safe_NHWC = np.stack([frame for row in rows for frame in row])
    if guards is not None:
        safe_NHWC, _ = guards.check_video(safe_NHWC, context)
    frames = iter(safe_NHWC)
    height, width = safe_NHWC.shape[1:3]
    columns = max(map(len, rows))
    sheet_HWC = np.full(
        (len(rows) * (height + _GAP_PX) - _GAP_PX, columns * (width + _GAP_PX) - _GAP_PX, 3),
        255,
        np.uint8,
    )
    for number, row in enumerate(rows):
        top = number * (height + _GAP_PX)
        for column in range(len(row)):
            left = column * (width + _GAP_PX)
            sheet_HWC[top : top + height, left : left + width] = next(frames)
    with atomic_path(file) as temporary:
        temporary.write_bytes(png_bytes(sheet_HWC))


def write_ranking_plot(file: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw each policy's success rate in the simulator against that in the world.

    Args:
        file: the PNG.
        rows: lines of the ranking.
        title: the plot's title.

    Raises:
        StorageFullError: no space left.
    """
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, zorder=0)
    names: dict[tuple[float, float], list[str]] = {}
    for row in rows:  # names at nearly the same place share a line
        place = (round(row[SIMULATOR] * 20) / 20, round(row[WORLD] * 20) / 20)
        names.setdefault(place, []).append(row["policy"])
        axes.plot(row[SIMULATOR], row[WORLD], "o", color=_GREEN)
    for place, together in names.items():
        is_right = place[0] > 0.7  # its name would leave the plot
        axes.annotate(
            ", ".join(together),
            place,
            xytext=(-6 if is_right else 6, 5),
            textcoords="offset points",
            fontsize=8,
            horizontalalignment="right" if is_right else "left",
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), title=title)
    axes.set_xlabel("success in the simulator")
    axes.set_ylabel("success in the world model")
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def write_planning_plot(file: Path, ends_m: Mapping[str, np.ndarray], success_m: float) -> None:
    """Draw for each planner which share of episodes ends within which distance of the goal.

    Args:
        file: the PNG.
        ends_m: distances from the goal by planner.
        success_m: the distance that counts as success.

    Raises:
        StorageFullError: no space left.
    """
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.axvline(100 * success_m, color=_GREY, linewidth=0.8, linestyle=":")
    colors = {WORLD: _GREEN, SIMULATOR: "#1d2421"}
    for planner, ends in ends_m.items():
        places_cm = np.concatenate([[0], np.sort(100 * ends)])
        shares = np.arange(len(ends) + 1) / len(ends)
        axes.step(places_cm, shares, where="post", color=colors.get(planner, _GREY), label=planner)
    axes.set(ylim=(0, 1.02), xlabel="distance from the goal, cm", ylabel="share of episodes")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, title="planned in")
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
