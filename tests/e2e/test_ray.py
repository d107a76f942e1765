"""Jobs on a real Ray cluster of two nodes, which are processes of this machine.

It takes a minute, and runs where ``NEMO_COSMOS_E2E=ray``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemo_cosmos import site
from nemo_cosmos.errors import ServiceError
from nemo_cosmos.launch import Job, RayLauncher, RaySettings, Resources
from nemo_cosmos.launch.jobs.state import JobState, Word
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log, list_jobs, state_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("NEMO_COSMOS_E2E") != "ray", reason="runs where NEMO_COSMOS_E2E=ray"
    ),
]

MOST_S = 900.0
#: Ray gives up on its own parts, and takes nodes for lost, sooner than a busy machine answers.
PATIENCE = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "20",
    "RAY_worker_register_timeout_seconds": "600",
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The server of jobs of two nodes with two cores each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": port}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**PATIENCE, "RAY_USAGE_STATS_ENABLED": "0"}.items():
            environment.setenv(name, value)
        from ray.cluster_utils import Cluster  # Ray reads them as it is imported

        # Else each node takes a third of the machine's memory for objects.
        more = {"object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args={**head, **more})
        cluster.add_node(num_cpus=2, **more)
        yield f"http://127.0.0.1:{port}"
        cluster.shutdown()


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def launcher(address: str) -> Callable[..., RayLauncher]:
    def make(**settings: object) -> RayLauncher:
        given = {"address": address, "gpus_per_node": 0, **settings}
        return RayLauncher(RaySettings(**given))  # type: ignore[arg-type]

    return make


def command(*words: str, nodes: int = 1, devices: int = 1) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices))


def wait_for(number: str, wanted: Callable[[JobState], bool]) -> JobState:
    end_s = time.monotonic() + MOST_S
    while not wanted(state := state_of(number)):
        assert time.monotonic() < end_s, f"{state}\n{chr(10).join(job_log(number))}"
        time.sleep(1)
    return state


def is_ended(state: JobState) -> bool:
    return state.word.is_ended


def test_ranks_run_on_two_nodes_and_their_lines_are_in_one_place(launcher):
    number = launcher(env_vars={"TZ": "Etc/UTC"}).run(command("configure", nodes=2)).number
    lines = list(job_log(number, follow=True))
    assert state_of(number).word is Word.DONE, lines
    assert {line[:3] for line in lines if "executor: local" in line} == {"0: ", "1: "}
    own = list(job_log(number, rank=1))
    assert any(line.strip() == "executor: local" for line in own)
    assert not any(line.startswith("0: ") for line in own)


def test_wrong_use_ends_a_chain_and_starts_nothing_again(launcher):
    chain = [command("configure", "parallel=tp88", devices=2), command("configure")]
    number = launcher(retries=3).run_chain(chain).number
    state = wait_for(number, is_ended)
    assert (state.word, state.why) == (Word.FAILED, "exit code 2")
    text = "\n".join(job_log(number))
    assert "no option 'tp88'" in text
    assert "starts again" not in text and "executor: local" not in text


def test_a_job_that_is_too_large_says_what_it_waits_for_and_is_cancelled(launcher):
    number = launcher().run(command("configure", nodes=3)).number
    state = wait_for(number, lambda state: state.why.startswith("Waits for 3 machines"))
    assert state.word is Word.WAITING and "the cluster has 2 machines" in state.why
    assert cancel_job(number) == number
    wait_for(number, is_ended)
    (row,) = list_jobs()
    assert (row["job"], row["state"]) == (number, "cancelled")


def test_an_address_without_a_cluster_is_named():
    made = RayLauncher(RaySettings(address="http://127.0.0.1:9", gpus_per_node=0))
    with pytest.raises(ServiceError, match=r"does not answer.*cluster\.address"):
        made.run(command("configure"))
