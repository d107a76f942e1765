"""What post-training needs, recipe by recipe, as the planner counts it.

::

    python -m recipes.post_training_plans       # the table of docs/post_training.md

Each row is the fastest layout that fits on so many GPUs, for videos of the published size and the
recipe's own batch and steps. All of it is arithmetic; nothing has been measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.planning.hardware import GB, GPUS
from nemo_cosmos.planning.planner import Plan
from nemo_cosmos.planning.recipe import Video, plan_recipe
from recipes.registry import get_recipe

QUICKSTART_VIDEO = Video(17, 96, 128)
"""What ``nemo-cosmos quickstart`` trains nano models on."""
PUBLISHED_VIDEO = Video()


@dataclass(frozen=True)
class Row:
    """One recipe on some GPUs.

    Attributes:
        recipe: its name.
        num_gpus: number of GPUs.
        gpu: their kind.
        lora: whether adapters are trained instead of all weights.
    """

    recipe: str
    num_gpus: int = 8
    gpu: str = "h100"
    lora: bool = False


ROWS = (
    Row("diffusion_nano_action", 1),
    Row("diffusion_nano_instruction", 1),
    Row("diffusion_nano_camera", 1),
    Row("diffusion_nano_multiview_driving", 1),
    Row("ar_nano_action", 1),
    Row("diffusion_7b_action"),
    Row("diffusion_7b_action", 1, lora=True),
    Row("diffusion_7b_instruction"),
    Row("diffusion_7b_instruction", 1, lora=True),
    Row("diffusion_7b_camera"),
    Row("diffusion_7b_camera", 1, lora=True),
    Row("diffusion_7b_multiview_driving", 32),
    Row("diffusion_7b_multiview_driving", lora=True),
    Row("diffusion_7b_video2world"),
    Row("diffusion_7b_video2world", 1, lora=True),
    Row("diffusion_14b_action"),
    Row("diffusion_14b_action", 2, lora=True),
    Row("diffusion_14b_instruction"),
    Row("diffusion_14b_instruction", 2, lora=True),
    Row("diffusion_14b_camera"),
    Row("diffusion_14b_camera", 2, lora=True),
    Row("diffusion_14b_video2world"),
    Row("diffusion_14b_video2world", 2, lora=True),
    Row("ar_5b_action"),
    Row("ar_5b_action", 1, lora=True),
    Row("ar_5b_video2world"),
    Row("ar_5b_video2world", 1, lora=True),
)
LEAST_HOURS = 0.1
HEADER = """\
| recipe | trained | GPUs and layout | GB a GPU | GB a save | batch | s a step | steps | hours |
|---|---:|---|---:|---:|---:|---:|---:|---:|"""


def plan_row(row: Row) -> tuple[Plan, int]:
    """Plan a row.

    Returns:
        Its plan, and the recipe's steps.
    """
    recipe = get_recipe(row.recipe, post_training=True, peft_scheme="lora" if row.lora else None)
    gpu = GPUS[row.gpu]
    video = QUICKSTART_VIDEO if "nano" in row.recipe else PUBLISHED_VIDEO
    plan = plan_recipe(recipe, gpu, row.num_gpus, gpu.memory_gb * GB, video, fsdp=True)
    assert isinstance(plan, Plan)
    return plan, int(recipe.trainer.max_steps)


def as_line(row: Row) -> str:
    """A row of the table, in Markdown."""
    plan, steps = plan_row(row)
    best, workload = plan.best, plan.workload
    counts, step_s = workload.parameters, best.time.total_s
    hours = step_s * steps / 3600
    cells = (
        f"`{row.recipe}`{' with LoRA' if row.lora else ''}",
        f"{counts.trained / 1e6:,.1f} M"
        if counts.trained < 1e9
        else f"{counts.trained / 1e9:.2f} B",
        f"{row.num_gpus} x {row.gpu.upper()}: {best.layout.describe()}",
        f"{best.memory.total / GB:.1f}",
        f"{workload.precision.checkpoint_bytes(counts) / GB:.1f}",
        f"{workload.global_batch_size}",
        f"{step_s:.2f}",
        f"{steps:,}",
        f"{hours:,.1f}" if round(hours, 1) else f"< {LEAST_HOURS}",
    )
    return f"| {' | '.join(cells)} |"


def as_table() -> str:
    """The table of ``docs/post_training.md``."""
    return "\n".join([HEADER, *map(as_line, ROWS)])


if __name__ == "__main__":
    print(as_table())
