"""The page's table of capacities is what the planner says now."""

from __future__ import annotations

from pathlib import Path

from nemo_cosmos.planning.hardware import GB
from recipes.capacity import GPU, MODELS, NUM_GPUS, as_table, plan_capacity
from recipes.layouts import FREE_MEMORY

PAGE = Path(__file__).parents[3] / "docs" / "launch.md"


def test_the_documented_table_is_the_planners() -> None:
    plans = [(model, plan_capacity(model, gpus)) for model in MODELS for gpus in NUM_GPUS]
    assert as_table(plans) in PAGE.read_text(encoding="utf-8")
    for _, plan in plans:
        assert plan.best.memory.total <= GPU.memory_gb * GB * (1 - FREE_MEMORY)
