"""Jobs for Ray: their scripts, and what is made of the words of its server of jobs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nemo_cosmos import site
from nemo_cosmos.errors import ConfigError, InputError, ServiceError
from nemo_cosmos.launch import Job, RayLauncher, RaySettings, Resources, run_chain
from nemo_cosmos.launch.jobs.record import read_records
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log, list_jobs
from nemo_cosmos.launch.settings import read_settings

#: In the place of Ray's command: notes its words, one a line and each quoted, and may refuse.
RAY = """#!/bin/bash
printf '%q ' "$@" >> "$RECORDS/submitted"; echo >> "$RECORDS/submitted"
[ -e "$RECORDS/refused" ] && { echo Traceback >&2; cat "$RECORDS/refused" >&2; exit 1; }
exit 0
"""


class Server(ThreadingHTTPServer):
    """A server of jobs, as Ray's dashboard has one.

    Attributes:
        jobs: what it says of each, by number.
        logs: what each has printed.
        stopped: those that were stopped.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.stopped: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def has(self, number: str, status: str, log: str = "", **more: Any) -> None:
        self.jobs[number] = {"submission_id": number, "status": status, **more}
        self.logs[number] = log


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts == ["api", "version"]:
            self._answer({"ray_version": "2"})
        elif parts == ["api", "jobs"]:
            self._answer(list(self.server.jobs.values()))
        elif parts[2] in self.server.logs:
            self._answer({"logs": self.server.logs[parts[2]]})
        else:
            self._answer(f"No job '{parts[2]}'", 404)

    def do_POST(self) -> None:
        self.server.stopped.append(self.path.split("/")[3])
        self._answer({"stopped": True})

    def _answer(self, said: object, code: int = 200) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode() if code == 200 else str(said).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("RECORDS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ray").write_text(RAY)
    (programs / "ray").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(programs / "python"))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def launcher(server: Server) -> Callable[..., RayLauncher]:
    def make(**settings: Any) -> RayLauncher:
        return RayLauncher(RaySettings(**{"address": server.address, **settings}))

    return make


def command(*words: str, nodes: int = 1, devices: int = 1, **more: Any) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices), **more)


def submitted(folder: Path) -> list[list[str]]:
    """The words of each submission."""
    return [shlex.split(line) for line in (folder / "submitted").read_text().splitlines()]


def driver(words: list[str]) -> list[list[str]]:
    """The commands of a job, as its shell reads them."""
    parts = shlex.split(words[-1])
    ends = [place for place, word in enumerate(parts) if word == "&&"] + [len(parts)]
    return [parts[begin + 1 : end] for begin, end in pairwise(ends)]


def test_what_is_submitted_is_what_the_script_submits(launcher, tmp_path):
    prompt = 'it\'s a "red" block; $HOME `date` \\ && x'
    job = command("generate", "my world", "--prompt", prompt, nodes=2, devices=8)
    made = launcher(python="/opt/python", work_dir="/shared/my work", resources={"rdma": "1"})
    number = made.run(job).number
    (words,) = submitted(tmp_path)
    assert words[:2] == ["job", "submit"] and f"--submission-id={number}" in words
    folder, *_ = shlex.split(words[-1])[1:2]
    assert folder == "/shared/my work"
    (ranks,) = driver(words)
    assert ranks[:3] == ["/opt/python", "-m", "nemo_cosmos.launch.ray.nodes"]
    assert {"--nodes=2", "--devices=8", "--gpus=8", "--resource=rdma=1"} <= set(ranks)
    assert ranks[ranks.index("--") + 1 :] == ["generate", "my world", "--prompt", prompt]
    # The script, by hand, says the same.
    script = tmp_path / "outputs" / "ray" / f"{number}.sh"
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", str(script)], check=True, env={**os.environ, "PATH": path})
    assert submitted(tmp_path)[1] == words


def test_a_cancelled_job_has_the_time_to_save(launcher, tmp_path):
    launcher(save_s=77).run(command("curate"))
    (words,) = submitted(tmp_path)
    (given,) = [word for word in words if word.startswith("--runtime-env-json=")]
    variables = json.loads(given.partition("=")[2])["env_vars"]
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "77"


def test_each_run_of_a_sweep_is_a_job_and_a_chain_is_one(launcher, server, tmp_path):
    variants = [("lr=1e-5", "log.name=a"), ("lr=1e-4", "log.name=b")]
    number = launcher().run(command("pretrain", variants=variants)).number
    first, second = submitted(tmp_path)
    assert f"--submission-id={number}-1" in second and driver(first)[0][-2:] == [*variants[0]]
    (tmp_path / "submitted").unlink()
    cluster = {"executor": "ray", "address": server.address}
    run_chain([command("curate"), command("tokenize", devices=2)], cluster)
    (words,) = submitted(tmp_path)
    assert [each[-1] for each in driver(words)] == ["curate", "tokenize"]
    (record, _) = read_records()
    assert (record.name, record.num_processes) == ("curate+tokenize", 2)
    with pytest.raises(ConfigError, match="exclude each other"):
        launcher().run_chain([command("pretrain", variants=variants), command("evaluate")])


