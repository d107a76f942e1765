"""Post-training takes network, process and text length from its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nemo_cosmos.checkpoint.world.config import WorldConfig, read_config, write_config
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch import configure_recipe
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.settings import ARSettings
from nemo_cosmos.site import SITE_VARIABLE, compose_site
from nemo_cosmos.testing.tiny import tiny_tokenizer, write_world

ACTIONS = {"mean": [0.0] * 7, "std": [3.0] * 7}


@pytest.fixture(autouse=True)
def own_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.txt"))


def configured(recipe: str, weights: Path, *words: str) -> Any:
    named = f"resume.restore_config.path={weights}"
    return configure_recipe(recipe, [named, *words], compose_site(), post_training=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of no preset's size, whose process and controls are its own."""
    folder = write_world(tmp_path_factory.mktemp("w") / "run" / "export", num_layers=3)
    file, config = folder / "config.json", read_config(folder)
    data = config.to_dict()
    data["network"]["base_fps"] = 10.0
    data["process"]["edm"]["sigma_data"] = 0.75
    data["process"]["conditioning"]["text_dropout"] = 0.3
    data["controls"] = [{"name": "action", "options": ACTIONS}]
    write_config(file, type(config).from_dict(data))
    return folder


def test_a_world_of_no_presets_size_needs_no_retyping(world: Path) -> None:
    recipe = configured("diffusion_nano_video2world", world.parent)  # the folder of a run
    network = recipe.model.config
    assert (network.num_layers, network.hidden_size, network.base_fps) == (3, 48, 10.0)
    assert network.rope_ratios_thw == (1.0, 1.0, 1.0) and network.max_frames == 4
    assert recipe.model.process.edm.sigma_data == 0.75
    assert recipe.model.process.conditioning.text_dropout == 0.3
    assert recipe.data.text_length == 8


def test_what_a_person_sets_stays_to_be_compared(world: Path) -> None:
    words = ("model.config.num_layers=6", "model.process.edm.sigma_data=0.5", "data.text_length=9")
    recipe = configured("diffusion_nano_video2world", world, *words)
    assert recipe.model.config.num_layers == 6 and recipe.model.config.hidden_size == 48
    assert recipe.model.process.edm.sigma_data == 0.5
    assert recipe.model.process.conditioning.text_dropout == 0.3
    assert recipe.data.text_length == 9


def test_what_the_task_of_a_recipe_changes_stays(world: Path) -> None:
    recipe = configured("diffusion_nano_action", world)
    assert recipe.model.process.conditioning.min_condition_latents == 1
    assert recipe.model.process.conditioning.text_dropout == 0.3
    assert recipe.model.controls[0].options == ACTIONS, "the units that the weights know"


def test_a_recipe_for_another_task_is_refused(world: Path) -> None:
    with pytest.raises(ConfigError, match="is a Video2World model, but the recipe trains a Text2"):
        configured("diffusion_nano_text2world", world)


def test_a_tokenizers_network_comes_from_its_weights(tmp_path: Path) -> None:
    tiny_tokenizer().save(tmp_path / "tok")
    recipe = configured("tokenizer_nano_cv4x8x8", tmp_path / "tok", "model.config.z_channels=4")
    assert (recipe.model.config.channels, recipe.model.config.z_channels) == (8, 4)


def test_weights_that_say_nothing_change_nothing(tmp_path: Path) -> None:
    assert configured("diffusion_nano_video2world", tmp_path).model.config.num_layers == 4


def test_an_autoregressive_world_needs_no_retyping(tmp_path: Path) -> None:
    sizes = {"num_layers": 2, "hidden_size": 48, "num_attention_heads": 4, "num_query_groups": 2}
    network = ARConfig(**sizes, vocab_size=75)  # type: ignore[arg-type]
    world = WorldConfig(
        family="autoregressive",
        model=ARSettings(network.architecture(), ARProcess(condition_latents=2, z_loss=0.01)),
        text_encoder={"kind": "t5", "path": "nowhere", "max_length": 7, "dim": 20},
        video={"num_frames": 9, "fps": 10.0, "height": 32, "width": 48},
    )
    write_config(tmp_path / "config.json", world)
    recipe = configured("ar_nano", tmp_path, "model.process.z_loss=0.5")
    assert (recipe.model.config.num_layers, recipe.model.config.vocab_size) == (2, 75)
    on_clips = configured("ar_nano_video", tmp_path)  # which have no texts to be padded
    assert on_clips.model.config.vocab_size == 75 and not hasattr(on_clips.data, "text_length")
    assert (recipe.model.process.condition_latents, recipe.model.process.z_loss) == (2, 0.5)
    assert recipe.data.text_length == 7
    with pytest.raises(ConfigError, match="is a continuation model, but the recipe trains a text-"):
        configured("ar_5b_video2world", tmp_path)


def stage_1(folder: Path, **network: Any) -> Path:
    """The description of a tiny world after stage 1."""
    sizes = {"num_layers": 2, "hidden_size": 48, "num_attention_heads": 4, "num_query_groups": 2}
    config = ARConfig(**{**sizes, "vocab_size": 75, "max_frames": 3, **network})
    world = WorldConfig(
        family="autoregressive",
        model=ARSettings(config.architecture(), ARProcess(condition_latents=1, z_loss=0.01)),
        text_encoder={"kind": "embedded", "path": None, "max_length": 7, "dim": 20},
        video={"num_frames": 17, "fps": 10.0, "height": 32, "width": 48},
    )
    write_config(folder / "config.json", world)
    return folder


def test_a_later_stage_extends_positions_and_keeps_the_rest(tmp_path: Path) -> None:
    recipe = configured("ar_12b_stage_1_1", stage_1(tmp_path))
    network = recipe.model.config
    assert (network.num_layers, network.vocab_size) == (2, 75), "sizes are the weights'"
    assert (network.max_frames, network.yarn_lengths_thw) == (5, (3, 40, 64))
    assert recipe.model.process.z_loss == 0.01 and recipe.data.text_length == 7
    cool_down = configured("ar_12b_cool_down", stage_1(tmp_path, max_frames=4))
    assert cool_down.model.config.max_frames == 4, "a cool-down changes nothing of the network"
    assert cool_down.model.config.yarn_lengths_thw is None


def test_stage_2_adds_a_text_to_weights_without(tmp_path: Path) -> None:
    recipe = configured("ar_5b_video2world_stage_2", stage_1(tmp_path))
    network = recipe.model.config
    assert (network.num_layers, network.vocab_size) == (2, 75)
    assert network.context_channels == 1024
    assert network.begin_token and network.absolute_positions
    assert recipe.model.process.condition_latents == 0
    assert recipe.model.process.z_loss == 0.01
    assert recipe.data.text_length == 512, "the text is new"
    assert 0 < recipe.data.image_ratio < 1
