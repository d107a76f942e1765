"""Layouts with their memory and time, the fastest first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nemo_cosmos.models.common.costs import Workload
from nemo_cosmos.planning.cost import Overlap, StepTime, step_time
from nemo_cosmos.planning.hardware import USABLE_MEMORY, Gpu
from nemo_cosmos.planning.layout import ParallelLayout, legal_layouts
from nemo_cosmos.planning.memory import Memory, memory


@dataclass(frozen=True)
class Way:
    """How a step is computed, whatever its layout.

    Attributes:
        workload: the training step.
        overlap: what is sent while the GPU computes.
    """

    workload: Workload
    overlap: Overlap


@dataclass(frozen=True)
class Candidate:
    """A layout with its memory and time."""

    layout: ParallelLayout
    memory: Memory
    time: StepTime

    def fits(self, memory_bytes: float) -> bool:
        """Whether a GPU of ``memory_bytes`` is enough."""
        return self.memory.total <= memory_bytes * USABLE_MEMORY


@dataclass(frozen=True)
class Search:
    """The hardware that layouts are sought for.

    Attributes:
        gpu: kind of GPU.
        memory_bytes: memory of each.
        num_gpus: number of GPUs.
        fsdp: whether to consider layouts that split weights by FSDP.
    """

    gpu: Gpu
    memory_bytes: float
    num_gpus: int
    fsdp: bool

    def candidate(self, way: Way, layout: ParallelLayout) -> Candidate:
        """Return the memory and time of a layout."""
        time = step_time(way.workload, layout, self.gpu, way.overlap)
        return Candidate(layout, memory(way.workload, layout), time)

    def candidates(self, way: Way) -> list[Candidate]:
        """Return every legal layout, the fastest first.

        Where nothing has to be recomputed for a layout's time but something for its memory, as few
        layers are as let it fit.
        """
        found = []
        for layout in legal_layouts(way.workload, self.num_gpus, self.gpu.per_node, fsdp=self.fsdp):
            found.append(self.candidate(way, layout))
            if layout.recompute == "none" and not found[-1].fits(self.memory_bytes):
                found += self._with_few_recomputed(way, layout)
        return sorted(found, key=lambda candidate: candidate.time.total_s)

    def fastest_recomputation(self, way: Way, layout: ParallelLayout) -> Candidate | None:
        """Return the fastest recomputation with which a layout's split fits; None if none does."""
        none = replace(layout, recompute="none", num_recomputed=0)
        options = [self.candidate(way, none)]
        if not options[0].fits(self.memory_bytes):
            options = self._with_few_recomputed(way, none)
            options.append(self.candidate(way, replace(none, recompute="full")))
        return next((one for one in options if one.fits(self.memory_bytes)), None)

    def _with_few_recomputed(self, way: Way, layout: ParallelLayout) -> list[Candidate]:
        """The layout with the fewest recomputed layers that fit; nothing where only all do."""
        for number in range(1, way.workload.num_layers // layout.pp):
            fewer = replace(layout, recompute="block", num_recomputed=number)
            needed = memory(way.workload, fewer)
            if needed.total <= self.memory_bytes * USABLE_MEMORY:
                return [self.candidate(way, fewer)]
        return []


def expected_mfu(workload: Workload, candidate: Candidate, gpu: Gpu) -> float:
    """Return model FLOP utilisation, of the bfloat16 peak also where products are in FP8.

    That is how training logs it.
    """
    flops = workload.global_batch_size * workload.flops.training
    peak = gpu.peak_flops(workload.precision.name)
    return flops / (candidate.time.total_s * candidate.layout.num_gpus * peak)
