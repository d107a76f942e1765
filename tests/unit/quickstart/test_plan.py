"""The commands of the quickstart: each goes on from where the one before left off."""

from dataclasses import replace
from pathlib import Path

import fiddle as fdl
import pytest

from nemo_cosmos.cli.main import COMMANDS
from nemo_cosmos.models.diffusion.network.inputs import token_grid
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.quickstart import material
from nemo_cosmos.quickstart.plan import (
    Places,
    evaluation_commands,
    generation_commands,
    plan,
)
from nemo_cosmos.quickstart.road import command_texts, walk
from nemo_cosmos.quickstart.settings import QuickstartSettings
from recipes.overrides import apply_overrides
from recipes.registry import get_recipe

SETTINGS = QuickstartSettings()
CAPTIONS = {"episode_000000": "One.", "episode_000001": "It's two."}


@pytest.fixture
def places():
    return Places(Path("out dir"))


def all_commands(places):
    planned = [line for part in plan(places, SETTINGS) for line in part.commands]
    generation = generation_commands(places, SETTINGS, CAPTIONS)
    return [*planned, *generation, *evaluation_commands(places)]


def test_every_command_exists(places):
    assert {line[0] for line in all_commands(places)} <= set(COMMANDS)


def test_training_runs_lie_where_later_commands_look(places):
    text = "\n".join(" ".join(line) for line in all_commands(places))
    for run in ("tokenizer", "world", "action_world"):
        assert f"log.log_dir=out dir log.name={run}" in text
        assert str(Path("out dir") / run / "export") in text


@pytest.mark.parametrize("settings", [SETTINGS, QuickstartSettings.tiny()])
def test_the_world_takes_the_latents_of_its_videos(settings, places):
    """Also at the tiny size; the keys are those that a person would type."""
    parts = {part.name: part for part in plan(places, settings)}
    (line,) = parts["world"].commands
    recipe = get_recipe(line[line.index("--factory") + 1])
    apply_overrides(recipe, [word for word in line if word.startswith("model.config.")])
    config = fdl.build(recipe.model.config)
    tokenizer = TOKENIZERS[DIFFUSION["diffusion_nano_video2world"].tokenizer]
    latent = tokenizer.latent_shape(settings.window_frames, settings.height, settings.width)
    assert token_grid(latent[1:], config)[1:] == (
        settings.height // 8 // settings.world_patch,
        settings.width // 8 // settings.world_patch,
    )


def test_other_actions_are_those_of_another_episode(places):
    lines = generation_commands(places, SETTINGS, CAPTIONS)
    others = [line for line in lines if any("other_actions" in word for word in line)]
    assert len(others) == len(CAPTIONS)
    for line in others:
        out = Path(line[line.index("--out") + 1])
        actions = Path(line[line.index("--actions") + 1])
        assert out.stem != actions.stem


def test_held_out_episodes_have_another_seed(places):
    seeds = [
        line[line.index("--seed") + 1] for line in all_commands(places) if line[0] == "simulate"
    ]
    assert len(set(seeds)) == 2


def test_shown_commands_can_be_pasted_into_a_shell(places):
    import shlex

    for lines in command_texts(places, SETTINGS, CAPTIONS).values():
        for line in lines:
            words = shlex.split(line)
            assert words[0] == "nemo-cosmos"
            assert "out dir" in line or "'out dir" in line


def test_walk_stops_at_the_part_that_fails(tmp_path):
    ran = []

    def run_command(words):
        ran.append(words[0])
        if words[0] == "pretrain":
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        walk(tmp_path, QuickstartSettings.tiny(), run_command, lambda *_: None)
    assert ran == ["simulate", "simulate", "curate", "curate", "pretrain"]
    assert (tmp_path / "steps" / "curate.json").exists()
    assert not (tmp_path / "steps" / "tokenizer.json").exists()
    assert (tmp_path / "raw" / "real" / "bikes.mp4").exists()


def parts_run(folder, settings):
    """Names of the parts that a walk does, not re-uses, when commands cost nothing."""
    ran = []

    def announce(number, total, step, reused):
        if not reused:
            ran.append(step.name)

    def run_command(words):
        if words[0] == "generate":
            raise RuntimeError("far enough")

    with pytest.raises(RuntimeError):
        walk(folder, settings, run_command, announce)
    return ran


def test_a_changed_number_of_steps_keeps_the_parts_before(tmp_path, monkeypatch):
    """Only what a number changes, and what follows, is done again."""
    monkeypatch.setattr(material, "place_held_out", lambda places, settings: None)
    monkeypatch.setattr(material, "held_out_captions", lambda places: CAPTIONS)
    assert parts_run(tmp_path, SETTINGS)[0] == "simulate"
    assert parts_run(tmp_path, SETTINGS) == ["generate"]
    longer = replace(SETTINGS, world_steps=SETTINGS.world_steps + 1)
    assert parts_run(tmp_path, longer) == ["world", "action", "generate"]
