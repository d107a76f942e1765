"""``nemo-cosmos pretrain`` and ``finetune``, and the NeMo-Run plug-in."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos import api, site
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.launch import Started, TorchrunLauncher
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents, write_world
from nemo_cosmos.training.weights.initial import check_own_weights


@pytest.fixture(autouse=True)
def own_site(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    for name in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def test_dryrun_prints_the_resolved_configuration(run_cli):
    words = ["--factory", "diffusion_7b_video2world", "--from", "/w", "--dryrun"]
    words += ["--conf", "parallel=tp8_cp2", "--conf", "storage.outputs=/runs"]
    ran = run_cli("finetune", *words, "data.path=/latents", "trainer.max_steps=100")
    shown = yaml.safe_load(ran.out)
    assert shown["_target_"] == "nemo_cosmos.api.finetune"
    assert shown["trainer"]["max_steps"] == 100
    assert shown["trainer"]["strategy"]["context_parallel_size"] == 2
    assert shown["resume"]["restore_config"]["path"] == "/w"
    assert shown["log"]["log_dir"] == "/runs"
    assert "# Environment for TP8 CP2 on 16 GPUs:\n" in ran.out
    assert "#   CUDA_DEVICE_MAX_CONNECTIONS=1  (in one queue" in ran.out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.config.fused=fast", "fused='fast' is unknown"),
        ("model.config.layer_spec=te", "layer_spec='te' is unknown"),
        ("trainer.precision=bf15", "bf15"),
        ("log.ckpt.keep=-1", "keep"),
    ],
)
def test_dryrun_prints_no_value_that_nothing_could_run(run_cli, word, message):
    ran = run_cli("pretrain", "--factory", "diffusion_nano_text2world", "--dryrun", word)
    assert (ran.code, ran.out) == (2, "") and message in ran.err


def test_the_users_words_beat_the_sites(run_cli):
    words = ["--factory", "diffusion_7b_text2world", "--conf", "parallel=tp8_cp2", "--dryrun"]
    ran = run_cli("pretrain", *words, "trainer.strategy.context_parallel_size=4")
    assert yaml.safe_load(ran.out)["trainer"]["strategy"]["context_parallel_size"] == 4


def test_lists(run_cli):
    shown = run_cli("pretrain", "--list").out
    assert "tokenizer_cv8x8x8" in shown and "diffusion_nano_action" not in shown
    assert "diffusion_nano_action" in run_cli("finetune", "--list").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--factory", "diffusion_nano_text2word"], "diffusion_nano_text2world"),
        (["trainer.max_stepz=1"], "trainer.max_steps"),
        ([], "data.path=FOLDER"),
    ],
)
def test_what_is_wrong_or_missing_is_said(run_cli, words, message):
    ran = run_cli("pretrain", *words)
    assert ran.code == Exit.WRONG_USE and message in ran.err


def test_post_training_asks_for_weights_before_it_is_launched(run_cli):
    ran = run_cli("finetune", "--factory", "diffusion_7b_video2world", "data.path=/x")
    assert ran.code == Exit.WRONG_USE and "--from" in ran.err


def test_an_error_while_a_recipe_is_built_is_one_paragraph(run_cli):
    ran = run_cli("pretrain", "data.path=/x", "trainer.max_steps=-1")
    assert ran.code == Exit.WRONG_USE and "max_steps=-1" in ran.err
    assert "Fiddle" not in ran.err and "callbacks=" not in ran.err


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Tokenised data for the nano recipes."""
    clips = Clips(num_samples=4, text_dim=512)
    return write_latents(tmp_path_factory.mktemp("data") / "latents", clips)


@pytest.fixture
def fake_pretrain(monkeypatch, tmp_path):
    """What training was called with."""
    seen = {}

    def fake(model, data, trainer, log=None, resume=None, optim=None):
        seen.update(trainer=trainer, data=data)
        return tmp_path

    monkeypatch.setattr(api, "pretrain", fake)
    monkeypatch.chdir(tmp_path)
    return seen


NANO = ["--factory", "diffusion_nano_video2world"]


