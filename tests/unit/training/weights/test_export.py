"""What the export of a world takes from its training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cosmos.batch import DataSpec
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.models.common.family import WorldInfo
from nemo_cosmos.training.weights.export import check_exportable, read_world_info


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


class World:
    """A world model, as far as the export asks."""

    family, config, preset = "diffusion", None, None

    def __init__(self, world: WorldInfo | None = None) -> None:
        self.world = world

    def describe(self) -> None:
        """Only its presence counts here."""


class Latents:
    """A data module that reads tokenised data."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def data_spec(self) -> DataSpec:
        return DataSpec(folders=(str(self.path),))


def test_a_tokenizer_that_is_gone_is_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"tokenizer": "tok"}))
    with pytest.raises(MissingFileError, match=r"tok' is not a tokenizer folder.*decode"):
        check_exportable(World(), Latents(tmp_path))  # type: ignore[arg-type]
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "config.json").write_text("{}")
    check_exportable(World(), Latents(tmp_path))  # type: ignore[arg-type]


def test_models_and_data_that_need_no_tokenizer(tmp_path: Path) -> None:
    given = World(WorldInfo("tok", {}, {}))
    check_exportable(given, Latents(tmp_path))  # type: ignore[arg-type]
    check_exportable(object(), Latents(tmp_path))  # type: ignore[arg-type]
    check_exportable(World(), object())  # type: ignore[arg-type]
