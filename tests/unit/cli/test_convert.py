"""``nemo-cosmos import`` and ``export`` as a person calls them."""

from __future__ import annotations

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer


def test_a_tokenizer_there_and_back(tmp_path, run_cli):
    config = TOKENIZERS["tokenizer_nano_cv4x8x8"]
    VideoTokenizer(TokenizerNetwork(config)).save(tmp_path / "ours")
    ran = run_cli("export", tmp_path / "ours", tmp_path / "hf", "--format", "diffusers")
    assert ran.code == Exit.DONE and "Exported" in ran.out
    ran = run_cli("import", tmp_path / "hf", tmp_path / "again")
    assert ran.code == Exit.DONE and "Imported" in ran.out
    VideoTokenizer.from_folder(tmp_path / "again")
    ran = run_cli("import", tmp_path / "hf", tmp_path / "again")
    assert ran.code == Exit.WRONG_USE
    assert "exists and is not empty" in ran.err and "Traceback" not in ran.err
