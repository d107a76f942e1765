"""How the nodes of a cluster are shared out among actors; knows nothing of Ray but its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_curation.executors.base import Step

#: Amounts that an actor occupies: ``CPU`` and ``memory`` in bytes, or ``GPU`` alone, so that busy
#: cores cannot keep an actor from a GPU.
Needs = Mapping[str, float]
#: A node as Ray describes it.
Node = Mapping[str, Any]


def needs_of(stages: Sequence[Step], nodes: Sequence[Node]) -> list[Needs]:
    """What an actor of each stage occupies; stages with the very same object share actors.

    Stages without a GPU share actors that have what the neediest of them declares. No actor asks
    for more than the largest node has, so that small machines run all stages, too; where no node
    has a GPU, the stages that would use one run as the others do.
    """
    largest = {
        name: max((node["Resources"].get(name, 0.0) for node in nodes), default=0.0)
        for name in ("CPU", "memory", "GPU")
    }
    on_gpu = [bool(stage.resources.gpus and largest["GPU"]) for stage in stages]
    plain = [stage.resources for stage, gpu in zip(stages, on_gpu, strict=True) if not gpu]
    wanted = {
        "CPU": max((need.cpus for need in plain), default=0.0),
        "memory": max((need.memory_gb for need in plain), default=0.0) * 2**30,
    }
    shared = {name: min(amount, largest[name] or amount) for name, amount in wanted.items()}
    return [
        {"GPU": min(stage.resources.gpus, largest["GPU"])} if gpu else shared
        for stage, gpu in zip(stages, on_gpu, strict=True)
    ]


def limits(kinds: Sequence[Needs], nodes: Sequence[Node]) -> list[int]:
    """How many actors of each kind the nodes hold, at least one.

    Kinds that want a GPU get equal shares, so that none waits for one that others hold.
    """
    num_on_gpu = sum("GPU" in needs for needs in kinds)
    held = [sum(_num_fitting(needs, node["Resources"]) for node in nodes) for needs in kinds]
    return [
        max(1, count // (num_on_gpu if "GPU" in needs else 1))
        for needs, count in zip(kinds, held, strict=True)
    ]


def _num_fitting(needs: Needs, has: Mapping[str, float]) -> int:
    fitting = [has.get(name, 0.0) // amount for name, amount in needs.items() if amount]
    return int(min(fitting, default=1))
