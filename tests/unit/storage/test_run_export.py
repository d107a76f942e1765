"""The folder of a run stands for the model that it exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.storage import exported_folder


def test_a_run_is_its_export_and_a_model_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "export" / "export").mkdir(parents=True)
    assert exported_folder(tmp_path / "run") == tmp_path / "run", "nothing is exported yet"
    for folder in ("run/export", "run/export/export"):
        (tmp_path / folder / "config.json").write_text("{}")
    assert exported_folder(tmp_path / "run") == tmp_path / "run/export"
    assert exported_folder(tmp_path / "run/export") == tmp_path / "run/export"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert exported_folder("~/run") == tmp_path / "run/export"
    assert exported_folder("nowhere") == Path("nowhere")
