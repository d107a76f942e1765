"""What the quickstart looks at before it works, and before it deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.errors import ConfigError, InputError
from nemo_cosmos.quickstart.road import check_own_folder, walk
from nemo_cosmos.quickstart.settings import QuickstartSettings


def test_fresh_deletes_nothing_but_a_quickstart(tmp_path: Path) -> None:
    check_own_folder(tmp_path)  # empty
    check_own_folder(tmp_path / "nowhere")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="not made by the quickstart"):
        check_own_folder(tmp_path)
    (tmp_path / "steps").mkdir()
    check_own_folder(tmp_path)


def test_a_folder_that_cannot_be_written_is_known_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    commands: list[list[str]] = []
    with pytest.raises(InputError, match="is a file"):
        walk(tmp_path / "file", QuickstartSettings.tiny(), commands.append, lambda *_: None)
    assert not commands
