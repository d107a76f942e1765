"""Every layout gives one process's loss and gradients, through NeMo's trainer, for three steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from nemo_cosmos.testing.processes import DistributedTestError, ProcessPool
from tests.distributed.test_resharding import train as train_recipe
from tests.distributed.test_resharding import write_data
from tests.distributed.training_case import (
    ADAPTED,
    CODE_PACKS,
    MIXED,
    PACKS,
    STEERED,
    STEPS,
    TASKS,
    Layout,
    Report,
    put_together,
    train,
    write_weights,
)

RELATIVE = 1e-4
RECOMPUTE_FULL = {
    "recompute_granularity": "full",
    "recompute_method": "uniform",
    "recompute_num_layers": 1,
}
TWO = {
    "tp": Layout(tensor_model_parallel_size=2),
    "tp_sp": Layout(tensor_model_parallel_size=2, sequence_parallel=True),
    "cp_a2a": Layout(context_parallel_size=2, config={"cp_comm_type": "a2a"}),
    "cp_p2p": Layout(context_parallel_size=2, config={"cp_comm_type": "p2p"}),
    "pp": Layout(pipeline_model_parallel_size=2),
    "vpp": Layout(pipeline_model_parallel_size=2, virtual_pipeline_model_parallel_size=2),
    "dp": Layout(),
    "dp_overlap": Layout(overlap=True),
    "fsdp": Layout(fsdp="megatron"),
    "recompute_full": Layout(config=RECOMPUTE_FULL),
    "recompute_selective": Layout(config={"recompute_granularity": "selective"}),
    "tp_sp_recompute": Layout(
        tensor_model_parallel_size=2, sequence_parallel=True, config=RECOMPUTE_FULL
    ),
}
WITH_CODES = (
    *((name, "codes_text") for name in ("tp_sp", "cp_a2a", "cp_p2p", "pp", "vpp", "fsdp")),
    *((name, "codes") for name in ("cp_p2p", "tp_sp_recompute")),
    *((name, "codes_steered") for name in ("tp_sp", "cp_p2p", "pp")),
    ("tp_sp", CODE_PACKS),
)
WITH_PACKS = ("tp_sp", "pp", "dp", "dp_overlap", "fsdp")
WITH_VIEWS = (
    ("tp_sp", "views_text"),
    ("cp_a2a", "views_text"),
    ("cp_p2p", "views"),
    ("pp", "views"),
    ("fsdp", "views"),
)
STEERABLE = ("tp_sp", "cp_p2p", "pp", "vpp", "dp_overlap", "fsdp")
WITH_ADAPTERS = ("tp", "tp_sp_recompute", "pp", "dp_overlap", "fsdp")
FOUR = {
    "tp_cp": Layout(tensor_model_parallel_size=2, sequence_parallel=True, context_parallel_size=2),
    "tp_pp": Layout(
        tensor_model_parallel_size=2, sequence_parallel=True, pipeline_model_parallel_size=2
    ),
    "tp_dp": Layout(tensor_model_parallel_size=2),
    "pp_dp": Layout(pipeline_model_parallel_size=2),
    "fsdp_tp": Layout(tensor_model_parallel_size=2, sequence_parallel=True, fsdp="megatron"),
    "fsdp_cp": Layout(context_parallel_size=2, config=RECOMPUTE_FULL, fsdp="megatron"),
    "fsdp_hybrid": Layout(num_distributed_optimizer_instances=2, fsdp="megatron"),
}

Expected = Callable[[str], tuple[str, Report]]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    """By task, the folder of the initial weights and what one process reports."""
    folder = tmp_path_factory.mktemp("one_process")
    preload = ("nemo_cosmos.models.diffusion.model", "nemo_cosmos.training.trainer")
    with ProcessPool(1, preload=preload) as pool:

        @cache
        def expected(task: str) -> tuple[str, Report]:
            weights = str(folder / task)
            pool.run(write_weights, task, weights)
            (report,) = pool.run(train, task, Layout(), weights, str(folder))
            return weights, report

        yield expected


def compare(found: list[Report], expected: Report) -> None:
    assert len(expected.losses) == len(expected.gradients) == STEPS
    # NeMo tells the loss to the first rank; others of a pipeline log zero.
    assert found[0].losses == pytest.approx(expected.losses, rel=RELATIVE)
    for report in found:
        assert report.norms == pytest.approx(expected.norms, rel=RELATIVE)
    for step in range(STEPS):
        whole = put_together([report.gradients[step] for report in found])
        check_equal(whole, put_together([expected.gradients[step]]), f"gradient in step {step}")
    check_equal(
        put_together([report.weights for report in found]),
        put_together([expected.weights]),
        "weight after training",
    )
    check_equal(found[0].exported, expected.exported, "exported weight")
    assert not any(report.exported for report in found[1:]), "the first rank alone writes"
    for report in found:
        for sampled, wanted in zip(report.sampled, expected.sampled, strict=False):
            check_equal({"sample": sampled}, {"sample": wanted}, "drawn")


def check_equal(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str
) -> None:
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        error = torch.linalg.vector_norm(found[name] - wanted)
        size = torch.linalg.vector_norm(wanted)
        assert size > 0, f"{name} has no {what}: it is not tested"
        assert error <= RELATIVE * size, f"{what} of {name} differs by {error / size:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", TWO)
def test_two_processes(
    name: str, task: str, two_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    weights, expected = one_process(task)
    found = two_processes.run(train, task, TWO[name], weights, str(tmp_path))
    compare(found, expected)
    if TWO[name].fsdp:
        whole = sum(weight.numel() for weight in found[0].exported.values())
        held = [sum(piece.value.numel() for piece in one.weights) for one in found]
        assert sum(held) == whole and max(held) < 0.6 * whole, "each process holds its rows alone"
    can_sample = TWO[name].virtual_pipeline_model_parallel_size is None
    assert all(bool(one.sampled) == bool(expected.sampled and can_sample) for one in found)


@pytest.mark.slow
def test_tokens_that_do_not_divide_are_refused_before_training(
    two_processes: ProcessPool, tmp_path: Path
) -> None:
    write_data(tmp_path / "data", size=16)
    with pytest.raises(DistributedTestError, match=r"3 tokens \(3 x 1 x 1\).*one of \[1, 3\]"):
        two_processes.run(train_recipe, str(tmp_path / "run"), 2, {"context_parallel_size": 2}, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PACKS)
def test_packs_on_two_processes(
    name: str, two_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    weights, expected = one_process(PACKS)
    compare(two_processes.run(train, PACKS, TWO[name], weights, str(tmp_path)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEERABLE)
def test_actions_on_two_processes(
    name: str, two_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    weights, expected = one_process(STEERED)
    compare(two_processes.run(train, STEERED, TWO[name], weights, str(tmp_path)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), WITH_VIEWS)
def test_several_cameras_on_two_processes(
    name: str, task: str, two_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    """A process holds whole views, or begins in the middle of one."""
    weights, expected = one_process(task)
    found = two_processes.run(train, task, TWO[name], weights, str(tmp_path))
    compare(found, expected)
    assert expected.sampled and all(one.sampled for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_ADAPTERS)
def test_adapters_on_two_processes(
    name: str, two_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    """Gradients of adapters and controls, and no others; the base stays as it is."""
    weights, expected = one_process(ADAPTED)
    assert all(
        "adapter" in piece.name or piece.name.startswith("controls.")
        for piece in expected.gradients[0]
    )
    compare(two_processes.run(train, ADAPTED, TWO[name], weights, str(tmp_path)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), WITH_CODES)
def test_codes_on_two_processes(
    name: str, task: str, two_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    weights, expected = one_process(task)
    compare(two_processes.run(train, task, TWO[name], weights, str(tmp_path)), expected)


@pytest.mark.slow
def test_codes_on_four_processes(
    four_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    weights, expected = one_process("codes_text")
    found = four_processes.run(train, "codes_text", FOUR["tp_cp"], weights, str(tmp_path))
    compare(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUR)
def test_four_processes(
    name: str, four_processes: ProcessPool, one_process: Expected, tmp_path: Path
) -> None:
    weights, expected = one_process(MIXED)
    compare(four_processes.run(train, MIXED, FOUR[name], weights, str(tmp_path)), expected)
