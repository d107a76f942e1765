"""``nemo-cosmos pretrain`` and ``finetune``, and the NeMo-Run plug-in."""

from __future__ import annotations

import nemo_run as run
import pytest
import yaml

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos import api, site
from nemo_cosmos.cli import finetune, pretrain, training
from nemo_cosmos.cli.launch import executor_for
from nemo_cosmos.errors import ConfigError
from recipes.registry import get_recipe


@pytest.fixture(autouse=True)
def own_site(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    for name in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def test_dryrun_prints_the_resolved_configuration(capsys):
    finetune.command(
        ["data.path=/latents", "trainer.max_steps=100"],
        factory="diffusion_7b_video2world",
        weights="/w",
        conf=["parallel=tp8_cp2", "storage.outputs=/runs"],
        dryrun=True,
    )
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["_target_"] == "nemo_cosmos.api.finetune"
    assert shown["trainer"]["max_steps"] == 100
    assert shown["trainer"]["strategy"]["context_parallel_size"] == 2
    assert shown["resume"]["restore_config"]["path"] == "/w"
    assert shown["log"]["log_dir"] == "/runs"


def test_the_users_words_beat_the_sites(capsys):
    words = ["trainer.strategy.context_parallel_size=4"]
    pretrain.command(
        words, factory="diffusion_7b_text2world", conf=["parallel=tp8_cp2"], dryrun=True
    )
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["trainer"]["strategy"]["context_parallel_size"] == 4


def test_lists(capsys):
    pretrain.command(list_recipes=True)
    shown = capsys.readouterr().out
    assert "tokenizer_cv8x8x8" in shown and "diffusion_nano_action" not in shown
    finetune.command(list_recipes=True)
    assert "diffusion_nano_action" in capsys.readouterr().out


def test_unknown_recipes_and_keys():
    with pytest.raises(ConfigError, match="diffusion_nano_text2world"):
        pretrain.command(factory="diffusion_nano_text2word")
    with pytest.raises(ConfigError, match=r"trainer\.max_steps"):
        pretrain.command(["trainer.max_stepz=1"], factory="diffusion_nano_text2world")


def test_data_must_be_named():
    with pytest.raises(ConfigError, match=r"data\.path=FOLDER"):
        pretrain.command()


def test_one_process_trains_here(monkeypatch, capsys, tmp_path):
    seen = {}

    def fake(model, data, trainer, log=None, resume=None, optim=None):
        seen.update(trainer=trainer, data=data)
        return tmp_path

    monkeypatch.setattr(api, "pretrain", fake)
    pretrain.command(["data.path=/x", "trainer.max_steps=7"], factory="diffusion_nano_text2world")
    assert seen["trainer"].max_steps == 7
    assert str(tmp_path / "export") in capsys.readouterr().out


def test_several_devices_are_launched(monkeypatch):
    launched = []
    monkeypatch.setattr("nemo_cosmos.cli.launch.launch", lambda *words: launched.append(words))
    recipe = get_recipe("diffusion_7b_text2world")
    training.start(recipe, {"executor": "local"})
    assert launched == [(recipe, {"executor": "local"})]


def test_executors():
    recipe = get_recipe("diffusion_7b_text2world")
    with pytest.raises(ConfigError, match="32 machines"):
        executor_for(recipe, {"executor": "local"})
    recipe.trainer.num_nodes = 1
    assert executor_for(recipe, {"executor": "local"}).ntasks_per_node == 8
    slurm = site.compose_site(["cluster=slurm"])["cluster"]
    with pytest.raises(ConfigError, match="account"):
        executor_for(recipe, slurm)
    job = executor_for(recipe, slurm | {"account": "robotics"})
    assert isinstance(job, run.SlurmExecutor)
    assert (job.nodes, job.gpus_per_node) == (1, 8)


def test_nemo_run_plugin_configures_and_names_valid_keys():
    from nemo_cosmos.cli import nemo_run_plugin as plugin

    context = plugin.RecipeContext(name="finetune", factory="diffusion_7b_video2world")
    task = context.parse_fn(plugin.finetune, ["trainer.max_steps=3"])
    assert task.trainer.max_steps == 3
    assert task.__fn_or_cls__ is plugin.finetune
    with pytest.raises(ConfigError, match=r"trainer\.max_steps"):
        context.parse_fn(plugin.finetune, ["trainer.max_step=3"])
