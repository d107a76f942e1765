"""The terms of the cost model against arithmetic by hand, and what changes bring."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from nemo_cosmos.models.common.costs import Elementwise, Precision
from nemo_cosmos.models.diffusion.costs import DiffusionWorkload
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.planning.cost import HIDDEN_COST, HIDING, Overlap, StepTime, step_time
from nemo_cosmos.planning.hardware import GB, GPUS, LAUNCH_S, get_gpu
from nemo_cosmos.planning.layout import ParallelLayout, is_trainable
from nemo_cosmos.planning.memory import memory
from nemo_cosmos.planning.planner import make_plan

HALF = Precision.of("bf16-mixed", grad_reduce_in_fp32=False, ema=True)
H100 = get_gpu("h100")
NUM_SAMPLES = 64
TP8 = ParallelLayout(8, 1, 1, 1, False, "full", NUM_SAMPLES)
TP8_KEPT = replace(TP8, recompute="none")
TP2_CP4 = replace(TP8_KEPT, tp=2, cp=4)


class AsWritten(DiffusionWorkload):
    """The layer with 80 passes forward and 130 backward: the written gradients, run on CUDA."""

    @property
    def elementwise(self) -> Elementwise:
        return Elementwise(80, 130, forward_kernels=87, backward_kernels=132)


def make(kind: type[DiffusionWorkload] = DiffusionWorkload) -> DiffusionWorkload:
    config = DIFFUSION["diffusion_7b_text2world"].config()
    return kind(config, (16, 88, 160), 512, 1, NUM_SAMPLES, HALF)


def sample_s(workload: DiffusionWorkload, layout: ParallelLayout, *overlap: bool) -> float:
    return step_time(workload, layout, H100, Overlap(*overlap)).total_s / NUM_SAMPLES


def mfu(seconds: float, workload: DiffusionWorkload) -> float:
    return workload.flops.training / seconds / 8 / H100.bf16_flops


def test_a_sample_of_the_7b_model_by_hand() -> None:
    """2.9 s and 28 % with eight tensor-parallel ranks and full recomputation, on 56,320 tokens."""
    time = step_time(make(AsWritten), TP8, H100)
    by_hand = {
        "attention_s": 1.46e15 / 8 * (2 / 600e12 + 2.5 / 480e12),
        "matmul_s": 4 * 0.75e15 / 8 / 690e12,
        "tensor_parallel_s": 28 * 21 * 461e6 * 7 / 8 / 350e9,
        "elementwise_s": 28 * (2 * 80 + 130) * 461e6 / 8 / 3.0e12,
    }
    for name, seconds in by_hand.items():
        assert getattr(time, name) / NUM_SAMPLES == pytest.approx(seconds, rel=0.03), name
    assert time.total_s / NUM_SAMPLES == pytest.approx(2.9, rel=0.02)
    assert mfu(time.total_s / NUM_SAMPLES, make()) == pytest.approx(0.28, rel=0.03)


def test_five_changes_one_after_another() -> None:
    before, now = make(AsWritten), make()
    steps = {
        "no recomputation": (sample_s(before, TP8_KEPT), 0.37),
        "or communication behind products": (sample_s(before, TP8_KEPT, False, True), 0.41),
        "TP2 x CP4": (sample_s(before, TP2_CP4), 0.45),
        "compiled elementwise steps": (sample_s(now, TP2_CP4), 0.48),
        "FP8": (sample_s(now.variant(fp8=True), TP2_CP4), 0.51),
    }
    for name, (seconds, expected) in steps.items():
        assert mfu(seconds, now) == pytest.approx(expected, rel=0.035), name
    assert sample_s(now.variant(fused=False), TP2_CP4) > sample_s(before, TP2_CP4)


def test_recomputing_some_layers_is_between_none_and_all() -> None:
    workload = make()
    none, half, full = (
        step_time(workload, replace(TP8, recompute=mode, num_recomputed=14), H100)
        for mode in ("none", "block", "full")
    )
    for part in ("attention_s", "matmul_s", "elementwise_s", "tensor_parallel_s"):
        mean = (getattr(none, part) + getattr(full, part)) / 2
        assert getattr(half, part) == pytest.approx(mean)


def test_a_ring_hides_behind_attention_and_all_to_all_does_not() -> None:
    workload = make()
    ring, exchange = (
        step_time(workload.variant(context_kind=kind), TP2_CP4, H100).context_parallel_s
        for kind in ("p2p", "a2a")
    )
    assert 0 < ring < exchange / 2
    slow = replace(H100, nvlink_bytes_per_s=H100.nvlink_bytes_per_s / 1000)
    local = 28 * 461e6 / 8
    exposed = 3 * 3 * 2 * local / slow.link_bytes_per_s(8)
    time = step_time(workload, TP2_CP4, slow)
    hidden = 3 / 4 * HIDING * time.attention_s / NUM_SAMPLES
    assert time.context_parallel_s / NUM_SAMPLES == pytest.approx(
        exposed - (1 - HIDDEN_COST) * hidden, rel=0.01
    )


def test_gradients_hide_behind_the_backward_pass() -> None:
    workload, layout = make(), replace(TP2_CP4, dp=8, num_micro_batches=8)
    shown, hidden = (
        step_time(workload, layout, H100, Overlap(data=data)).data_parallel_s
        for data in (False, True)
    )
    assert hidden == pytest.approx(HIDDEN_COST * shown)


def test_small_steps_wait_for_the_host() -> None:
    tiny = DiffusionWorkload(
        DIFFUSION["diffusion_nano_text2world"].config(), (3, 12, 16), 32, 1, 1, HALF
    )
    alone = ParallelLayout(1, 1, 1, 1, False, "none", 1)
    compiled, plain = (
        step_time(workload, alone, H100) for workload in (tiny, tiny.variant(fused=False))
    )
    assert compiled.host_s > compiled.total_s / 2
    assert plain.host_s > compiled.host_s + tiny.num_layers * 100 * LAUNCH_S


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_spends_most_of_a_long_step_in_attention(name: str) -> None:
    time = step_time(make(), TP2_CP4, get_gpu(name))
    parts = asdict(time)
    assert max(parts, key=parts.__getitem__) == "attention_s"
    assert set(parts) == {field.name for field in StepTime.__dataclass_fields__.values()}
    fp8 = step_time(make().variant(fp8=True), TP2_CP4, get_gpu(name))
    assert (fp8.total_s < time.total_s) == (get_gpu(name).fp8_flops > 0)


def test_changes_begin_with_recomputation_and_add_up() -> None:
    workload = make().variant(fused=False)
    plan = make_plan(workload, H100, 8, 80 * GB, TP8)
    assert plan.configured is not None
    words = [change.words for change in plan.changes]
    assert words[0].startswith(("no recomputation", "recomputation of"))
    assert "instead of TP8 x CP1" in words[1]
    assert any("compiled" in each for each in words) and "products in FP8" in words
    seconds = plan.configured.time.total_s
    for change in plan.changes:
        assert change.gain_s > 0 and change.after.fits(80 * GB)
        seconds -= change.gain_s
        assert change.after.time.total_s == pytest.approx(seconds)
    fp8 = next(change for change in plan.changes if change.words == "products in FP8")
    assert fp8.overrides == {"trainer.fp8": "hybrid"}
    assert all("FP8" not in change.words for change in make_plan(
        workload, get_gpu("a100"), 8, 80 * GB, TP8
    ).changes)  # fmt: skip


def test_changes_begin_with_a_layout_that_fits() -> None:
    plan = make_plan(make(), H100, 8, 60 * GB, TP2_CP4, fsdp=True)
    assert plan.configured is not None and not plan.configured.fits(60 * GB)
    assert plan.start == plan.best and "products in FP8" in [one.words for one in plan.changes]


def test_as_few_layers_are_recomputed_as_fit() -> None:
    plan = make_plan(make(), H100, 8, 70 * GB)
    one = next(c for c in (plan.best, *plan.others) if c.layout.recompute == "block")
    fewer = replace(one.layout, num_recomputed=one.layout.num_recomputed - 1)
    assert memory(make(), one.layout).total <= 0.94 * 70 * GB < memory(make(), fewer).total
    keys = one.layout.overrides(8)
    assert keys["model.config.recompute_method"] == "block"
    assert keys["model.config.recompute_num_layers"] == one.layout.num_recomputed


def test_fp8_is_legal_where_its_products_are() -> None:
    """512 tokens of text over eight ranks are 64 rows, which blocks of 128 do not take."""

    def legal(recipe: str, tp: int) -> bool:
        workload = make()
        precision = replace(HALF, fp8=True, fp8_recipe=recipe)
        return is_trainable(replace(workload, precision=precision), replace(TP8, tp=tp).split)

    assert legal("tensorwise", 8) and legal("blockwise", 4) and not legal("blockwise", 8)