def test_check_stops_before_training(run_cli, latents, fake_pretrain, tmp_path):
    ran = run_cli("pretrain", *NANO, f"data.path={latents}", "--check")
    assert ran.code == Exit.DONE, ran
    words = " ".join(ran.out.split())
    for part in ("layout │ ok │ 2000 steps, 1 process, 1 copy", "latents of 3x4x4", "room │ ok"):
        assert part in words
    assert not fake_pretrain and not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "check", "message"),
    [
        (["data.global_batch_size=3", "data.micro_batch_size=2"], "layout", "not a multiple"),
        (["trainer.max_steps=-1"], "layout", "max_steps=-1"),
        (["trainer.devices=0"], "layout", "1 or more"),
        (["trainer.devices=2", "trainer.strategy.tensor_model_parallel_size=4"], "layout", "4 pro"),
        (["trainer.precision=fp64"], "precision", "no precision 'fp64'"),
        (["trainer.precision=32", "trainer.fp8=hybrid"], "precision", "FP8 computes around"),
        (["trainer.fp8=e5m2", "trainer.precision=bf16-mixed"], "precision", "no FP8 format"),
        (["model.config.num_layers=0"], "model", "num_layers=0"),
        (["model.config.fused=compiled"], "model", "fused='compiled' is unknown"),
        (["model.config.tp_comm_overlap=true"], "fit", "of which there are none"),
        (["model.config.gradient_accumulation_fusion=true"], "fit", "needs the kernels"),
        (["model.config.fp8=hybrid"], "fit", "trainer's precision has fp8=None"),
        (["trainer.devices=5", "trainer.strategy.context_parallel_size=5"], "fit", "tokens"),
        (["model.config.num_attention_heads=5"], "model", "heads"),
        (["model.config.crossattn_emb_channels=64"], "belonging", "text_channels=64"),
        (["log.ckpt.every_n_train_steps=3"], "saves", "not both"),
        (["trainer.resilience.hang_minutes=-1"], "saves", "hang_minutes"),
        (["log.log_dir=file"], "output", "is a file"),
        (["data.path=nowhere"], "samples", "no file or folder 'nowhere'"),
    ],
)
def test_what_cannot_work_is_found_before_training(
    run_cli, latents, fake_pretrain, tmp_path, words, check, message
):
    (tmp_path / "file").write_text("")
    call = ["pretrain", *NANO, f"data.path={latents}", *words]
    ran = run_cli(*call)
    assert ran.code != Exit.DONE and message in ran.err and not fake_pretrain
    assert "Fiddle" not in ran.err
    shown = run_cli(*call, "--check")
    assert shown.code == Exit.WRONG_USE and f"{check} │ wrong" in " ".join(shown.out.split())
    assert "Fiddle" not in shown.out


def test_a_tokenizer_is_no_weights_of_a_world(run_cli, latents, fake_pretrain, tmp_path):
    tokenizer = tmp_path / "tokenizer"
    tiny_tokenizer().save(tokenizer)
    call = ["finetune", *NANO, "--from", tokenizer, f"data.path={latents}"]
    for allowed in ([], ["--allow-mismatch", "model"]):
        shown = run_cli(*call, *allowed, "--check")
        words = " ".join(shown.out.split())
        assert shown.code == Exit.WRONG_USE and "weights │ wrong" in words
        assert "is a tokenizer" in words and "--allow-mismatch" not in words


def test_room_for_the_checkpoints_is_looked_at(run_cli, latents, fake_pretrain, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    few = run_cli("pretrain", *NANO, f"data.path={latents}")
    assert few.code == Exit.FAILED and "has 10.0 MB free" in few.err and not fake_pretrain
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000_000))
    assert run_cli("pretrain", *NANO, f"data.path={latents}").code == Exit.DONE


