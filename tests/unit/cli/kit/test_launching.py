"""``--on`` and its companions, from the words of a command line to a script."""

from __future__ import annotations

import shlex

import pytest
import typer

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos import site
from nemo_cosmos.cli import main as cli
from nemo_cosmos.cli.kit.launching import LAUNCHABLE, own_words
from nemo_cosmos.cli.main import Exit

NANO = ["pretrain", "--factory", "diffusion_nano_text2world", "data.path=latents"]


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def commands(script: str) -> list[list[str]]:
    """The words after ``nemo_cosmos`` of each command in what was printed."""
    joined = script.replace("\\\n", " ")
    return [
        shlex.split(line.partition(" -m nemo_cosmos ")[2])
        for line in joined.splitlines()
        if " -m nemo_cosmos " in line
    ]


@pytest.mark.parametrize("name", LAUNCHABLE)
def test_every_long_command_says_where_it_runs(name):
    entry = cli.COMMANDS[name]
    params = typer.main.get_command(cli._build(name, entry.load())).params
    options = {word for item in params for word in item.opts}
    assert {"--on", "--then", "--dryrun"} <= options


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["a", "--on", "slurm", "b"], ["a", "b"]),
        (["--on=slurm", "--nodes=2", "a", "--devices", "8"], ["a"]),
        (["a", "--then", "tokenize x y", "--dryrun", "--then", "evaluate"], ["a"]),
        (["--prompt", "go --on", "--only", "x"], ["--prompt", "go --on", "--only", "x"]),
        (["--", "--on", "x"], ["--", "--on", "x"]),
    ],
)
def test_a_job_gets_the_commands_own_words(words, own):
    assert own_words(words) == own


def test_a_command_becomes_a_script_with_its_words(run_cli):
    ran = run_cli(
        "curate", "raw videos", "shards", "--min-motion", "0", "--on", "slurm", "--dryrun"
    )
    assert ran.code == Exit.DONE, ran.err
    assert ran.out.startswith("#!/bin/bash\n# Job 'curate'")
    assert commands(ran.out) == [["curate", "raw videos", "shards", "--min-motion", "0"]]


def test_wrong_words_are_refused_before_anything_is_queued(run_cli):
    ran = run_cli("curate", "raw", "shards", "--min-motion", "nan", "--on", "slurm", "--dryrun")
    assert ran.code == Exit.WRONG_USE and "min-motion" in ran.err


def test_an_empty_cluster_is_not_this_machine(run_cli):
    """As of ``--on "$CLUSTER"`` where the variable is not set."""
    ran = run_cli("curate", "raw", "shards", "--on", "", "--dryrun")
    assert ran.code == Exit.WRONG_USE and "must name a cluster" in ran.err


def test_a_recipe_takes_its_machines_from_the_command(run_cli):
    words = ["--on", "dgx_h100", "--nodes", "2", "--devices", "8", "data.global_batch_size=16"]
    words += ["data.micro_batch_size=1"]
    ran = run_cli(*NANO, *words, "--conf", "logger=none", "--dryrun")
    assert ran.code == Exit.DONE, ran.err
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=8\n" in ran.out
    assert "#SBATCH --cpus-per-task=14\n" in ran.out and "--cpus-per-task=14" in ran.out
    [found] = commands(ran.out)
    assert found[:3] == ["pretrain", "--factory", "diffusion_nano_text2world"]
    assert {"trainer.num_nodes=2", "trainer.devices=8", "logger=none"} <= set(found)
    assert "cluster=local" in found and "cluster=dgx_h100" not in found


def test_a_sweep_is_an_array_and_its_keys_are_checked(run_cli):
    sweep = ["--sweep", "optim.config.lr=1e-5,1e-4", "--on", "slurm", "--dryrun"]
    ran = run_cli(*NANO, *sweep)
    assert ran.code == Exit.DONE, ran.err
    assert "#SBATCH --array=0-1\n" in ran.out
    assert "1) run=(optim.config.lr=1e-4 log.name=diffusion_nano_text2world-lr-1e-4) ;;" in ran.out
    ran = run_cli(*NANO, "--sweep", "optim.config.lrr=1,2", "--on", "slurm", "--dryrun")
    assert ran.code == Exit.WRONG_USE and "optim.config.lr" in ran.err
    ran = run_cli(*NANO, "--sweep", "trainer.max_steps=1,many", "--on", "slurm", "--dryrun")
    assert ran.code == Exit.WRONG_USE and "many" in ran.err
    # A layout that does not fit one of the runs.
    ran = run_cli(*NANO, "--sweep", "data.global_batch_size=4,6", "--on", "slurm", "--dryrun")
    assert ran.code == Exit.WRONG_USE and "data.global_batch_size=6 is not a multiple" in ran.err


