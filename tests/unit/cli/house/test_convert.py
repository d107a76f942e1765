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


def test_check_looks_at_source_output_and_weights(tmp_path, run_cli):
    config = TOKENIZERS["tokenizer_nano_cv4x8x8"]
    VideoTokenizer(TokenizerNetwork(config)).save(tmp_path / "ours")
    export = ["export", tmp_path / "ours", tmp_path / "hf", "--format"]
    assert run_cli(*export, "diffusers", "--check").code == Exit.DONE
    ran = run_cli(*export, "onnx", "--check")
    assert ran.code == Exit.WRONG_USE and "world │ wrong" in " ".join(ran.out.split())
    assert not (tmp_path / "hf").exists()
    run_cli(*export, "diffusers")
    words = ["import", tmp_path / "hf", tmp_path / "again", "--check"]
    ran = run_cli(*words)
    assert ran.code == Exit.DONE and "a tokenizer, imported" in " ".join(ran.out.split())
    assert not (tmp_path / "again").exists()
    assert run_cli(*words, "--model", "tokenizer_cv8x8x8").code == Exit.WRONG_USE
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "new", tmp_path / "ours"):
        ran = run_cli("import", tmp_path / "hf", target, "--check")
        assert ran.code == Exit.WRONG_USE and "output │ wrong" in " ".join(ran.out.split())
        assert run_cli("import", tmp_path / "hf", target).code == Exit.WRONG_USE
