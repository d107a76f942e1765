"""Slurm's own commands, with its words in our errors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from nemo_cosmos.errors import ConfigError, NemoCosmosError, ServiceError

#: A part of what Slurm says, and what helps.
_FIXES = {
    "unrecognized option": "Take it out of cluster.sbatch; 'sbatch --help' lists what there is.",
    "configuration file": "Slurm is not set up in this shell: look at SLURM_CONF, or submit from a "
    "login node.",
    "partitiontimelimit": "Lower cluster.time; 'sinfo -o \"%P %l\"' shows the limits.",
    "partitionnodelimit": "Ask for fewer machines (--nodes), or set cluster.partition; 'scontrol "
    "show partition' shows the limits.",
    "partitionconfig": "The job asks for more machines (--nodes), cores (cluster.cpus_per_task), "
    "memory (cluster.mem) or time (cluster.time) than the partition has; 'scontrol show partition' "
    "and 'scontrol show node' show what there is.",
    "account": "Set cluster.account; 'sacctmgr show associations user=$USER' lists yours.",
    "partition": "Set cluster.partition; 'sinfo -s' lists those that exist.",
    "qos": "Set cluster.qos; 'sacctmgr show qos' lists those that exist.",
    "node count": "Ask for fewer machines (--nodes); 'sinfo' shows how many a partition has.",
    "node name": "Correct cluster.sbatch; 'sinfo -N' lists the machines.",
    "number of nodes": "Ask for as many machines (--nodes) as cluster.sbatch names.",
    "invalid --": "Correct cluster.sbatch; 'man sbatch' says what its options take.",
    "node configuration": "Ask for fewer machines (--nodes), or less of each (--devices, "
    "cluster.cpus_per_task, cluster.mem, cluster.gpus_per_node); 'scontrol show node' says what "
    "they have.",
    "time limit": "Lower cluster.time; 'sinfo -o \"%P %l\"' shows the limits.",
    "generic resource": "Set cluster.gpus_per_node to what Slurm counts on a machine, or to 0.",
    "gres": "Set cluster.gpus_per_node to what Slurm counts on a machine, or to 0.",
    "reservation": "Set cluster.reservation; 'scontrol show reservation' lists them.",
    "license": "'scontrol show licenses' lists them; cluster.sbatch asks for one.",
    "dependency": "The job before it has failed or is not known; start the chain again.",
    "feature": "Set cluster.constraint; 'sinfo -o \"%N %f\"' lists the features.",
}
_UNREACHABLE = ("unable to contact", "connection refused", "communication", "socket timed out")


def submit(script: Path, after: str | None = None) -> str:
    """Put a script into the queue and return its number there.

    Args:
        script: the script.
        after: the number of a job that must have ended well before.

    Raises:
        ConfigError: Slurm refuses it, or there is no Slurm here.
        ServiceError: Slurm does not answer.
    """
    # A job whose predecessor has failed would wait for ever.
    order = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    said = _call(["sbatch", "--parsable", *order, str(script)], f"the script '{script}'")
    return said.strip().splitlines()[-1].partition(";")[0]


def refuse_forever(number: str, reason: str) -> NemoCosmosError:
    """Return the error of a job that Slurm queued and would never start.

    Args:
        number: the job's number.
        reason: why, in Slurm's words.
    """
    return _explained("squeue", f"to start job {number}, and it was taken back", reason)


def queued_jobs() -> Mapping[str, tuple[str, str, str]]:
    """Return state, reason and machines of this user's jobs that Slurm still remembers.

    Returns:
        by the job's number, or ``NUMBER_PLACE`` for a task of an array.

    Raises:
        NemoCosmosError: the errors of :func:`submit`.
    """
    words = ["squeue", f"--user={os.getuid()}", "--states=all", "--array", "--noheader"]
    said = _call([*words, "--format=%i|%T|%N|%r"], "to list jobs")
    rows = (line.split("|", 3) for line in said.splitlines() if line.count("|") >= 3)
    return {number: (state, reason, nodes) for number, state, nodes, reason in rows}


def past_jobs(numbers: Sequence[str]) -> Mapping[str, tuple[str, str, str]]:
    """Return state, reason and machines of jobs that have left the queue.

    Args:
        numbers: the jobs, and tasks of arrays.

    Returns:
        those that Slurm's accounting knows; nothing where a cluster keeps no accounts.
    """
    if shutil.which("sacct") is None:
        return {}
    words = ["sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={','.join(numbers)}"]
    ended = subprocess.run(
        [*words, "--format=JobID,State,ExitCode,NodeList"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split("|") for line in ended.stdout.splitlines() if line.count("|") == 3)
    return {
        number: (state, "" if code == "0:0" else f"exit code {code.partition(':')[0]}", nodes)
        for number, state, code, nodes in rows
    }


def require_containers() -> None:
    """Require pyxis, with which srun runs a process in a container.

    Without it, sbatch takes a script whose srun then refuses its options.

    Raises:
        ConfigError: there is no pyxis, or no Slurm here.
    """
    if "--container-image" not in _call(["srun", "--help"], "to name its options"):
        raise ConfigError(
            "This cluster's srun has no --container-image: pyxis, which runs containers, is not "
            "installed. Set cluster.container_image=null: jobs then run in the Python environment "
            "of cluster.python, or in this one."
        )


def cancel(number: str) -> None:
    """Take a job out of the queue.

    Raises:
        NemoCosmosError: the errors of :func:`submit`.
    """
    _call(["scancel", number], f"to cancel job {number}")


def _call(words: Sequence[str], what: str) -> str:
    program = words[0]
    if shutil.which(program) is None:
        raise ConfigError(
            f"There is no '{program}' on this machine, so no job can be submitted from it. Run the "
            "command on a login node of the cluster; or print the script here with --dryrun and "
            "submit it there."
        )
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise _explained(program, what, ended.stderr.strip() or ended.stdout.strip())
    return ended.stdout


def _explained(program: str, what: str, said: str) -> NemoCosmosError:
    """Make an error of what Slurm says."""
    words = " ".join(said.replace(f"{program}: ", "").split())
    lower = words.lower()
    message = f"Slurm refuses {what}: {words or '(it says nothing)'}."
    if any(part in lower for part in _UNREACHABLE):
        return ServiceError(f"{message} Its controller does not answer; 'scontrol ping' asks it.")
    fix = next((text for part, text in _FIXES.items() if part in lower), "")
    return ConfigError(f"{message} {fix}".rstrip())
