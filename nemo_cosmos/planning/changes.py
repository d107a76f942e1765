"""What would make a step faster, and by how much: one change after another.

Each gain is counted after the changes before it, so that they add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nemo_cosmos.errors import counted
from nemo_cosmos.planning.layout import is_trainable
from nemo_cosmos.planning.search import Candidate, Search, Way

LEAST_GAIN = 0.003
"""Share of a step from which on a change is named."""


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        words: what changes, in a few words.
        overrides: the keys that change it.
        gain_s: seconds of a step that it saves.
        after: layout, memory and time with it and all changes before it.
    """

    words: str
    overrides: dict[str, object]
    gain_s: float
    after: Candidate


def find_changes(search: Search, way: Way, start: Candidate, fastest: Candidate) -> list[Change]:
    """Return the changes from a layout on.

    First less recomputation with the layout's own split, then the fastest split, then other ways of
    computing, the largest gain first.

    Args:
        search: the hardware.
        way: how the step is computed.
        start: the layout to begin with.
        fastest: the fastest layout that fits.
    """
    found: list[Change] = []
    now = start
    per_node = search.gpu.per_node
    less = search.fastest_recomputation(way, start.layout)
    first = [] if less is None else [(_recomputation(less), less)]
    split = f"{fastest.layout.describe()} instead of {start.layout.split_words()}"
    for words, after in (*first, (split, fastest)):
        if _is_worth(now, after):
            keys = _changed_keys(now, after, per_node)
            found.append(Change(words, keys, _gain(now, after), after))
            now = after
    while True:
        options = [
            (Change(words, keys, _gain(now, after), after), changed)
            for words, keys, changed in _other_ways(search, way, now)
            if is_trainable(changed.workload, now.layout.split)
            and _is_worth(now, after := search.candidate(changed, now.layout))
            and after.fits(search.memory_bytes)
        ]
        if not options:
            return found
        change, way = max(options, key=lambda option: option[0].gain_s)
        found.append(change)
        now = change.after


def _gain(now: Candidate, after: Candidate) -> float:
    return now.time.total_s - after.time.total_s


def _is_worth(now: Candidate, after: Candidate) -> bool:
    return _gain(now, after) > LEAST_GAIN * now.time.total_s


def _other_ways(
    search: Search, way: Way, now: Candidate
) -> Iterator[tuple[str, dict[str, object], Way]]:
    """The ways of computing the same layout."""
    workload, overlap, layout = way.workload, way.overlap, now.layout

    def computed(**changes: bool | str) -> Way:
        return replace(way, workload=workload.variant(**changes))  # type: ignore[arg-type]

    if not workload.is_fused:
        yield (
            "elementwise steps in compiled kernels",
            {"model.config.fused": "auto"},
            computed(fused=True),
        )
    is_half = not workload.precision.name.startswith("32")
    if search.gpu.fp8_flops and is_half and not workload.precision.fp8:
        yield "products in FP8", {"trainer.fp8": "hybrid"}, computed(fp8=True)
    if layout.cp > 1:
        kind, words = ("p2p", "a ring") if workload.context_kind == "a2a" else ("a2a", "all to all")
        yield (
            f"context parallelism by {words}",
            {"model.config.cp_comm_type": kind},
            computed(context_kind=kind),
        )
    if layout.tp > 1 and not overlap.tensor:
        yield (
            "tensor-parallel communication behind products",
            {"model.config.tp_comm_overlap": True},
            replace(way, overlap=replace(overlap, tensor=True)),
        )
    if layout.state_ranks > 1 and not layout.fsdp and not overlap.data:
        yield (
            "gradients and weights exchanged behind computation",
            {"trainer.strategy.overlap": True},
            replace(way, overlap=replace(overlap, data=True)),
        )


def _recomputation(after: Candidate) -> str:
    layout = after.layout
    if layout.recompute == "block":
        return f"recomputation of {counted(layout.num_recomputed, 'layer')} alone"
    return "no recomputation" if layout.recompute == "none" else "recomputation of all layers"


def _changed_keys(now: Candidate, after: Candidate, per_node: int) -> dict[str, object]:
    before = now.layout.overrides(per_node)
    keys = after.layout.overrides(per_node)
    return {key: value for key, value in keys.items() if value != before[key]}
