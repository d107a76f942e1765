"""What a run's folder says of the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cosmos.training.run_folder import read_finished

MARK = {"step": 2, "fingerprint": "x", "files": ["config.json"]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}")
    return tmp_path


def test_a_marker_counts_while_the_export_is_whole(run: Path) -> None:
    (run / "finished.json").write_text(json.dumps(MARK))
    assert read_finished(run) == MARK
    (run / "export" / "config.json").unlink()
    assert read_finished(run) is None


@pytest.mark.parametrize("content", ["", '{"step":', "[]", "3", '{"step": 2}', "\x00" * 9])
def test_a_damaged_marker_counts_for_none(run: Path, content: str) -> None:
    (run / "finished.json").write_text(content)
    assert read_finished(run) is None
