"""Jobs and the launchers that run them."""

from __future__ import annotations

import os

import nemo_run as run
import pytest

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos import site
from nemo_cosmos.errors import ConfigError, JobFailedError
from nemo_cosmos.launch import (
    Job,
    LocalLauncher,
    Resources,
    SlurmLauncher,
    SlurmSettings,
    Started,
    TorchrunLauncher,
    chain_scripts,
    configure_recipe,
    launcher_for,
    run_chain,
)
from nemo_cosmos.launch.select import runs_here
from nemo_cosmos.launch.slurm.settings import check_slurm_job
from nemo_cosmos.site import compose_site
from recipes.registry import get_recipe

LOCAL = {"executor": "local"}
TORCHRUN = {"WORLD_SIZE": "8", "RANK": "3", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def own_site(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    for name in ("LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def large():
    return Job.for_recipe(get_recipe("diffusion_7b_text2world"))


def test_a_recipe_brings_its_machines_and_its_name(large):
    assert large.resources == Resources(num_nodes=32, devices_per_node=8)
    assert large.name == "diffusion_7b_text2world"


def test_a_job_has_something_to_run(large):
    with pytest.raises(ConfigError, match="a recipe or a command"):
        Job("empty")
    with pytest.raises(ConfigError, match="no command"):
        Job("sweep", recipe=large.recipe, variants=[("trainer.max_steps=1",)])
    with pytest.raises(ConfigError, match="0 or more"):
        Job("never", command=("models",), retries=-1)
    with pytest.raises(ConfigError, match="1 or more"):
        Resources(num_nodes=0)


@pytest.mark.parametrize(
    ("words", "own", "times"),
    [
        (("curate", "raw", "shards"), 0, 2),
        (("curate", "raw", "shards"), 3, 3),
        (("evaluate", "a", "b", "--out", "c"), 0, 2),
        (("launch", "check"), 0, 0),
        (("evaluate", "--repeat=evaluation.json"), 0, 0),
        (("evaluate", "--repeat", "evaluation.json"), 1, 1),
    ],
)
def test_what_fails_as_an_answer_is_not_asked_again(words, own, times):
    assert Job(words[0], command=words, retries=own).retries_at(2) == times


def test_one_process_runs_here_and_several_through_torchrun():
    assert isinstance(launcher_for(Job.for_command(["models"]), LOCAL), LocalLauncher)
    several = Job.for_command(["generate", "world"], Resources(devices_per_node=2))
    assert isinstance(launcher_for(several, LOCAL), TorchrunLauncher)


def test_torchrun_can_be_asked_for_by_name():
    cluster = compose_site(["cluster=torchrun"])["cluster"]
    launcher = launcher_for(Job.for_command(["models"]), cluster)
    assert isinstance(launcher, TorchrunLauncher) and runs_here(cluster)
    assert "torch.distributed.run --standalone" in launcher.script(Job.for_command(["models"]))


@pytest.mark.parametrize(
    ("variables", "here"),
    [
        ({**TORCHRUN, "LOCAL_RANK": "3"}, True),
        ({"WORLD_SIZE": "8", "RANK": "3", "MASTER_ADDR": "node7"}, False),  # a leftover
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, True),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, False),  # the shell of salloc
    ],
)
def test_the_processes_of_a_job_launch_nothing(large, monkeypatch, variables, here):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words = ["cluster=slurm", "cluster.account=robotics", "cluster.container_image=ours"]
    slurm = site.compose_site(words)["cluster"]
    launcher = launcher_for(large, slurm)
    assert isinstance(launcher, LocalLauncher if here else SlurmLauncher)
    launcher.check(large)


def test_what_cannot_run_is_refused_with_the_way_out(large):
    with pytest.raises(ConfigError, match=r"32 machines.*parallel=single"):
        launcher_for(large, LOCAL).run(large)
    with pytest.raises(ConfigError, match="256 processes"):
        LocalLauncher().run(large)
    slurm = site.compose_site(["cluster=slurm"])["cluster"]
    with pytest.raises(ConfigError, match="account"):
        launcher_for(large, slurm).run(large)
    with pytest.raises(ConfigError, match="the image you built from our Dockerfile"):
        launcher_for(large, {**slurm, "account": "robotics"}).run(large)
    with pytest.raises(ConfigError, match="'slurm'"):
        launcher_for(large, {"executor": "slum"})
    with pytest.raises(ConfigError, match="'partition'"):
        launcher_for(large, {"executor": "slurm", "partitoin": "batch"})


def test_slurm_gets_the_jobs_machines_mounts_and_variables(large):
    settings = SlurmSettings(
        account="robotics",
        container_image="registry/nemo-cosmos:1",
        container_mounts=("/a:/a",),
        env_vars={"A": "1"},
    )
    job = Job("small", large.recipe, (), Resources(2, 8), ["/data:/data"], {"B": "2"})
    executor = SlurmLauncher(settings).executor(job)
    assert isinstance(executor, run.SlurmExecutor)
    assert (executor.nodes, executor.gpus_per_node) == (2, 8)
    assert executor.container_image == "registry/nemo-cosmos:1"
    assert executor.container_mounts == ["/a:/a", "/data:/data"]
    assert executor.env_vars.items() >= {"A": "1", "B": "2"}.items()


def test_a_recipe_runs_here_with_its_environment(monkeypatch, tmp_path):
    seen = []

    def fake(*arguments, **named):
        seen.append(os.environ.get("COLOUR"))
        return tmp_path

    recipe = run.Partial(fake)
    job = Job("fake", recipe, env={"COLOUR": "blue"})
    assert LocalLauncher().run(job).folder == tmp_path
    assert seen == ["blue"] and "COLOUR" not in os.environ


def test_a_command_runs_in_a_process_of_its_own_and_reports_its_failure(capfd):
    assert LocalLauncher().run(Job.for_command(["configure"])) == Started()
    assert "executor: local" in capfd.readouterr().out
    with pytest.raises(JobFailedError, match="exit code 2"):
        LocalLauncher().run(Job.for_command(["configure", "parallel=tp88"]))


def test_a_chain_here_ends_with_its_first_failure(capfd):
    lines = (["configure"], ["configure", "parallel=tp88"], ["models"])
    with pytest.raises(JobFailedError, match="exit code 2"):
        run_chain([Job.for_command(line) for line in lines], LOCAL)
    printed = capfd.readouterr().out
    assert "executor: local" in printed and "diffusion_7b" not in printed


def test_a_recipe_that_only_python_knows_has_no_script_and_no_chain(large):
    for jobs in ([large], [large, large]):
        with pytest.raises(ConfigError, match=r"Job\.for_recipe"):
            chain_scripts(jobs, {"executor": "slurm"})


def test_after_another_job_a_recipe_is_read_again(capfd):
    def stale():
        raise AssertionError("the recipe was configured before its weights were there")

    job = Job("world", run.Partial(stale), ["configure"], after="before")
    assert LocalLauncher().run(job) == Started()
    assert "executor: local" in capfd.readouterr().out


@pytest.mark.slow
def test_torchrun_starts_the_processes_and_reports_their_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("nemo_run.config._NEMORUN_HOME", str(tmp_path / "experiments"))
    monkeypatch.setenv("PATH", os.defpath)  # an environment that is not activated
    two = Resources(devices_per_node=2)
    TorchrunLauncher().run(Job.for_command(["configure"], two))
    with pytest.raises(JobFailedError, match="FAILED"):
        TorchrunLauncher().run(Job.for_command(["configure", "parallel=tp88"], two))


def test_home_is_expanded_behind_the_equals_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    words = ["data.path=[~/a,~/b~/c]", "log.log_dir=~/runs"]
    recipe = configure_recipe("diffusion_nano_text2world", words, site.compose_site(), False)
    assert list(recipe.data.path) == ["/home/ada/a", "/home/ada/b~/c"]
    assert recipe.log.log_dir == "/home/ada/runs"


def test_the_users_words_come_after_the_sites():
    composed = site.compose_site(["parallel=tp8_cp2", "storage.outputs=/runs"])
    words = ["trainer.strategy.context_parallel_size=4"]
    recipe = configure_recipe("diffusion_7b_text2world", words, composed, False)
    assert recipe.trainer.strategy.context_parallel_size == 4
    assert recipe.trainer.strategy.tensor_model_parallel_size == 8
    assert recipe.log.log_dir == "/runs"


@pytest.mark.parametrize(
    "image",
    [
        "registry.example.com:5000/team/nemo-cosmos:0.1",
        "nvcr.io#nvidia/nemo:26.02.01",
        "docker://me@registry.example.com#nemo_cosmos:0.1",
        "dockerd://nemo-cosmos:cpu",
        "nemo-cosmos@sha256:" + "0a" * 32,
    ],
)
def test_images_as_enroot_takes_them(image):
    check_slurm_job(SlurmSettings(container_image=image), Job.for_command(["models"]))
