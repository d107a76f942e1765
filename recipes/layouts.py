"""How the large models are spread over 8, 32 and 64 GPUs of 80 and of 141 GB, as data.

Each row is the planner's fastest layout for videos of 121 frames and 704x1280, or, where one
without FSDP is within 3 per cent of it, that one. A tenth of the memory is left free, because no
layout has been measured. ``conf/layout/`` holds the same rows, for other machines than a recipe's
own, and ``docs/performance.md`` what the planner expects of them::

    python -m recipes.layouts            # that table
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nemo_cosmos.planning.cost import step_time
from nemo_cosmos.planning.hardware import GB, GPUS, USABLE_MEMORY
from nemo_cosmos.planning.layout import ParallelLayout
from nemo_cosmos.planning.planner import Plan
from nemo_cosmos.planning.search import Candidate, expected_mfu

FREE_MEMORY = 0.10
"""Share of a GPU's memory that a layout leaves free by the planner's count."""
CLOSE = 0.03
"""How much slower than the fastest a layout without FSDP may be."""
PER_NODE = 8
GPU_OF_MEMORY = {80: "h100", 141: "h200"}
"""The kind of GPU that is planned for, by its memory in 10^9 bytes."""


@dataclass(frozen=True)
class Split:
    """How one model is spread; what the GPUs have left is data parallelism.

    Attributes:
        tp: tensor-parallel size, above 1 with sequence parallelism.
        cp: context-parallel size.
        fsdp: whether weights and gradients are split over data- and context-parallel ranks, too.
        recomputed: layers that the backward pass computes again.
    """

    tp: int
    cp: int
    fsdp: bool = False
    recomputed: int = 0

    def on(self, num_gpus: int, global_batch_size: int = 64) -> ParallelLayout:
        """Return the layout on a number of GPUs, with one sample in a micro-batch."""
        dp = num_gpus // (self.tp * self.cp)
        recompute = "block" if self.recomputed else "none"
        num = global_batch_size // dp
        return ParallelLayout(self.tp, self.cp, 1, dp, self.fsdp, recompute, num, self.recomputed)


LAYOUTS: dict[tuple[str, int, int], Split] = {
    ("7b", 8, 80): Split(tp=1, cp=8, fsdp=True),
    ("7b", 32, 80): Split(tp=2, cp=4),
    ("7b", 64, 80): Split(tp=2, cp=4),
    ("7b", 8, 141): Split(tp=1, cp=8),
    ("7b", 32, 141): Split(tp=1, cp=8),
    ("7b", 64, 141): Split(tp=1, cp=8),
    ("14b", 8, 80): Split(tp=1, cp=8, fsdp=True, recomputed=21),
    ("14b", 32, 80): Split(tp=2, cp=4, fsdp=True, recomputed=6),
    ("14b", 64, 80): Split(tp=2, cp=4, fsdp=True, recomputed=3),
    ("14b", 8, 141): Split(tp=1, cp=8, fsdp=True),
    ("14b", 32, 141): Split(tp=2, cp=4),
    ("14b", 64, 141): Split(tp=2, cp=4),
}
"""By size, number of GPUs, and memory of each in 10^9 bytes."""


def layout_for(size: str, num_gpus: int, memory_gb: int = 80) -> Split:
    """Return the row of the largest number of GPUs that is not above ``num_gpus``.

    More data-parallel ranks only take memory away from each.
    """
    numbers = [gpus for known, gpus, memory in LAYOUTS if (known, memory) == (size, memory_gb)]
    return LAYOUTS[size, max(number for number in numbers if number <= num_gpus), memory_gb]


def site_keys(size: str, num_gpus: int, memory_gb: int) -> dict[str, object]:
    """Return the keys of a recipe that one file of ``conf/layout/`` sets."""
    strategy = "trainer.strategy"
    return {
        **LAYOUTS[size, num_gpus, memory_gb].on(num_gpus).overrides(PER_NODE),
        f"{strategy}.virtual_pipeline_model_parallel_size": None,
        f"{strategy}.num_distributed_optimizer_instances": 1,
    }


def plan_rows(recipe: str) -> list[tuple[int, int, Plan]]:
    """Plan a recipe in each of its size's rows: number of GPUs, their memory, and the plan.

    The plan's own layout is the row's, and its best the fastest that leaves as much memory free.
    """
    from nemo_cosmos.planning.recipe import plan_recipe
    from recipes.overrides import apply_overrides
    from recipes.registry import get_recipe

    found = []
    for size, num_gpus, memory_gb in LAYOUTS:
        if f"_{size}_" not in recipe:
            continue
        configured = get_recipe(recipe)
        keys = site_keys(size, num_gpus, memory_gb).items()
        words = [f"{key}={'none' if value is None else value}" for key, value in keys]
        apply_overrides(configured, words)
        memory_bytes = memory_gb * GB * (1 - FREE_MEMORY) / USABLE_MEMORY
        gpu = GPUS[GPU_OF_MEMORY[memory_gb]]
        plan = plan_recipe(configured, gpu, num_gpus, memory_bytes, fsdp=True)
        assert isinstance(plan, Plan)
        found.append((num_gpus, memory_gb, plan))
    return found


def plan_all() -> dict[str, list[tuple[int, int, Plan]]]:
    """Plan every large recipe in all rows of its size."""
    tasks = ("text2world", "video2world")
    names = [f"diffusion_{size}_{task}" for size in ("7b", "14b") for task in tasks]
    return {name: plan_rows(name) for name in names}


def as_table(planned: Mapping[str, list[tuple[int, int, Plan]]]) -> str:
    """Return what the planner expects, as a table of Markdown.

    Args:
        planned: what :func:`plan_all` returned.
    """
    recipes: dict[str, list[str]] = {}
    for recipe, rows in planned.items():
        _, size, task = recipe.split("_")
        for num_gpus, memory_gb, plan in rows:
            row = f"| {num_gpus} of {memory_gb} GB {_expected(plan)}"
            recipes.setdefault(f"{size.upper()} {row}", []).append(task)
    lines = [
        "| size | GPUs | layout | GB a GPU | s a step | MFU | with FP8 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, tasks in recipes.items():
        # Tasks differ in one channel of the input, which is below the last digit.
        size, rest = row.split(" ", 1)
        lines.append(f"| {size}{'' if len(tasks) > 1 else ' ' + tasks[0]} {rest}")
    return "\n".join(lines)


def _expected(plan: Plan) -> str:
    own, workload, gpu = plan.configured, plan.workload, plan.gpu
    assert own is not None
    fp8 = workload.variant(fp8=True)
    faster = Candidate(own.layout, own.memory, step_time(fp8, own.layout, gpu, plan.overlap))
    return (
        f"| {own.layout.describe()} | {own.memory.total / GB:.0f} | {own.time.total_s:.1f} "
        f"| {expected_mfu(workload, own, gpu):.0%} | {expected_mfu(workload, faster, gpu):.0%} |"
    )


if __name__ == "__main__":
    print(as_table(plan_all()))
