"""``peft_scheme=lora`` on recipes, as a function's argument and as a word of a command."""

from __future__ import annotations

import fiddle as fdl
import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch import configure_recipe
from nemo_cosmos.training.adapters.lora import TARGETS, LoRA
from recipes.peft import LEARNING_RATE
from recipes.registry import RECIPES, get_recipe

WORLDS = [name for name, entry in RECIPES.items() if not name.startswith("tokenizer")]


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_has_a_recipe_with_adapters(name):
    plain, adapted = (get_recipe(name, True, scheme) for scheme in (None, "lora"))
    assert fdl.build(adapted.peft) == LoRA()
    assert adapted.optim.config.lr == pytest.approx(LEARNING_RATE * plain.optim.config.lr)
    assert adapted.optim.config.weight_decay == 0
    assert "peft" not in get_recipe(name, True, "none").__arguments__


def test_words_set_the_adapter(site):
    words = ["peft_scheme=lora", "peft.dim=16", "peft.alpha=8", "peft.target_modules=[linear_qkv]"]
    recipe = configure_recipe("diffusion_nano_action", words, site, True)
    made = fdl.build(recipe.peft)
    assert (made.dim, made.alpha, list(made.target_modules)) == (16, 8.0, ["linear_qkv"])
    assert made.trained_modules == ("controls", "view_embed")
    assert len(TARGETS) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["peft_scheme=dora"], "no peft_scheme 'dora'"),
        (["peft_scheme=lora", "peft.rank=4"], r"'peft' has no 'rank'"),
        (["peft_scheme=lora", "peft.dim=many"], "a whole number"),
        (["peft.dim=4"], "peft_scheme=lora"),
    ],
)
def test_wrong_words_are_refused(site, words, message):
    with pytest.raises(ConfigError, match=message):
        configure_recipe("diffusion_nano_action", words, site, True)


def test_adapters_need_weights_and_layers(site):
    with pytest.raises(ConfigError, match="'pretrain' has none"):
        configure_recipe("diffusion_nano_video2world", ["peft_scheme=lora"], site, False)
    with pytest.raises(ConfigError, match="a tokenizer has no layers"):
        configure_recipe("tokenizer_nano_cv4x8x8", ["peft_scheme=lora"], site, True)


@pytest.fixture
def site(tmp_path, monkeypatch):
    from nemo_cosmos.site import compose_site

    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.yaml"))
    return compose_site([])