def test_a_small_world_of_ones_own_is_checked_as_any(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = write_world(tmp_path / "world", num_layers=3)
    data = write_latents(tmp_path / "latents", tokenizer=world / "tokenizer")
    call = ["finetune", *NANO, "--from", world, f"data.path={data}", "--check"]
    ran = run_cli(*call)
    assert ran.code == Exit.DONE, ran.out
    ran = run_cli(*call, "model.config.num_layers=6")
    assert ran.code == Exit.WRONG_USE and "num_layers=3" in ran.out
    assert run_cli(*call, "model.config.num_layers=6", "--allow-mismatch", "model").code == 0


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("network", {"num_layers": 4}, "missing"),
        ("network", {"num_layers": 2}, "unexpected"),
        ("network", {"colour": 1}, "'network' has 'colour'"),
        ("process", {"colour": 1}, "'process' has 'colour'"),
        ("video", {"fps": "ten"}, "video.fps is 'ten'"),
    ],
)
def test_a_description_that_was_edited_is_found_before_training(
    run_cli, tmp_path, monkeypatch, section, changes, message
):
    monkeypatch.chdir(tmp_path)
    world = write_world(tmp_path / "world", num_layers=3)
    data = write_latents(tmp_path / "latents", tokenizer=world / "tokenizer")
    content = json.loads((world / "config.json").read_text())
    content[section] |= changes
    (world / "config.json").write_text(json.dumps(content))
    ran = run_cli("finetune", *NANO, "--from", world, f"data.path={data}", "--check")
    assert ran.code != Exit.DONE and message in " ".join((ran.out + ran.err).split())


def test_a_tokenizer_whose_description_was_edited_is_found_before_training(run_cli, tmp_path):
    folder = tmp_path / "tokenizer"
    tiny_tokenizer().save(folder)
    content = json.loads((folder / "config.json").read_text())
    content["network"]["channels"] *= 2
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="of another shape"):
        check_own_weights(folder)


def test_one_process_trains_here(run_cli, latents, fake_pretrain, tmp_path):
    words = [f"data.path={latents}", "trainer.max_steps=7"]
    ran = run_cli("pretrain", *words, "--factory", "diffusion_nano_text2world")
    assert fake_pretrain["trainer"].max_steps == 7
    assert str(tmp_path / "export") in ran.out


def test_several_devices_are_launched(monkeypatch, run_cli, tmp_path):
    launched = []
    monkeypatch.setattr(
        TorchrunLauncher, "run", lambda self, job: launched.append(job) or Started()
    )
    monkeypatch.setattr("nemo_cosmos.launch.checks._room", lambda recipe: "a large disk")
    clips = Clips(num_samples=2, height=64, width=64, text_dim=1024)
    data = write_latents(tmp_path / "latents", clips)
    words = ["--factory", "diffusion_7b_text2world", "--conf", "parallel=tp8", f"data.path={data}"]
    assert run_cli("pretrain", *words).code == Exit.DONE
    assert launched[0].resources.num_processes == 8


def test_words_that_were_kept_are_named(run_cli, fake_pretrain, latents, tmp_path):
    run_cli("configure", "logger=none", "storage.outputs=/my runs")
    ran = run_cli("pretrain", "--dryrun", "--conf", "data=workers", "trainer.max_steps=3")
    assert ran.out.splitlines()[:2] == [
        f"# from {tmp_path / 'site.txt'}: logger=none 'storage.outputs=/my runs'",
        "# from this command: data=workers trainer.max_steps=3",
    ]
    ran = run_cli("pretrain", *NANO, f"data.path={latents}")
    assert "logger=none" in ran.err


def test_nemo_run_plugin_configures_and_names_valid_keys():
    from nemo_cosmos.cli import nemo_run_plugin as plugin

    context = plugin.RecipeContext(name="finetune", factory="diffusion_7b_video2world")
    task = context.parse_fn(plugin.finetune, ["trainer.max_steps=3"])
    assert task.trainer.max_steps == 3
    assert task.__fn_or_cls__ is plugin.finetune
    with pytest.raises(ConfigError, match=r"trainer\.max_steps"):
        context.parse_fn(plugin.finetune, ["trainer.max_step=3"])


def test_an_executor_of_nemo_run_gives_the_script_of_our_own_command(run_cli, capsys, tmp_path):
    from nemo_cosmos.cli import nemo_run_plugin as plugin

    own = ["data.path=/data/latents", "trainer.max_steps=3"]
    words = ["--factory", "diffusion_nano_text2world", "--conf", "cluster.account=robotics"]
    said = run_cli("pretrain", *words, *own, "--on", "slurm", "--dryrun").out
    assert "--account=robotics" in said and "--factory diffusion_nano_text2world" in said
    context = plugin.RecipeContext(name="p", factory="diffusion_nano_text2world", dryrun=True)
    capsys.readouterr()
    executor = ["run.executor=slurm", "run.executor.account=robotics"]
    context.cli_execute(plugin.pretrain, [*executor, *own])
    assert capsys.readouterr().out == said
