"""What a run's folder says of the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nemo_cosmos.training.run_folder import exported_files, read_finished

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


WEIGHTS = Path("export", "tokenizer", "model.safetensors")


@pytest.mark.parametrize("release", ["sizes", "names", "nothing"])
@pytest.mark.parametrize(
    ("file", "kept"), [(WEIGHTS, 100), (WEIGHTS, 4), (WEIGHTS, 0), (Path("export/config.json"), 1)]
)
def test_a_file_that_was_cut_short_is_no_export(
    run: Path, release: str, file: Path, kept: int
) -> None:
    (run / WEIGHTS).parent.mkdir()
    save_file({"a": torch.zeros(4, 5), "b": torch.ones(3)}, run / WEIGHTS, {"format": "pt"})
    sizes = exported_files(run)
    recorded = {"sizes": {"files": sizes}, "names": {"files": list(sizes)}, "nothing": {}}
    mark = {"step": 2, "fingerprint": "x"} | recorded[release]
    (run / "finished.json").write_text(json.dumps(mark))
    assert read_finished(run) == mark
    with (run / file).open("r+b") as handle:
        handle.truncate(kept)
    assert read_finished(run) is None


@pytest.mark.parametrize("content", ["", '{"step":', "[]", "3", '{"step": 2}', "\x00" * 9])
def test_a_damaged_marker_counts_for_none(run: Path, content: str) -> None:
    (run / "finished.json").write_text(content)
    assert read_finished(run) is None