@pytest.mark.parametrize(
    ("settings", "job", "message"),
    [
        ({"max_nodes": 4}, {"nodes": 5}, "at most 4"),
        ({"gpus_per_node": 4}, {"devices": 8}, "cluster.gpus_per_node"),
        ({"address": "ray://head:10001"}, {}, "http://HEAD:8265"),
        ({"env_vars": {"HF_TOKEN": "x"}}, {}, "cluster.secrets=[HF_TOKEN]"),
        ({}, {"env": {"URI": "mongodb://me:hunter2@host/db"}}, "holds a password"),
        ({}, {"mounts": ("/a:/a",)}, "have their folders already"),
        ({"resources": {"rdma": "one"}}, {}, "must be a number"),
        ({"retries": -1}, {}, "0 or more"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(launcher, settings, job, message):
    with pytest.raises(InputError) as refused:
        launcher(**settings).check(command("evaluate", **job))
    assert message in str(refused.value) and "hunter2" not in str(refused.value)


def test_the_file_of_the_cluster_is_that_of_the_settings():
    shipped = site.compose_site(["cluster=ray"], with_kept=False)["cluster"]
    shipped.pop("executor")
    assert read_settings(RaySettings, shipped) == RaySettings()
    with pytest.raises(ConfigError, match="'address'"):
        read_settings(RaySettings, {"adress": "http://head:8265"})


@pytest.mark.parametrize(
    ("said", "log", "word", "why"),
    [
        (
            {"status": "PENDING", "message": "Job has not started yet."},
            "",
            "waiting",
            "not started",
        ),
        ({"status": "RUNNING"}, "0: Curating: 3 of 9 sources\n", "running", ""),
        ({"status": "RUNNING"}, "Waits for 2 machines with 8 GPU\n", "waiting", "Waits for 2"),
        ({"status": "SUCCEEDED"}, "", "done", ""),
        ({"status": "STOPPED"}, "", "cancelled", ""),
        ({"status": "FAILED", "driver_exit_code": 2}, "", "failed", "exit code 2"),
        ({"status": "FAILED", "message": "the node died"}, "", "failed", "the node died"),
    ],
)
def test_the_state_of_a_job_and_why_it_waits(launcher, server, said, log, word, why):
    number = launcher().run(command("curate")).number
    (row,) = list_jobs()
    assert (row["state"], row["on"]) == ("unknown", "ray")
    server.has(number, log=log, **said)
    (row,) = list_jobs()
    assert row["state"] == word and why in row["why"]


def test_a_log_is_followed_until_the_job_has_ended(launcher, server):
    number = launcher().run(command("curate", devices=2)).number
    server.has(number, "RUNNING", "0: one\n1: two\n0: thr")
    lines = job_log(number, follow=True)
    assert [next(lines), next(lines)] == ["0: one", "1: two"]
    server.has(number, "SUCCEEDED", "0: one\n1: two\n0: three\n1: four")
    assert list(lines) == ["0: three", "1: four"]
    assert list(job_log(number, rank=1)) == ["two", "four"]


def test_one_run_of_a_sweep_is_cancelled_or_all(launcher, server):
    variants = [("lr=1", "log.name=a"), ("lr=2", "log.name=b")]
    number = launcher().run(command("pretrain", variants=variants)).number
    for place in (0, 1):
        server.has(f"{number}-{place}", "RUNNING")
    assert cancel_job(f"{number}_1") == f"{number}_1"
    cancel_job(number)
    assert server.stopped == [f"{number}-{place}" for place in (1, 0, 1)]


def test_a_refusal_is_in_rays_words(launcher, tmp_path):
    (tmp_path / "refused").write_text("RuntimeError: Ray version mismatch: 2.59 and 2.60.\n")
    with pytest.raises(ConfigError, match=r"mismatch: 2\.59 and 2\.60\..*ray --version"):
        launcher().run(command("curate"))
    assert not read_records()


def test_without_a_cluster_or_a_ray_the_way_out_is_named(launcher, tmp_path, monkeypatch):
    with pytest.raises(ServiceError, match=r"does not answer.*cluster\.address"):
        launcher(address="http://127.0.0.1:9").run(command("curate"))
    (tmp_path / "bin" / "ray").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no 'ray'.*--dryrun"):
        launcher().run(command("curate"))
