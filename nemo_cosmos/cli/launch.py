"""Start a recipe on several devices or machines, through NeMo-Run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nemo_run as run

from nemo_cosmos.errors import ConfigError


def launch(recipe: run.Partial, cluster: dict[str, Any]) -> None:
    """Run a recipe with NeMo-Run: torchrun on this machine, or a Slurm job.

    Args:
        recipe: configured.
        cluster: the site's ``cluster`` group.

    Raises:
        ConfigError: more machines than this one without a cluster, or no Slurm account.
    """
    with run.Experiment(recipe.log.name) as experiment:
        experiment.add(recipe, executor=executor_for(recipe, cluster), name="train")
        experiment.run(detach=cluster["executor"] == "slurm", tail_logs=True)


def executor_for(recipe: run.Partial, cluster: dict[str, Any]) -> run.Executor:
    """The NeMo-Run executor that fits the recipe's layout and the site."""
    devices, num_nodes = recipe.trainer.devices, recipe.trainer.num_nodes
    if cluster["executor"] == "local":
        if num_nodes > 1:
            raise ConfigError(
                f"The recipe asks for {num_nodes} machines and this site has one. Set "
                "trainer.num_nodes=1 and a layout that fits one machine (--conf parallel=single), "
                "or choose a cluster (--conf cluster=slurm)."
            )
        return run.LocalExecutor(ntasks_per_node=devices, launcher="torchrun")
    if not cluster["account"]:
        raise ConfigError(
            "Slurm needs an account. Set it once with 'nemo-cosmos configure cluster=slurm "
            "cluster.account=NAME', or give --conf cluster.account=NAME."
        )
    return run.SlurmExecutor(
        account=cluster["account"],
        partition=cluster["partition"],
        time=cluster["time"],
        nodes=num_nodes,
        ntasks_per_node=devices,
        gpus_per_node=devices,
        mem=cluster["mem"],
        exclusive=cluster["exclusive"],
        container_image=cluster["container_image"],
        container_mounts=list(cluster["container_mounts"]),
        env_vars=dict(cluster["env_vars"]),
        tunnel=run.LocalTunnel(job_dir=str(Path(cluster["job_dir"]).absolute())),
        packager=run.Packager(),
        launcher="torchrun",
    )
