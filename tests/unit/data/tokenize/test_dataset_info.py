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


def test_what_tokenize_writes_is_read(data):
    whole = {
        "format": "nemo_cosmos.latents",
        "version": 1,
        "num_samples": 2,
        "num_clips": 1,
        "skipped": {"too_short": 1},
        "latent_shape": [16, 5, 12, 16],
        "window": {"window_frames": 17, "size": [96, 128], "more_sizes": [[64, 64]]},
        "tokenizer": "../tok",
        "tokenizer_name": "tokenizer_nano_cv4x8x8",
        "encoder_sha256": "37a2",
        "latent_stats": {"mean": [0.0, 1.0], "std": [1.0, 2]},
        "text_encoder": {"kind": "embedded", "path": None, "max_length": 32, "dim": 512},
        "allowed_mismatch": ["text_encoder"],
    }
    (data / "dataset.json").write_text(json.dumps(whole))
    assert read_dataset_info(data) == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["tokenizer"]', "expected an object"),
        ('{"tokeniser": "../tok"}', "'tokeniser', which means nothing.*'tokenizer'"),
        ('{"version": 2, "blocks": []}', "version 2; this nemo_cosmos reads .* version 1"),
        ('{"format": "nemo_cosmos.codes"}', "format 'nemo_cosmos.codes'"),
        ('{"tokenizer": 3}', "tokenizer is 3"),
        ('{"text_encoder": "t5"}', "'text_encoder' is 't5'"),
        ('{"text_encoder": {"dim": "512"}}', r"text_encoder\.dim is '512'"),
        ('{"window": {"size": [96]}}', r"window\.size has 1 values"),
        ('{"window": {"frames": 17}}', "'window' has 'frames'"),
        ('{"latent_shape": [16, 5, 0, 16]}', "latent_shape is 0"),
        ('{"latent_stats": {"mean": [0, null]}}', r"latent_stats\.mean is None"),
        ('{"num_samples": -1}', "num_samples is -1"),
    ],
)
def test_an_entry_that_nobody_would_read_or_of_another_type_is_refused(data, content, message):
    (data / "dataset.json").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_dataset_info(data)
    assert str(data / "dataset.json") in str(caught.value)
    assert "Tokenize the data again" in str(caught.value)


def test_folder_without_the_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"dataset\.json"):
        check_tokenizer(tmp_path)
