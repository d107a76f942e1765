"""A package with one file and an entry point adds a guard: installed for real, by pip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nemo_cosmos.guardrails import GuardPolicy, RefusedError, registry

GUARD = """
from nemo_cosmos.guardrails import Verdict


class NoBalloons:
    name, kind = "no_balloons", "prompt"

    def check(self, x):
        if "balloon" in x:
            return Verdict(False, self.name, "balloons", "it holds a balloon")
        return Verdict(True, self.name, "safe", "no balloon")
"""


def build_wheel(folder: Path) -> Path:
    """A minimal wheel, as PEP 427 describes it."""
    info = "no_balloons-1.0.dist-info"
    files = {
        "no_balloons.py": GUARD,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: no-balloons\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": (
            f"[{registry.ENTRY_POINT_GROUP}]\nno_balloons = no_balloons:NoBalloons\n"
        ),
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / "no_balloons-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", str(site), str(build_wheel(tmp_path))]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("no_balloons", None)


def test_an_installed_guard_is_asked_and_can_be_turned_off_by_its_name(installed, tmp_path):
    off = ["text_classifier", "face_blur"]
    policy = GuardPolicy.default(off, audit_path=tmp_path / "a.jsonl")
    with pytest.raises(RefusedError, match="it holds a balloon"):
        policy.check_prompt("a red balloon over a field")
    assert "no_balloons" in [v.guard for v in policy.check_prompt("a red kite over a field")]
    without = GuardPolicy.default([*off, "no_balloons"], audit_path=tmp_path / "a.jsonl")
    verdicts = {v.guard: v for v in without.check_prompt("a red balloon over a field")}
    assert verdicts["no_balloons"].category == "disabled"


def test_without_the_package_there_is_no_such_guard():
    assert "no_balloons" not in registry.guard_names()
