"""A real Slurm of four machines, which are daemons of this one (``slurm_cluster.sh``)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemo_cosmos.launch import Started
from nemo_cosmos.launch.jobs.state import Word
from nemo_cosmos.launch.jobs.watch import job_log, state_of

REPOSITORY = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("slurm_cluster.sh")
NUM_NODES = 4
#: Ports of clusters lie above those at which the ranks of their jobs meet, and below those that the
#: system gives to anyone.
FIRST_PORT, NUM_PLACES, JOBS_PER_CLUSTER = 24000, 80, 40


#: Long enough for a machine that does much else.
LIMIT_S, ENDED_S = 300.0, 30.0


@dataclass(frozen=True)
class Cluster:
    """A running Slurm, which ``SLURM_CONF`` names.

    Attributes:
        folder: the files of its daemons.
    """

    folder: Path

    def lose(self, node: str) -> None:
        """Kill all that runs on one machine, its daemon too."""
        subprocess.run(["bash", str(SCRIPT), "lose", str(self.folder), node], check=True)

    def revive(self, node: str) -> None:
        """Start the daemon of a machine again."""
        subprocess.run(["bash", str(SCRIPT), "revive", str(self.folder), node], check=True)

    def queue(self) -> str:
        """What waits and runs."""
        return subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout

    def update(self, *words: str) -> None:
        """Change what the administrator of a cluster may change."""
        subprocess.run(["scontrol", "update", *words], check=False)

    def clear(self) -> None:
        """Cancel all jobs."""
        subprocess.run(["scancel", f"--user={os.getuid()}"], check=True)

    def wait_for(self, job: str, *words: Word, limit_s: float = LIMIT_S) -> None:
        """Wait until a job is in one of some states."""
        until_s = time.monotonic() + limit_s
        ended_s: float | None = None
        while (state := state_of(job)).word not in words:
            now_s = time.monotonic()
            # A job that goes back into the queue may look ended for a moment.
            ended_s = (ended_s or now_s) if state.word.is_ended else None
            hopeless = ended_s is not None and now_s - ended_s > ENDED_S
            assert now_s < until_s and not hopeless, (job, state, self.queue(), tail(job))
            time.sleep(0.2)

    @staticmethod
    def number_of(started: Started) -> str:
        """The number of a job that was queued."""
        assert started.number is not None
        return started.number


def tail(job: str) -> str:
    """The end of a job's log."""
    return "\n".join(list(job_log(job))[-40:])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four machines named n1 to n4."""
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged")):
        pytest.skip("Slurm is not installed: bash tests/e2e/slurm_cluster.sh install")
    if os.getuid() != 0:
        pytest.skip("Slurm's daemons need root")
    folder = tmp_path_factory.mktemp("slurm")
    port, first_job = _free_ports()
    started = subprocess.run(
        ["bash", str(SCRIPT), "start", str(folder), str(NUM_NODES)],
        env={**os.environ, "SLURM_BASE_PORT": str(port), "SLURM_FIRST_JOB": str(first_job)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if started.returncode:
        pytest.skip(f"Slurm does not start here: {started.stderr[-500:]}")
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "etc" / "slurm.conf")
    yield Cluster(folder)
    subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], check=False, timeout=60)
    os.environ.pop("SLURM_CONF")
    if before is not None:
        os.environ["SLURM_CONF"] = before


def _free_ports() -> tuple[int, int]:
    """The first of a few ports in a row that nobody listens to, and a number for the first job.

    A job's ranks meet at a port made of its number, which must be another one for each cluster that
    tests have on this machine at the same time.
    """
    places = [(number + os.getpid()) % NUM_PLACES for number in range(NUM_PLACES)]
    for place in places:
        first = FIRST_PORT + 100 * place
        try:
            for port in range(first, first + NUM_NODES + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first, 100 + JOBS_PER_CLUSTER * place
    pytest.skip("no free ports")


@pytest.fixture
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what jobs note and keep in the test's folder, which is also where they run."""
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site" / "site.txt"))
    monkeypatch.setenv("NEMO_COSMOS_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(own_places: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, as a person does."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "nemo_cosmos", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )

    return run
