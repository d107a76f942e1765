"""``nemo-cosmos plan``."""

from __future__ import annotations

import json
from typing import Any

import fiddle as fdl
import pytest

from nemo_cosmos.cli import plan
from nemo_cosmos.errors import ConfigError, WrongFrameCountError
from nemo_cosmos.models.diffusion.presets import DIFFUSION, count_parameters
from nemo_cosmos.planning import recipe as _  # noqa: F401 - NeMo, before output is captured
from nemo_cosmos.planning.layout import RECOMPUTE_MODES, Layout
from recipes.overrides import apply_overrides
from recipes.registry import RECIPES, get_recipe


def told(capsys: pytest.CaptureFixture[str], recipe: str, gpus: int, **options: Any) -> Any:
    plan.command(recipe, gpus, as_json=True, **options)
    return json.loads(capsys.readouterr().out)


def test_14b_on_eight_machines(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "diffusion_14b_text2world", 64)
    assert found["parameters"] == count_parameters(DIFFUSION["diffusion_14b_text2world"])
    assert found["tokens_per_sample"] == 56_320
    assert found["model_state_gb_total"] == pytest.approx(280, rel=0.05)  # the paper's figure
    assert found["paper_accounting"]["activation_gb"] == pytest.approx(310, rel=0.01)
    assert found["memory_gb_per_gpu"]["total"] < 80
    assert found["activation_gb_per_gpu"] == found["memory_gb_per_gpu"]["activations"]
    assert found["flops_per_step"] in (
        64 * 3 * found["forward_flops_per_sample"],
        64 * 4 * found["forward_flops_per_sample"],
    )
    layout = found["layout"]
    sizes = ("tensor_model", "context", "pipeline_model", "data")
    product = 1
    for size in sizes:
        product *= layout[f"{size}_parallel_size"]
    assert product == 64


@pytest.mark.parametrize("recipe", [name for name in RECIPES if "nano" in name])
def test_every_nano_recipe_fits_one_gpu(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, recipe, 1)
    assert found["memory_gb_per_gpu"]["total"] < 10


def test_values_of_the_recipe_count(capsys: pytest.CaptureFixture[str]) -> None:
    small = told(capsys, "diffusion_7b_video2world", 64, num_frames=57, height=512, width=640)
    assert small["latent_thw"] == [8, 64, 80]
    fewer = told(capsys, "diffusion_7b_video2world", 64, overrides=["model.config.num_layers=14"])
    assert fewer["parameters"] < small["parameters"]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    plan.command("diffusion_7b_action", 32)
    shown = capsys.readouterr().out
    for word in ("optimizer", "activations", "fastest", "FLOP", "To use it", "bubble"):
        assert word in shown
    plan.command("tokenizer_ci8x8", 8)
    assert "76,789,472 parameters" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:If you are using transformer_engine")
@pytest.mark.parametrize("mode", RECOMPUTE_MODES)
@pytest.mark.parametrize("name", ["diffusion_7b_text2world", "diffusion_nano_text2world"])
def test_training_takes_the_keys_of_a_layout(name: str, mode: str) -> None:
    layout = Layout(tp=2, cp=2, pp=2, dp=2, fsdp=False, recompute=mode, num_micro_batches=32)
    words = [f"{key}={plan._word(value)}" for key, value in layout.overrides(8).items()]
    recipe = apply_overrides(get_recipe(name, False), words)
    trainer, model = fdl.build(recipe.trainer), fdl.build(recipe.model)
    trainer.strategy.connect(model)
    assert model.config.context_parallel_size == 2
    assert model.config.sequence_parallel
    assert (trainer.num_nodes, trainer.num_devices) == (2, 8)


def test_the_command_to_use_is_one_that_the_recipe_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "diffusion_7b_text2world", 8)["command"] == "pretrain"
    assert told(capsys, "diffusion_7b_action", 8)["command"] == "finetune"


def test_virtual_stages_of_the_recipe_stay(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trainer.strategy.virtual_pipeline_model_parallel_size=2"]
    found = told(capsys, "diffusion_7b_text2world", 64, overrides=words)
    assert found["layout"]["pipeline_model_parallel_size"] in (2, 7)


def test_what_is_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'diffusion_14b'.*'diffusion_14b_text2world'"):
        plan.command("diffusion_14b", 64)
    with pytest.raises(ConfigError, match="What would"):
        plan.command("diffusion_14b_text2world", 1)
    with pytest.raises(WrongFrameCountError, match="120"):
        plan.command("diffusion_7b_text2world", 64, num_frames=120)
