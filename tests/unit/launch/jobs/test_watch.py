"""Jobs of this machine: their records, progress, logs and end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from nemo_cosmos.errors import ConfigError, JobFailedError
from nemo_cosmos.launch import Job, LocalLauncher
from nemo_cosmos.launch.jobs.local import recorded
from nemo_cosmos.launch.jobs.logs import read_files
from nemo_cosmos.launch.jobs.record import JobRecord, TrainingRun, find_job, read_records
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log, list_jobs
from nemo_cosmos.progress import read_log_line


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))


def job(name="curate"):
    return Job(name, command=(name, "raw", "shards"))


def record(**values):
    return JobRecord(**{"launcher": "local", "number": "7", "name": "a", **values})


def only_row():
    (row,) = list_jobs()
    return row


def test_a_job_is_running_until_it_ends():
    with recorded(job()):
        assert only_row()["state"] == "running"
    assert only_row()["state"] == "done"


def test_how_a_job_failed_is_kept():
    with pytest.raises(JobFailedError), recorded(job()):
        raise JobFailedError("no")
    assert only_row()["state"] == "failed"
    with pytest.raises(KeyboardInterrupt), recorded(job("tokenize")):
        raise KeyboardInterrupt
    assert list_jobs()[0]["state"] == "cancelled"


def test_what_a_job_starts_is_no_job_of_its_own():
    with recorded(job()), recorded(job("tokenize")):
        assert only_row()["name"] == "curate"


def test_a_command_elsewhere_is_recorded_with_its_exit(run_cli):
    with pytest.raises(JobFailedError, match="exit code 2"):
        LocalLauncher().run(Job("curate", command=("curate", "--no-such-option")))
    assert only_row()["state"] == "failed"


def test_a_killed_process_and_a_later_one_of_its_number_are_told_apart():
    import socket

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = str(psutil.Process(process.pid).create_time())
    place = {"host": socket.gethostname(), "started": started}
    kept = record(number=str(process.pid), place=place, started_s=time.time())
    kept.keep()
    assert only_row()["state"] == "running"
    assert cancel_job(str(process.pid)) == str(process.pid)
    assert process.wait(timeout=10) == -signal.SIGTERM
    assert (only_row()["state"], only_row()["why"]) == ("failed", "its process was killed")
    with pytest.raises(ConfigError, match="has ended already"):
        cancel_job("a")
    replace(kept, place={**place, "host": "elsewhere"}).keep()
    assert only_row()["state"] == "unknown" and "elsewhere" in only_row()["why"]


def test_progress_comes_from_the_curves_of_late(tmp_path):
    lines = [{"step": step, "time_s": 1000 + step / 2, "loss": 1.0} for step in range(100, 141)]
    text = "\n".join(map(json.dumps, [{"step": 1, "time_s": 900.0}, *lines]))
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 14')
    with recorded(job()):
        (kept,) = read_records()
        replace(kept, runs=(TrainingRun(str(tmp_path), 240),)).keep()
        row = only_row()
    assert (row["done"], row["total"], row["unit"]) == (140, 240, "steps")
    assert row["per_s"] == pytest.approx(2.0) and row["left_s"] == pytest.approx(50.0)


def test_progress_of_other_commands_comes_from_their_log(tmp_path):
    log = tmp_path / "curate-7.log"
    log.write_text("0: curate: 3 of 9 sources, 0.50 sources/s, 12 s left\n0: something else\n")
    with recorded(job()):
        (kept,) = read_records()
        replace(kept, log=str(log)).keep()
        row = only_row()
    assert (row["done"], row["total"], row["unit"], row["left_s"]) == (3, 9, "sources", 12)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train: 12 of 60 steps, 1.05 steps/s, 46 s left, loss 14.6", (12, 60, "steps", 1.05, 46)),
        ("Copying: 1.5 of 3.0 MB, 2.0 MB/s, 1 s left", (1.5, 3.0, "MB", 2.0, 1)),
        ("train: 0 of 60 steps", (0, 60, "steps", None, None)),
        ("Epoch 0, global step 2: 'step' reached 2.0", None),
        ("3 of 4 at 10.0.0.1", None),
    ],
)
def test_a_line_of_progress_is_read_as_it_was_written(line, expected):
    found = read_log_line(line)
    assert (None if found is None else tuple(found)[1:]) == expected


def test_lines_of_one_rank(tmp_path):
    log = tmp_path / "log"
    log.write_text(" 0: a\n10: b: 3\nsrun: error\n 0: c\n")
    kept = record(log=str(log), num_processes=11)
    assert list(read_files(kept, None, 0, False, lambda: False)) == ["a", "c"]
    assert list(read_files(kept, None, 10, False, lambda: False)) == ["b: 3"]
    assert len(list(read_files(kept, None, None, False, lambda: False))) == 4
    with pytest.raises(ConfigError, match="between 0 and 10"):
        list(read_files(kept, None, 11, False, lambda: False))


def test_a_followed_log_is_read_to_its_end(tmp_path):
    log, turns = tmp_path / "log", iter([True, True, True, False])
    texts = iter(["one\ntw", "o\n", "three", "\nfour"])

    def goes_on():
        with log.open("a") as file:
            file.write(next(texts))
        return next(turns)

    kept = record(log=str(log))
    assert list(read_files(kept, None, None, True, goes_on)) == ["one", "two", "three", "four"]


def test_the_newest_of_a_name_is_meant_and_a_slip_names_the_nearest():
    record(number="7", started_s=1.0, name="world").keep()
    record(number="9", started_s=2.0, name="world", variants=(("a",), ("b",))).keep()
    assert find_job("world")[0].number == "9" and find_job("9_1")[1] == "9_1"
    with pytest.raises(ConfigError, match="nearest are 'world'"):
        find_job("wrld")
    (find_job("7")[0].file).write_text("{")  # a damaged one hides no other
    assert [each.number for each in read_records()] == ["9"]


def test_output_of_a_terminal_was_not_kept():
    with recorded(job()):
        pass
    with pytest.raises(ConfigError, match="went to the terminal"):
        list(job_log("curate"))


def test_the_words_of_the_command_line(run_cli, tmp_path):
    assert "none was started" in run_cli("logs", "x").err
    assert run_cli("cancel", "x").code == 2
    log = tmp_path / "log"
    log.write_text("0: a\n1: b\n")
    place = {"host": "elsewhere"}
    run = TrainingRun(str(tmp_path), 4)
    (tmp_path / "nemo_log_globalrank-1_localrank-1.txt").write_text("its line\n")
    kept = record(num_processes=2, place=place, runs=(run,), started_s=time.time())
    kept.keep()
    assert run_cli("logs", "7", "--rank", "1").out == "its line\n"
    assert "unknown" in run_cli("status", tmp_path).out