def test_here_a_sweep_is_one_command_after_the_other(run_cli):
    ran = run_cli(*NANO, "--sweep", "trainer.max_steps=1,2", "--on", "local", "--dryrun")
    assert ran.code == Exit.DONE, ran.err
    assert [words[-2] for words in commands(ran.out)] == [
        "trainer.max_steps=1",
        "trainer.max_steps=2",
    ]


def test_what_follows_is_checked_as_if_it_were_typed(run_cli):
    first = ["curate", "raw", "shards", "--on", "slurm", "--dryrun"]
    second = ["--then", "tokenize shards latents --tokenizer tok"]
    third = ["--then", "train -f diffusion_nano_text2world data.path=latents trainer.max_steps=3"]
    ran = run_cli(*first, *second, *third)
    assert ran.code == Exit.DONE, ran.err
    assert [words[0] for words in commands(ran.out)] == ["curate", "tokenize", "pretrain"]
    assert "# ---- then, after 'tokenize' has ended well:" in ran.out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tokenise shards latents", "'tokenize'"),
        ("models", "no launcher takes the command 'models'"),
        ("tokenize shards latents", "tokenizer"),
        ("tokenize shards latents --tokenizer t --on local", "said once, outside"),
        ("pretrain -f diffusion_nano_text2world data.path=x trainer.max_step=3", "max_steps"),
        ("pretrain --list", "only shows something"),
        ("evaluate 'a", "not a command line"),
        ("", "words after 'nemo-cosmos'"),
    ],
)
def test_what_cannot_follow_is_refused_before_anything_starts(run_cli, line, message):
    ran = run_cli("curate", "raw", "shards", "--on", "slurm", "--dryrun", "--then", line)
    assert ran.code == Exit.WRONG_USE
    assert message in ran.err and "#SBATCH" not in ran.out


def test_an_unknown_cluster_names_the_nearest(run_cli):
    ran = run_cli("curate", "raw", "shards", "--on", "slrum", "--dryrun")
    assert ran.code == Exit.WRONG_USE and "'slurm'" in ran.err


def test_a_cluster_of_ones_own_is_a_file(run_cli, tmp_path):
    own = tmp_path / "cluster"
    own.mkdir()
    (own / "ours.yaml").write_text("defaults:\n  - slurm\npartition: gpu\nmax_nodes: 4\n")
    ran = run_cli("curate", "raw", "shards", "--on", "ours", "--dryrun")
    assert ran.code == Exit.DONE, ran.err
    assert "#SBATCH --partition=gpu\n" in ran.out and "#SBATCH --time=04:00:00\n" in ran.out
    for wrong, message in (
        ("defaults:\n  - slurm\npartitoin: gpu\n", "'cluster.partitoin'"),
        ("defaults:\n  - slurm\npartitoin: gpu\n", "'partition'"),
        ("defaults:\n  - slrum\n", "The nearest are 'slurm'"),
        ("defaults:\n  - slurm\ntime: 12:00:00\n", "quotation marks"),
        ("partition: gpu\n", "'executor: NAME'"),
        ("- executor: slurm\n", "holds no keys but a list"),
        ("executor: [slurm\n", "ours.yaml' cannot be read as YAML"),
        ("executor: slurm\n\tpartition: gpu\n", "Line 2 of"),
        ("executor: slurm\nexecutor: ray\n", "ours.yaml' cannot be read as YAML"),
    ):
        (own / "ours.yaml").write_text(wrong)
        ran = run_cli("curate", "raw", "shards", "--on", "ours", "--dryrun")
        assert ran.code == Exit.WRONG_USE and message in ran.err


def test_without_a_place_a_dry_run_prints_the_command(run_cli):
    ran = run_cli("evaluate", "a", "b", "--dryrun")
    assert ran.code == Exit.DONE, ran.err
    assert "#SBATCH" not in ran.out and commands(ran.out) == [["evaluate", "a", "b"]]
    ran = run_cli("evaluate", "a", "b", "--devices", "2", "--dryrun")
    assert "torch.distributed.run --standalone --nproc-per-node 2 -m nemo_cosmos" in ran.out
