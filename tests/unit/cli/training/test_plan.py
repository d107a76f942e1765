"""``nemo-cosmos plan``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.cli.training import plan
from nemo_cosmos.models.diffusion.presets import DIFFUSION, count_parameters
from nemo_cosmos.planning import recipe as _  # noqa: F401 - NeMo, before output is captured
from nemo_cosmos.planning.layout import RECOMPUTE_MODES, ParallelLayout
from nemo_cosmos.testing.tiny import Clips, write_latents, write_world
from recipes.overrides import apply_overrides
from recipes.registry import RECIPES, get_recipe

README = Path(__file__).parents[4] / "README.md"


@pytest.fixture
def planned(run_cli: Callable[..., Any]) -> Callable[..., Any]:
    """The JSON object of ``nemo-cosmos plan``."""

    def call(recipe: str, gpus: int, *words: object) -> Any:
        return run_cli("plan", "--factory", recipe, "--gpus", gpus, "--json", *words).json

    return call


def test_14b_on_eight_machines(planned: Callable[..., Any]) -> None:
    found = planned("diffusion_14b_text2world", 64)
    assert found["parameters"] == count_parameters(DIFFUSION["diffusion_14b_text2world"])
    assert found["tokens_per_sample"] == 56_320
    assert found["model_state_gb_total"] == pytest.approx(280, rel=0.05)  # the paper's figure
    assert found["paper_accounting"]["activation_gb"] == pytest.approx(310, rel=0.01)
    assert found["memory_gb_per_gpu"]["total"] < 80
    assert found["activation_gb_per_gpu"] == found["memory_gb_per_gpu"]["activations"]
    forward = 64 * found["forward_flops_per_sample"]
    assert 3 * forward <= found["flops_per_step"] <= 4 * forward
    layout = found["layout"]
    sizes = ("tensor_model", "context", "pipeline_model", "data")
    product = 1
    for size in sizes:
        product *= layout[f"{size}_parallel_size"]
    assert product == 64


@pytest.mark.parametrize("recipe", [name for name in RECIPES if "nano" in name])
def test_every_nano_recipe_fits_one_gpu(recipe: str, planned: Callable[..., Any]) -> None:
    found = planned(recipe, 1)
    assert found["memory_gb_per_gpu"]["total"] < 10


def test_values_of_the_recipe_count(planned: Callable[..., Any]) -> None:
    size = ["--num-frames", 57, "--height", 512, "--width", 640]
    small = planned("diffusion_7b_video2world", 64, *size)
    assert small["latent_thw"] == [8, 64, 80]
    fewer = planned("diffusion_7b_video2world", 64, "model.config.num_layers=14")
    assert fewer["parameters"] < small["parameters"]


def test_the_table(run_cli: Callable[..., Any]) -> None:
    shown = run_cli("plan", "--recipe", "diffusion_7b_action", "-n", 32).out  # the older name
    for word in ("optimizer", "activations", "fastest", "FLOP", "To use it", "bubble"):
        assert word in shown
    for word in ("other matrix products", "expected MFU", "products in FP8: trainer.fp8=hybrid"):
        assert word in shown
    assert "76,789,472 parameters" in run_cli("plan", "-f", "tokenizer_ci8x8", "-n", 8).out


@pytest.mark.filterwarnings("ignore:If you are using transformer_engine")
@pytest.mark.parametrize("mode", RECOMPUTE_MODES)
@pytest.mark.parametrize("name", ["diffusion_7b_text2world", "diffusion_nano_text2world"])
def test_training_takes_the_keys_of_a_layout(name: str, mode: str) -> None:
    layout = ParallelLayout(
        tp=2, cp=2, pp=2, dp=2, fsdp=False, recompute=mode, num_micro_batches=32
    )
    words = [f"{key}={plan._word(value)}" for key, value in layout.overrides(8).items()]
    recipe = apply_overrides(get_recipe(name, False), words)
    trainer, model = fdl.build(recipe.trainer), fdl.build(recipe.model)
    trainer.strategy.connect(model)
    assert model.config.context_parallel_size == 2
    assert model.config.sequence_parallel
    assert (trainer.num_nodes, trainer.num_devices) == (2, 8)


def test_the_json_form_says_where_the_time_goes(planned: Callable[..., Any]) -> None:
    found = planned("diffusion_7b_text2world", 8, "--gpu", "h200", "model.config.fused=plain")
    assert found["gpu_memory_gb"] == 141, "what this kind has"
    assert found["elementwise"] == "plain"
    assert sum(found["step_time_parts_s"].values()) == pytest.approx(found["step_time_s"])
    assert sum(found["step_time_shares"].values()) == pytest.approx(1)
    seconds = found["changes_from"]["step_time_s"]
    for change in found["changes"]:
        seconds -= change["gain_s"]
        assert change["step_time_s"] == pytest.approx(seconds)
    assert {"model.config.fused": "auto"} in [change["overrides"] for change in found["changes"]]


def test_the_command_to_use_is_one_that_the_recipe_has(planned: Callable[..., Any]) -> None:
    assert planned("diffusion_7b_text2world", 8)["command"] == "pretrain"
    assert planned("diffusion_7b_action", 8)["command"] == "finetune"


@pytest.mark.parametrize(
    ("recipe", "gpus"), [("diffusion_14b_action", 8), ("diffusion_14b_instruction", 32)]
)
def test_the_large_recipes_of_robots_fit(
    recipe: str, gpus: int, planned: Callable[..., Any]
) -> None:
    found = planned(recipe, gpus, "--gpu", "h200")
    assert found["command"] == "finetune" and found["memory_gb_per_gpu"]["total"] < 141


def test_virtual_stages_of_the_recipe_stay(planned: Callable[..., Any]) -> None:
    words = ["trainer.strategy.virtual_pipeline_model_parallel_size=2"]
    found = planned("diffusion_7b_text2world", 64, *words)
    assert found["layout"]["pipeline_model_parallel_size"] in (2, 7)


def test_the_recipes_are_listed(run_cli: Callable[..., Any]) -> None:
    ran = run_cli("plan", "--list")
    assert ran.code == Exit.DONE and "diffusion_7b_action" in ran.out


def test_only_splits_whose_numbers_divide_are_checked(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    from nemo_cosmos.planning import layout

    before = layout.is_trainable
    monkeypatch.setattr(layout, "is_trainable", lambda *a: checked.append(a) or before(*a))
    words = ["-f", "diffusion_7b_text2world", "-n", 720_720, "data.global_batch_size=720720"]
    assert run_cli("plan", *words).code == Exit.DONE
    assert len(checked) < 1000, "of 15,000 splits of so many GPUs"


@pytest.mark.parametrize(
    ("recipe", "gpus", "gpu", "what"),
    [
        ("diffusion_7b_action", 8, "H200", "post-training 7B on actions"),
        ("diffusion_7b_video2world", 64, "H100", "training 7B Video2World"),
        ("diffusion_14b_text2world", 64, "H100", "training 14B Text2World"),
    ],
)
def test_the_rows_of_the_readme_are_the_planners(
    recipe: str, gpus: int, gpu: str, what: str, planned: Callable[..., Any]
) -> None:
    found = planned(recipe, gpus, "--gpu", gpu)
    row = (
        f"| {what}, batch {found['global_batch_size']} | {gpus} x {gpu}, "
        f"{plan.describe(found['layout'])}, {found['memory_gb_per_gpu']['total']:.1f} GB each "
        f"| {found['step_time_s']:.1f} s a step | `nemo-cosmos plan`, a model |"
    )
    assert row in README.read_text(encoding="utf-8")


def test_one_thing_is_no_several(run_cli: Callable[..., Any]) -> None:
    shown = " ".join(run_cli("plan", "-f", "diffusion_7b_video2world", "-n", 64).out.split())
    assert "DP8, recomputation of 1 layer instead of" in shown
    assert "1 layers" not in shown
    said = run_cli("plan", "-f", "diffusion_14b_text2world", "-n", 1).err
    assert "layouts of 1 GPU," in said
    said = run_cli("plan", "-f", "tokenizer_cv8x8x8", "-n", 3, "data.global_batch_size=1").err
    assert "over 3 GPUs. Use 1 GPU, or" in said


@pytest.mark.parametrize(
    ("gpus", "words", "reason"),
    [
        (7, [], "TP2 x CP4 x PP1, does not divide over 7 GPUs: it takes a multiple of 8."),
        (64, ["data.global_batch_size=4"], "makes 8 data-parallel ranks of 64 GPUs, over which"),
        (64, ["trainer.strategy.tensor_model_parallel_size=64"], "is not legal: "),
    ],
)
def test_a_recipes_layout_that_is_left_out_is_said(
    gpus: int, words: list[str], reason: str, run_cli: Callable[..., Any]
) -> None:
    call = ["plan", "-f", "diffusion_7b_text2world", "-n", gpus, "--gpu", "b200"]
    if "is not legal" in reason:
        words = [*words, "trainer.strategy.context_parallel_size=1"]
    call += words
    shown = run_cli(*call)
    assert reason in " ".join(shown.out.split()), shown.err
    found = run_cli(*call, "--json").json
    assert found["recipe_layout"] is None and reason in found["recipe_layout_problem"]


@pytest.mark.parametrize("recipe", ["diffusion_nano_text2world", "tokenizer_ci8x8"])
def test_machines_that_the_plan_would_drop_are_refused(
    recipe: str, run_cli: Callable[..., Any]
) -> None:
    call = ["plan", "-f", recipe, "-n", 8, "--json"]
    for words in (["trainer.devices=3"], ["trainer.num_nodes=2"], ["trainer.devices=16"]):
        ran = run_cli(*call, *words)
        assert ran.code == Exit.WRONG_USE
        assert f"{words[0]} is not what --gpus 8 plans for: trainer.num_nodes=1" in ran.err
    assert run_cli(*call, "trainer.devices=8", "trainer.num_nodes=1").code == Exit.DONE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-f", "diffusion_14b", "-n", 64], "no recipe 'diffusion_14b'"),
        (["-f", "diffusion_14b", "-n", 64], "'diffusion_14b_text2world'"),
        (["-f", "diffusion_14b", "-n", 64], "'nemo-cosmos plan --list'"),
        (["-f", "diffusion_7b_text2world", "-n", 10**18], "it must be 1 to 10,000,000"),
        (["-f", "tokenizer_cv8x8x8", "-n", 10**18], "it must be 1 to 10,000,000"),
        (["-f", "diffusion_7b_text2world", "-n", 8, "--num-frames", 0], "--num-frames is 0"),
        (["-f", "diffusion_14b_text2world", "-n", 1], "What would"),
        (["-f", "diffusion_7b_text2world", "-n", 64, "--num-frames", 120], "120"),
        (["-f", "diffusion_7b_text2world", "-n", 8, "data.micro_batch_size=0"], "1 or more"),
        (["-f", "tokenizer_cv8x8x8", "-n", 8, "data.global_batch_size=0"], "1 or more"),
        (["-f", "diffusion_7b_text2world", "-n", 8, "model.config.num_layers=0"], "num_layers=0"),
    ],
)
def test_what_is_wrong_is_said(
    run_cli: Callable[..., Any], words: list[object], message: str
) -> None:
    ran = run_cli("plan", *words)
    assert ran.code == Exit.WRONG_USE and message in ran.err


def test_data_and_weights_that_do_not_belong_are_refused(
    run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    call = ["plan", "-f", "diffusion_nano_video2world", "-n", 1]
    data = write_latents(tmp_path / "latents", Clips(num_samples=2, text_dim=64))
    ran = run_cli(*call, f"data.path={data}")
    assert ran.code == Exit.WRONG_USE and "text_channels=512" in ran.err
    curated = tmp_path / "latents" / "part_000000"
    assert (
        "Tokenize curated shards first" in run_cli(*call, f"data.path={curated.parent.parent}").err
    )
    right = write_latents(tmp_path / "right", Clips(num_samples=2, text_dim=512))
    assert run_cli(*call, f"data.path={right}").code == Exit.DONE
    world = write_world(tmp_path / "world", num_layers=3, crossattn_emb_channels=512)
    words = ["--post-training", f"resume.restore_config.path={world}"]
    assert "num_layers=6" in run_cli(*call, *words, "model.config.num_layers=6").err
    size = ["--num-frames", 9, "--height", 32, "--width", 32]
    ran = run_cli(*call, *words, *size, "--json")
    assert ran.code == Exit.DONE, ran.err
    planned = ran.json
    assert planned["parameters"] < run_cli(*call, "--json").json["parameters"] / 4
