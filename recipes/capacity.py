"""What the large models need and make of a day on 8 to 1,024 GPUs, by the planner.

``docs/launch.md`` shows the table that this prints::

    python -m recipes.capacity
"""

from __future__ import annotations

from collections.abc import Iterable

from nemo_cosmos.planning.hardware import GB, GPUS, USABLE_MEMORY
from nemo_cosmos.planning.planner import Plan
from nemo_cosmos.planning.search import expected_mfu
from recipes.layouts import FREE_MEMORY

MODELS = ("diffusion_7b_text2world", "diffusion_14b_text2world", "ar_4b", "ar_12b")
NUM_GPUS = (8, 64, 256, 1024)
GPU = GPUS["h100"]
LEAST_PER_GPU = 0.25
"""Samples of a batch for each GPU, at least: on many GPUs a recipe's own batch has too few."""
_DAY_S = 24 * 3600


def plan_capacity(model: str, num_gpus: int) -> Plan:
    """Plan pre-training in the layout that the planner calls fastest.

    Args:
        model: a recipe.
        num_gpus: GPUs of 80 GB, a tenth of which is left free.
    """
    from nemo_cosmos.planning.recipe import plan_recipe
    from recipes.registry import get_recipe

    recipe = get_recipe(model)
    recipe.data.global_batch_size = max(
        recipe.data.global_batch_size, round(num_gpus * LEAST_PER_GPU)
    )
    memory_bytes = GPU.memory_gb * GB * (1 - FREE_MEMORY) / USABLE_MEMORY
    plan = plan_recipe(recipe, GPU, num_gpus, memory_bytes, fsdp=True)
    assert isinstance(plan, Plan)
    return plan


def as_table(plans: Iterable[tuple[str, Plan]]) -> str:
    """Return the table of Markdown.

    Args:
        plans: recipes and their plans.
    """
    lines = [
        "| recipe | GPUs | batch | layout | GB a GPU | s a step | samples a day | MFU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, plan in plans:
        best, batch = plan.best, plan.workload.global_batch_size
        a_day = batch * _DAY_S / best.time.total_s
        lines.append(
            f"| {model} | {best.layout.num_gpus:,} | {batch} | {best.layout.describe()} "
            f"| {best.memory.total / GB:.0f} | {best.time.total_s:.1f} | {a_day:,.0f} "
            f"| {expected_mfu(plan.workload, best, plan.gpu):.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_table((model, plan_capacity(model, gpus)) for model in MODELS for gpus in NUM_GPUS))
