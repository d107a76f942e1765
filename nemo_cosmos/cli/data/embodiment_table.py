"""An embodiment as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from nemo_cosmos.controls.embodiment import Embodiment


def embodiment_title(embodiment: Embodiment) -> str:
    """Its name, what it is, its rate and its pictures in a line."""
    rate = "any rate" if embodiment.rate_hz is None else f"{embodiment.rate_hz:g} Hz"
    image = "upright" if embodiment.image == "upright" else "turned by 180 degrees"
    title = f": {embodiment.title}" if embodiment.title else ""
    return (
        f"{embodiment.name}{title}. {embodiment.width} numbers an action, {rate}, pictures {image}."
    )


def embodiment_table(embodiment: Embodiment) -> Table:
    """A row for each number: what it is, and its statistics."""
    from rich.table import Table

    table = Table("number", "what", "units", "frame", "mean", "std")
    table.columns[0].no_wrap = True  # names are there to be copied
    place = 0
    for group in embodiment.numbers:
        what = f"{group.kind} {group.form or ''}".strip()
        what += f", {group.high} when high" if group.high else ""
        units = group.units if group.scale == 1 else f"{group.units} x {group.scale:g}"
        for name in group.names:
            statistics = ["", ""]
            if embodiment.mean is not None and embodiment.std is not None:
                statistics = [f"{embodiment.mean[place]:.4g}", f"{embodiment.std[place]:.4g}"]
            table.add_row(name, f"{what} ({group.relation})", units, group.frame, *statistics)
            place += 1
    return table
