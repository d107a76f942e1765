"""``nemo-cosmos import`` and ``export`` as a person calls them."""

from __future__ import annotations

import pytest

from nemo_cosmos.cli.main import main
from nemo_cosmos.models.tokenizer.network import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer


def run(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_tokenizer_there_and_back(tmp_path, capsys):
    config = TOKENIZERS["tokenizer_nano_cv4x8x8"]
    VideoTokenizer(TokenizerNetwork(config)).save(tmp_path / "ours")
    assert run("export", tmp_path / "ours", tmp_path / "hf", "--format", "diffusers") == 0
    assert "Exported" in capsys.readouterr().out
    assert run("import", tmp_path / "hf", tmp_path / "again") == 0
    assert "Imported" in capsys.readouterr().out
    VideoTokenizer.from_folder(tmp_path / "again")
    assert run("import", tmp_path / "hf", tmp_path / "again") == 2
    error = capsys.readouterr().err
    assert "exists and is not empty" in error and "Traceback" not in error


@pytest.mark.parametrize("name", ["import", "export"])
def test_help_gives_examples(name, capsys):
    assert run(name, "--help") == 0
    assert f"nemo-cosmos {name}" in capsys.readouterr().out
