"""A disk that fills costs one error; with room, the same command ends as if nothing had happened.

Curation, which has phases of its own, has this test in its room.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError

PROGRAM = Path(__file__).parent / "small_disk.py"


def starter() -> tuple[list[str], str]:
    """What starts the program where a tmpfs may be mounted; else what limits files instead."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is not None:
        mounts = [*prefix, "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(mounts, capture_output=True, check=False).returncode == 0:
            return prefix, "tmpfs"
    return [], "limit"


@pytest.mark.slow
def test_every_writer_on_a_small_disk(tmp_path):
    for name in ("flan_t5_small_encoder", "flan_t5_small_tokenizer"):
        try:
            asset_path(name)
        except AssetError as error:
            pytest.skip(str(error))
    prefix, how = starter()
    (tmp_path / "disk").mkdir()
    words = [sys.executable, "-W", "ignore", str(PROGRAM), str(tmp_path), str(tmp_path / "disk")]
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROGRAM.parents[2]),
        "NEMO_COSMOS_AUDIT_LOG": str(tmp_path / "audit.jsonl"),
        "NEMO_COSMOS_SITE": str(tmp_path / "site.txt"),
    }
    run = subprocess.run(
        [*prefix, *words, how], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    ends = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert {end["command"] for end in ends} == {"tokenize", "generate", "evaluate", "pretrain"}
    for end in ends:
        assert end["code"] == 1, end
        assert end["message"].startswith("Error: ") and "Traceback" not in end["message"], end
        assert "ree some space" in end["message"], end
        assert end["kept"] and end["same"] and not end["left"], end
