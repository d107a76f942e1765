"""``launch check`` on two machines of a real Slurm, of which one may be at fault.

A minute or more each, so they are asked for with ``NEMO_COSMOS_E2E=slurm``.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from nemo_cosmos.launch.jobs.watch import list_jobs
from nemo_cosmos.site import keep_choices

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("own_places"),
    pytest.mark.skipif(
        os.environ.get("NEMO_COSMOS_E2E") != "slurm", reason="NEMO_COSMOS_E2E=slurm asks for it"
    ),
]

PROGRAM = Path(__file__).with_name("faulty_machine.py")


@pytest.fixture
def check(cluster, tmp_path, command):
    """Check two machines, of which one may be at fault; what the command printed."""

    def run(faulty: str | None):
        program = tmp_path / "program"
        # In the place of 'python -m nemo_cosmos'.
        program.write_text(
            f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -W ignore {PROGRAM} "${{@:3}}"\n'
        )
        program.chmod(0o755)
        choices = ["cluster=slurm", "cluster.gpus_per_node=0", f"cluster.python={program}"]
        keep_choices([*choices, f"cluster.env_vars.FAULTY_NODE={faulty or 'none'}"])
        return command("launch", "check", "--on", "slurm", "--nodes", "2")

    yield run
    cluster.clear()


def page_of(printed: str) -> dict[str, list[str]]:
    """The words of each line of the page by the thing that it is about."""
    lines = [line.removeprefix("0: ").split(maxsplit=1) for line in printed.splitlines()]
    verdicts = [each for each in lines if len(each) == 2 and each[0] in ("fine", "slow", "wrong")]
    return {text.partition("  ")[0]: [word, text] for word, text in verdicts}


def test_two_machines_fill_a_page_and_the_exit_code_says_what_it_says(check):
    ended = check(None)
    page = page_of(ended.stdout)
    assert [name.partition(" ")[0] for name in page] == [
        *("machines", "software", "numbers", "speed", "exchange", "10")
    ], ended.stdout + ended.stderr
    assert "2 machines, 2 ranks on 2 x CPU" in page["machines"][1]
    for name in ("machines", "software", "numbers"):
        assert page[name][0] == "fine", page[name]
    # How fast it is depends on what else this machine does.
    assert ended.returncode == any(word != "fine" for word, _ in page.values())
    assert len(list_jobs()) == 1
    assert "Nothing is slow or wrong." in ended.stdout or "need attention" in ended.stdout


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="each machine needs a core")
def test_a_machine_that_is_wrong_and_slow_is_named(check):
    ended = check("n2")
    page = page_of(ended.stdout)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    word, text = page["numbers"]
    assert word == "wrong" and "n2 (rank 1): attention" in text and "n1" not in text
    word, text = page["speed"]
    assert word == "slow" and "n2 (rank 1)" in text and "n1" not in text
    assert page["10 steps"][0] != "wrong"
    # A check that says what is wrong has done its work: it is not started again.
    assert "goes back into the queue" not in ended.stdout
