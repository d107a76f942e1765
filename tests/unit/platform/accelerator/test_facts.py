"""What is asked of NVIDIA's own tool, whatever stands under its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.platform.accelerator import facts
from nemo_cosmos.platform.accelerator.facts import Facts, Gpu, read_facts
from nemo_cosmos.platform.accelerator.findings import GPU, findings


@pytest.mark.parametrize(
    ("prints", "installed", "said"),
    [
        (r"printf '\203\377\n,,,,\nNVIDIA H100, 570.10, Disabled\n'", ("NVIDIA H100",), ""),
        (r"printf '\203\377\n'", (), "nvidia-smi lists no GPU: "),
        ("exit 0", (), "nvidia-smi lists no GPU"),
        ("echo 'no driver'; exit 9", (), "nvidia-smi failed with exit code 9: no driver"),
        ("echo 'no driver' >&2; exit 9", (), "nvidia-smi failed with exit code 9: no driver"),
        ("exit 12", (), "nvidia-smi failed with exit code 12: it printed nothing"),
        ("sleep 60; exit 0", (), "nvidia-smi did not answer in 0.3 s"),
    ],
)
def test_any_output_of_nvidia_smi_is_survived(
    prints: str,
    installed: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{prints}\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if "sleep" in prints:
        monkeypatch.setattr(facts, "SMI_TIMEOUT_S", 0.3)
    read_facts.cache_clear()
    try:
        found = read_facts(None)
        assert found.installed == installed
        assert said in found.smi_error and bool(said) == bool(found.smi_error)
    finally:
        read_facts.cache_clear()  # what it found is false on this machine


@pytest.mark.parametrize(
    "machine",
    [
        Facts(),
        Facts(devices=("/dev/nvidia0",), torch_cuda="13.0", cuda_error="RuntimeError: no device"),
        Facts(gpus=(Gpu("NVIDIA H100", (9, 0)),), torch_cuda="13.0", archs=("sm_90",)),
    ],
)
def test_the_report_says_what_ails_nvidia_smi(machine: Facts) -> None:
    broken = machine._replace(smi_error="nvidia-smi did not answer in 5 s")
    text = next(each.text for each in findings(broken) if each.name == GPU)
    assert "nvidia-smi did not answer in 5 s" in text
    assert "There is no NVIDIA GPU" not in text
