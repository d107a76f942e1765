"""Which variables each layout gets, and that the user's own stay."""

from __future__ import annotations

import os

import pytest

from nemo_cosmos.platform.gpu_environment import (
    GpuLayout,
    describe_environment,
    gpu_environment,
    gpu_variables,
    missing_variables,
)

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"
EVERYWHERE = {"PYTORCH_CUDA_ALLOC_CONF", "NVTE_FUSED_ATTN"}
WITH_EXCHANGES = {
    "NVTE_FWD_LAYERNORM_SM_MARGIN",
    "NVTE_BWD_LAYERNORM_SM_MARGIN",
    "TORCH_NCCL_HIGH_PRIORITY",
    "NCCL_NVLS_ENABLE",
}


@pytest.mark.parametrize(
    ("layout", "name", "expected"),
    [
        (GpuLayout(), "one GPU", EVERYWHERE),
        (GpuLayout(8), "8 GPUs", EVERYWHERE | WITH_EXCHANGES),
        (GpuLayout(8, pipeline=2), "PP2 on 8 GPUs", EVERYWHERE | WITH_EXCHANGES),
        (GpuLayout(8, tensor=8), "TP8 on 8 GPUs", EVERYWHERE | WITH_EXCHANGES | {QUEUES}),
        (GpuLayout(8, context=4), "CP4 on 8 GPUs", EVERYWHERE | WITH_EXCHANGES | {QUEUES}),
        (
            GpuLayout(64, tensor=2, context=4),
            "TP2 CP4 on 64 GPUs",
            EVERYWHERE | WITH_EXCHANGES | {QUEUES},
        ),
        (GpuLayout(8, fsdp=True), "FSDP on 8 GPUs", EVERYWHERE | WITH_EXCHANGES),
        (
            GpuLayout(16, context=2, fsdp=True),
            "CP2 FSDP on 16 GPUs",
            EVERYWHERE | WITH_EXCHANGES,
        ),
    ],
)
def test_each_layout_has_its_variables(layout: GpuLayout, name: str, expected: set[str]) -> None:
    assert set(missing_variables(layout, {})) == expected
    assert describe_environment(layout, {})[0] == f"Environment for {name}:"
    assert all(variable.reason for variable in gpu_variables(layout))


def test_what_the_user_has_set_stays() -> None:
    layout = GpuLayout(8, tensor=2)
    own = {QUEUES: "32", "PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}
    added = missing_variables(layout, own)
    assert added.keys() & {QUEUES, "PYTORCH_CUDA_ALLOC_CONF"} == set()
    shown = "\n".join(describe_environment(layout, own))
    assert f"{QUEUES}=32  (set by you; {QUEUES}=1 is usual" in shown
    assert "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512  (set by you" in shown


def test_one_queue_is_named_where_it_hurts() -> None:
    shown = "\n".join(describe_environment(GpuLayout(8, fsdp=True), {QUEUES: "1"}))
    assert f"{QUEUES}=1  (set by you; {QUEUES} unset is usual" in shown


def test_a_process_has_them_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUEUES, raising=False)
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "1")
    with gpu_environment(GpuLayout(8, tensor=8)):
        assert (os.environ[QUEUES], os.environ["NCCL_NVLS_ENABLE"]) == ("1", "1")
    assert QUEUES not in os.environ and os.environ["NCCL_NVLS_ENABLE"] == "1"
