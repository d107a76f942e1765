"""What launchers put into the environment of a recipe's processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nemo_run.config import set_nemorun_home
from nemo_run.core.execution.slurm import SlurmBatchRequest
from nemo_run.core.packaging import Packager

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos import site
from nemo_cosmos.launch import Job, SlurmLauncher, SlurmSettings, configure_recipe
from nemo_cosmos.launch.environment import describe_job_environment, job_environment

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"


@pytest.fixture(autouse=True)
def own_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    for name in [name for name in os.environ if name.startswith(("CUDA_", "NCCL_", "NVTE_"))]:
        monkeypatch.delenv(name)


def job(*conf: str) -> Job:
    words = [f"parallel={option}" for option in conf]
    recipe = configure_recipe("diffusion_7b_text2world", [], site.compose_site(words), False)
    return Job.for_recipe(recipe)


@pytest.mark.parametrize(
    ("option", "queues"),
    [("tp8_cp2", "1"), ("cp2", "1"), ("dp8", None), ("fsdp", None), ("single", None)],
)
def test_variables_follow_the_layout(option: str, queues: str | None) -> None:
    assert job_environment(job(option), {}).get(QUEUES) == queues


def test_the_jobs_and_the_sites_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "1")  # of the shell, which processes inherit
    variables = job_environment(job("tp8_cp2"), {QUEUES: "32"})
    assert variables[QUEUES] == "32" and "NCCL_NVLS_ENABLE" not in variables


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_a_site_adds_variables_of_its_own(cluster: str) -> None:
    words = [
        f"cluster={cluster}",
        "cluster.env_vars.NCCL_DEBUG=INFO",
        f"cluster.env_vars.{QUEUES}=32",
    ]
    chosen = site.compose_site(words)["cluster"]["env_vars"]
    variables = job_environment(job("tp8_cp2"), chosen)
    assert (variables["NCCL_DEBUG"], variables[QUEUES]) == ("INFO", "32")


def test_a_command_gets_the_sites_variables_alone() -> None:
    command = Job.for_command(["models"])
    assert job_environment(command, {"A": "1"}) == {"A": "1"}
    assert describe_job_environment(command, {}) == []


def test_the_batch_script_exports_them(tmp_path: Path) -> None:
    set_nemorun_home(str(tmp_path))
    settings = SlurmSettings(account="robotics", container_image="registry/nemo-cosmos:1")
    executor = SlurmLauncher(settings).executor(job("tp8_cp2"))
    executor.assign("exp", str(tmp_path), "task", "task")
    executor.packager = Packager()
    script = SlurmBatchRequest(
        launch_cmd=["sbatch"],
        jobs=["task"],
        command_groups=[["true"]],
        executor=executor,
        max_retries=0,
        extra_env={},
    ).materialize()
    assert f"export {QUEUES}=1" in script
    assert "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in script
