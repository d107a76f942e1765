"""What is asked of NVIDIA's own tool, whatever stands under its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.platform.accelerator.facts import read_facts


@pytest.mark.parametrize(
    ("prints", "installed"),
    [
        (r"printf '\203\377\n,,,,\nNVIDIA H100, 570.10, Disabled\n'", ("NVIDIA H100",)),
        (r"printf '\203\377\n'", ()),
        ("echo 'it could not communicate with the driver'; exit 9", ()),
    ],
)
def test_any_output_of_nvidia_smi_is_survived(
    prints: str, installed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{prints}\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    read_facts.cache_clear()
    try:
        assert read_facts(None).installed == installed
    finally:
        read_facts.cache_clear()  # what it found is false on this machine
