"""The tokenizer of a data set: found from any folder, and required before training starts."""

from __future__ import annotations

import json

import pytest

from nemo_cosmos.data.tokenize.dataset_info import check_tokenizer, read_dataset_info
from nemo_cosmos.errors import ConfigError, MissingFileError


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "config.json").write_text("{}")
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"tokenizer": "../tok"}))
    return tmp_path / "data"


def test_tokenizer_beside_the_data_is_found_from_anywhere(data, monkeypatch):
    monkeypatch.chdir("/")
    check_tokenizer(data)
    assert read_dataset_info(data) == {"tokenizer": "../tok"}


def test_a_tokenizer_that_is_gone(data):
    (data.parent / "tok" / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"tok' is not a tokenizer folder.*decode"):
        check_tokenizer(data)


@pytest.mark.parametrize("content", ["{}", '{"tokenizer": 3}', "no json"])
def test_dataset_that_does_not_say(data, content):
    (data / "dataset.json").write_text(content)
    with pytest.raises(ConfigError, match="Tokenize the data again"):
        check_tokenizer(data)


def test_folder_without_the_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"dataset\.json"):
        check_tokenizer(tmp_path)
