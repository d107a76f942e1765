"""The tokenizer of a data set: found from any folder, and required before training starts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.tokenize.dataset_info import check_tokenizer, read_dataset_info
from nemo_cosmos.errors import ConfigError, MissingFileError


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "config.json").write_text("{}")
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"tokenizer": "../tok"}))
    return tmp_path / "data"


def trainer_of(model):
    return SimpleNamespace(lightning_module=model)


def test_tokenizer_beside_the_data_is_found_from_anywhere(data, monkeypatch):
    monkeypatch.chdir("/")
    check_tokenizer(data)
    assert read_dataset_info(data) == {"tokenizer": "../tok"}


def test_a_tokenizer_that_is_gone_is_an_error_before_training(data):
    (data.parent / "tok" / "config.json").unlink()
    module = LatentDataModule(data)
    module.trainer = trainer_of(SimpleNamespace(world=None))
    with pytest.raises(MissingFileError, match=r"tok' is not a tokenizer folder.*decode"):
        module.setup("fit")
    module.setup("validate")


@pytest.mark.parametrize("model", [SimpleNamespace(world="given"), SimpleNamespace()])
def test_models_that_do_not_need_it(tmp_path, model):
    module = LatentDataModule(tmp_path / "none")
    module.trainer = trainer_of(model)
    module.setup("fit")


@pytest.mark.parametrize("content", ["{}", '{"tokenizer": 3}', "no json"])
def test_dataset_that_does_not_say(data, content):
    (data / "dataset.json").write_text(content)
    with pytest.raises(ConfigError, match="Tokenize the data again"):
        check_tokenizer(data)


def test_folder_without_the_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"dataset\.json"):
        check_tokenizer(tmp_path)
