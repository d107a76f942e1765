"""The recipes, their registry, and the words that change them."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys

import fiddle as fdl
import nemo_run as run
import pytest
import torch

from nemo_cosmos import api
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.presets import AUTOREGRESSIVE
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.training.checks import check_batches, num_copies
from recipes import diffusion, robotics, tokenizer
from recipes.config import Config, parameters
from recipes.overrides import apply_overrides
from recipes.registry import RECIPES, get_recipe, require_recipe


@pytest.fixture
def recipe() -> run.Partial:
    return get_recipe("diffusion_7b_video2world", post_training=True)


def test_every_preset_has_a_recipe():
    assert set(DIFFUSION) | set(AUTOREGRESSIVE) | set(TOKENIZERS) <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_configures_its_task(name):
    tuned = get_recipe(name, post_training=True)
    assert fdl.get_callable(tuned) is api.finetune
    assert tuned.resume.restore_config.path == ""
    assert tuned.log.name == name
    if RECIPES[name].pretrains:
        assert fdl.get_callable(get_recipe(name)) is api.pretrain


@pytest.mark.parametrize("post_training", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_with_its_network(name, post_training):
    if not (post_training or RECIPES[name].pretrains):
        return
    recipe = get_recipe(name, post_training)
    recipe.data.path = "data"
    task = fdl.build(recipe)
    model, data, trainer = (task.keywords[part] for part in ("model", "data", "trainer"))
    check_batches(
        data.micro_batch_size,
        data.global_batch_size,
        num_copies(trainer.strategy, trainer.num_nodes * trainer.num_devices),
    )
    ensure_model_parallel()
    with torch.device("cpu" if "nano" in name else "meta"):
        model.configure_model()
    assert sum(weight.numel() for weight in model.parameters()) > 0


def test_nemo_arguments_place_a_run():
    made = diffusion.diffusion_7b_text2world(
        dir="/runs", name="mine", num_nodes=2, num_gpus_per_node=4, peft_scheme=None
    )
    assert (made.log.log_dir, made.log.name) == ("/runs", "mine")
    assert (made.trainer.num_nodes, made.trainer.devices) == (2, 4)
    assert made.trainer.strategy.context_parallel_size == 4, "the layout stays the recipe's"
    image = tokenizer.tokenizer_ci8x8("/runs", "image", post_training=True)
    assert (image.log.log_dir, image.log.name) == ("/runs", "image")
    assert list(inspect.signature(robotics.diffusion_nano_action).parameters) == [
        "dir",
        "name",
        "num_nodes",
        "num_gpus_per_node",
        "peft_scheme",
        "post_training",
    ]


def test_unknown_fields_are_refused(recipe):
    with pytest.raises(ConfigError, match=r"WorldTrainer has no field 'max_step'.*'max_steps'"):
        recipe.trainer.max_step = 5
    with pytest.raises(ConfigError, match=r"finetune has no field 'trainr'.*'trainer'"):
        recipe.trainr = None
    with pytest.raises(ConfigError, match=r"WorldStrategy has no field 'tensor_parallel'"):
        recipe.trainer.strategy.tensor_parallel = 2
    with pytest.raises(ConfigError, match=r"EMA has no field 'dacay'.*'decay'"):
        Config(type(fdl.build(recipe.trainer.callbacks[0])), dacay=0.5)
    copied = copy.deepcopy(recipe)
    copied.trainer.gradient_clip_val = 1.0  # a field of Lightning's trainer
    with pytest.raises(ConfigError, match="max_steps"):
        copied.trainer.max_step = 5


def test_published_numbers(recipe):
    assert recipe.optim.config.lr == pytest.approx(2**-14.3)
    assert recipe.trainer.max_steps == 2000
    assert recipe.log.ckpt.every_n_train_steps == 200
    large = get_recipe("diffusion_14b_text2world")
    assert large.optim.config.lr == 2**-16
    assert large.optim.config.weight_decay == 0.2
    assert large.optim.config.adam_eps == 1e-11
    assert large.model.process.edm.adjust_video_noise


def test_several_cameras_are_a_setting_of_the_recipe_of_one():
    for size in ("nano", "7b"):
        several = get_recipe(f"diffusion_{size}_multiview")
        assert "front" in several.model.config.view_slots and several.model.config.condition_mask
        assert several.model.process.views.max_given == 1
        assert several.model.process.views.name_dropout > 0
        text = get_recipe(f"diffusion_{size}_multiview_text2world")
        assert text.model.process.views.max_given == 0
        driving = get_recipe(f"diffusion_{size}_multiview_driving", post_training=True)
        assert driving.data.controls == ["driving"]
        assert [control.name for control in driving.model.controls] == ["driving"]
        maps = get_recipe(f"diffusion_{size}_multiview_layout", post_training=True)
        assert [control.name for control in maps.model.controls] == maps.data.controls == ["layout"]
        assert maps.model.process.conditioning.min_condition_latents == 0, "generate begins without"


@pytest.mark.parametrize("size", ["nano", "7b", "14b"])
def test_actions_enter_model_and_data(size):
    action = get_recipe(f"diffusion_{size}_action", post_training=True)
    assert [control.name for control in action.model.controls] == ["action"]
    assert action.model.preset == f"diffusion_{size}_video2world"
    assert action.model.tokenizer.temporal_factor == (4 if size == "nano" else 8)
    assert action.data.controls == ["action"] and action.log.name == f"diffusion_{size}_action"
    assert action.data.global_batch_size == (4 if size == "nano" else 8)


@pytest.mark.parametrize("size", ["nano", "7b", "14b"])
def test_an_instruction_is_the_text_behind_one_frame(size):
    told = get_recipe(f"diffusion_{size}_instruction", post_training=True)
    conditioning = told.model.process.conditioning
    assert conditioning.min_condition_latents == conditioning.max_condition_latents == 1
    assert conditioning.text_dropout < 1, "most samples are told their text"
    assert not getattr(told.model, "controls", ()) and told.log.name.endswith("_instruction")


@pytest.mark.parametrize("size", ["nano", "7b", "14b"])
def test_a_camera_enters_model_and_data(size):
    recipe = get_recipe(f"diffusion_{size}_camera", post_training=True)
    assert [control.name for control in recipe.model.controls] == ["camera"]
    assert recipe.data.controls == ["camera"] and recipe.log.name == f"diffusion_{size}_camera"
    assert recipe.model.tokenizer.temporal_factor == (4 if size == "nano" else 8)
    assert recipe.model.process.conditioning.min_condition_latents == 1
    plain = get_recipe(f"diffusion_{size}_video2world", post_training=True)
    names = [
        {fdl.get_callable(each).__name__ for each in one.trainer.callbacks}
        for one in (recipe, plain)
    ]
    assert names[0] - names[1] == {"Obedience"}
    apply_overrides(recipe, ["model.controls.0.options={unit_m: 2}"])
    assert recipe.model.controls[0].options == {"unit_m": 2}


def test_registry_lists_without_heavy_imports():
    code = (
        "import recipes.registry, sys;"
        "assert not {'torch', 'nemo', 'megatron', 'nemo_run'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="diffusion_7b_video2world"):
        require_recipe("diffusion_7b_vide2world", post_training=True)


def test_a_post_training_recipe_cannot_pretrain():
    with pytest.raises(ConfigError, match="finetune --factory diffusion_nano_action"):
        get_recipe("diffusion_nano_action")


def test_overrides_reach_every_level(recipe):
    words = [
        "data.path=/data/my latents",
        "trainer.max_steps=100",
        "trainer.num_nodes=2",
        "optim.config.lr=1e-4",
        "model.config.num_layers=2",
        "model.process.conditioning.text_dropout=0.3",
        "trainer.callbacks.EMA.decay=0.5",
        "trainer.callbacks.0.every_n_steps=2",
        "trainer.strategy.context_parallel_size=2",
        "log.ckpt.keep=3",
    ]
    assert apply_overrides(recipe, words) is recipe
    assert recipe.data.path == "/data/my latents"
    assert recipe.trainer.max_steps == 100
    assert recipe.optim.config.lr == 1e-4
    assert recipe.model.config.num_layers == 2
    assert recipe.model.process.conditioning.text_dropout == 0.3
    assert recipe.trainer.callbacks[0].decay == 0.5
    assert recipe.trainer.callbacks[0].every_n_steps == 2
    assert recipe.trainer.strategy.context_parallel_size == 2


def test_an_unset_configuration_is_filled_in():
    recipe = get_recipe("diffusion_7b_text2world")
    apply_overrides(recipe, ["resume.restore_config.path=/w"])
    assert recipe.resume.restore_config.path == "/w"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.max_step=3", "'trainer.max_steps'"),
        ("trainer.max_steps=abc", r"whole number.*trainer\.max_steps=2000"),
        ("modle.config.x=1", "'model'"),
        ("optim.config.lrr=3", r"'optim\.config\.lr'"),
        ("log.name.x=3", r"log\.name=\.\.\. as a whole"),
        ("data.path", "key=value"),
        ("trainer.strategy.tensor_parallel=2", "'trainer.strategy.tensor_model_parallel_size'"),
        ("trainer.callbacks.EMAA.decay=1", "'EMA'"),
        ("model.config=3", r"keys of its own.*model\.config\.\w+="),
        ("trainer=5", r"'trainer' is a part.*trainer\.\w+=\.\.\."),
        ("optim.config=", "'optim.config' is a part"),
        ("log=none", "'log' is a part"),
        ("trainer.callbacks.decay=1", "'trainer.callbacks' has no keys of its own"),
        ("trainer.precision.x=1", "as a whole"),
        ("optim.config.lr=nan", "a finite number"),
        ("optim.config.lr=-1e-4", r"optim\.config\.lr is -0\.0001; it must be 0 or more"),
        ("optim.config.adam_beta1=1.5", "must be 0 to 1"),
        ("data.micro_batch_size=0", r"data\.micro_batch_size is 0; it must be 1 or more"),
        ("trainer.strategy.tensor_model_parallel_size=0", "must be 1 or more"),
        ("trainer.callbacks.EMA.decay=2", "must be 0 to 1"),
        ("data.seed=-3", "must be 0 to 4,294,967,295"),
    ],
)
def test_wrong_words(recipe, word, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides(recipe, [word])


def test_parameters_of_base_classes_count():
    class Base:
        def __init__(self, depth: int = 1) -> None: ...

    class Derived(Base):
        def __init__(self, width: int = 2, **kwargs) -> None: ...

    assert list(parameters(Derived)) == ["width", "depth"]


def test_a_key_turns_packing_on(recipe):
    words = ["data.packing.max_tokens=8192", "data.path=latents", "data.micro_batch_size=1"]
    data = fdl.build(apply_overrides(recipe, words).data)
    assert data.packing.max_tokens == 8192
