"""The large models' layouts: what the planner calls fastest, legal, and the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.home import conf_folder
from nemo_cosmos.planning.hardware import GB
from nemo_cosmos.planning.layout import is_trainable
from nemo_cosmos.planning.planner import Plan
from nemo_cosmos.planning.search import Search, Way
from recipes.layouts import (
    CLOSE,
    FREE_MEMORY,
    LAYOUTS,
    PER_NODE,
    as_table,
    layout_for,
    plan_all,
    site_keys,
)
from recipes.registry import get_recipe

PERFORMANCE = Path(__file__).parents[3] / "docs" / "performance.md"
Planned = dict[str, list[tuple[int, int, Plan]]]


@pytest.fixture(scope="module")
def planned() -> Planned:
    return plan_all()


def test_a_row_is_the_fastest_or_close_to_it_without_fsdp(planned: Planned) -> None:
    rows = [row for recipe in planned.values() for row in recipe]
    assert len(rows) == 2 * len(LAYOUTS)
    for num_gpus, memory_gb, plan in rows:
        own = plan.configured
        assert own is not None and own.layout.num_gpus == num_gpus
        assert own.memory.total <= memory_gb * GB * (1 - FREE_MEMORY)
        assert own.time.total_s <= plan.best.time.total_s * (1 + CLOSE)
        if own.layout.fsdp:
            whole = Search(plan.gpu, plan.memory_bytes, num_gpus, fsdp=False)
            others = whole.candidates(Way(plan.workload, plan.overlap))
            best = next(one for one in others if one.fits(plan.memory_bytes) and one.layout.pp == 1)
            assert best.time.total_s > plan.best.time.total_s * (1 + CLOSE)


def test_a_row_recomputes_no_layer_too_many(planned: Planned) -> None:
    for _, memory_gb, plan in planned["diffusion_14b_text2world"]:
        own = plan.configured
        assert own is not None
        if own.layout.recompute == "block":
            fewer = replace(own.layout, num_recomputed=own.layout.num_recomputed - 1)
            search = Search(plan.gpu, plan.memory_bytes, fewer.num_gpus, fsdp=True)
            less = search.candidate(Way(plan.workload, plan.overlap), fewer)
            assert less.memory.total > memory_gb * GB * (1 - FREE_MEMORY)


@pytest.mark.parametrize("scaling", ["tensorwise", "delayed", "blockwise"])
def test_fp8_takes_the_tokens_of_every_row(planned: Planned, scaling: str) -> None:
    for recipe in planned.values():
        for _, _, plan in recipe:
            assert plan.configured is not None
            precision = replace(plan.workload.precision, fp8=True, fp8_recipe=scaling)
            workload = replace(plan.workload, precision=precision)  # type: ignore[type-var]
            assert is_trainable(workload, plan.configured.layout.split)


def test_the_documented_table_is_the_planners(planned: Planned) -> None:
    assert as_table(planned) in PERFORMANCE.read_text(encoding="utf-8")


def test_the_sites_files_are_the_rows() -> None:
    files = {path.stem: path for path in (conf_folder() / "layout").glob("*.yaml")}
    assert files.pop("recipe")
    rows = {f"{size}_{gpus}x{memory}": (size, gpus, memory) for size, gpus, memory in LAYOUTS}
    assert files.keys() == rows.keys()
    for name, row in rows.items():
        text = files[name].read_text(encoding="utf-8")
        assert yaml.safe_load(text) == {"overrides": site_keys(*row)}
        assert text.startswith("# @package _global_")


@pytest.mark.parametrize("post_training", [False, True])
@pytest.mark.parametrize("name", ["diffusion_7b_text2world", "diffusion_14b_video2world"])
def test_a_recipe_has_the_row_of_its_machines(name: str, post_training: bool) -> None:
    recipe = get_recipe(name, post_training)
    strategy, network = recipe.trainer.strategy, recipe.model.config
    num_gpus = recipe.trainer.num_nodes * recipe.trainer.devices
    split = layout_for(name.split("_")[1], num_gpus)
    assert strategy.tensor_model_parallel_size == split.tp
    assert strategy.context_parallel_size == split.cp
    assert (strategy.fsdp == "megatron") == split.fsdp
    assert (network.recompute_num_layers or 0) == split.recomputed
    assert recipe.trainer.devices == PER_NODE


@pytest.mark.parametrize(("size", "num_gpus", "memory_gb"), LAYOUTS)
def test_every_row_passes_a_dry_run(
    run_cli: Callable[..., Any], size: str, num_gpus: int, memory_gb: int
) -> None:
    words = ["--factory", f"diffusion_{size}_video2world", "--dryrun"]
    ran = run_cli("pretrain", *words, "--conf", f"layout={size}_{num_gpus}x{memory_gb}")
    assert ran.code == Exit.DONE, ran.err
    trainer = yaml.safe_load(ran.out)["trainer"]
    split = LAYOUTS[size, num_gpus, memory_gb]
    assert trainer["strategy"]["context_parallel_size"] == split.cp
    assert trainer["num_nodes"] * trainer["devices"] == num_gpus
