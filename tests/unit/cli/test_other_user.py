"""Commands of a user whose id no table knows: no home, an ASCII terminal, spaces in TMPDIR."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UID = 54321


@pytest.fixture
def run_as_other(tmp_path):
    """Run a command line as that user, who may read everything and write to one folder only."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root may run a command as another user, with setpriv")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    mine, temporary = tmp_path / "mine", tmp_path / "a b"
    for folder in (mine, temporary):
        folder.mkdir()
        os.chown(folder, UID, UID)
    reads = "+dac_read_search"  # Python itself may lie in root's home
    words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    words += [f"--inh-caps={reads}", f"--ambient-caps={reads}"]
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3]),
        "TMPDIR": str(temporary), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody become another user")

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, sys.executable, "-W", "ignore", "-m", "nemo_cosmos", *arguments],
            env=environment | variables, cwd=mine, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_site_is_read_and_kept_where_the_user_says(run_as_other, tmp_path):
    assert "There are no runs" in run_as_other("status").stdout
    (tmp_path / "mine" / "größe").mkdir()
    shown = run_as_other("status", "größe")
    assert shown.returncode == 0 and "There are no runs in 'gr" in shown.stdout, shown.stderr
    refused = run_as_other("configure", "logger=none")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "NEMO_COSMOS_SITE" in refused.stderr  # where the choices are kept
    site = str(tmp_path / "mine" / "site.txt")
    assert run_as_other("configure", "logger=none", NEMO_COSMOS_SITE=site).returncode == 0
    assert Path(site).read_text(encoding="utf-8") == "logger=none\n"


def test_a_prompt_is_judged_where_a_log_can_be_written(run_as_other, tmp_path):
    words = ("guard", "text", "a robot — arm picks up a cup", "--json")
    words += ("--disable-guard", "text_classifier")
    refused = run_as_other(*words)
    assert refused.returncode == 3 and "Traceback" not in refused.stderr
    assert "Set NEMO_COSMOS_AUDIT_LOG to a file" in json.loads(refused.stdout)["reason"]
    log = str(tmp_path / "mine" / "audit.jsonl")
    assert run_as_other(*words, NEMO_COSMOS_AUDIT_LOG=log).returncode == 0
