"""What the export of a world takes from its training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.export import read_world_info


def test_world_info_comes_from_the_dataset(tmp_path: Path) -> None:
    data = {
        "tokenizer": "tok",
        "text_encoder": {"kind": "embedded"},
        "window": {"window_frames": 9, "size": [32, 48]},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    info = read_world_info(tmp_path, fps=10.0)
    assert info.video == {"num_frames": 9, "fps": 10.0, "height": 32, "width": 48}
    assert info.text_encoder == {"kind": "embedded"}
    assert info.tokenizer == str(tmp_path / "tok"), "it holds from the data's folder"
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ConfigError, match="KeyError: 'window'"):
        read_world_info(tmp_path, fps=10.0)
