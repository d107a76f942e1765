from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import (
    AssetError,
    ConfigError,
    MissingFileError,
    PromptError,
)
from nemo_cosmos.models.common.text import (
    EmbeddedTextEncoder,
    T5TextEncoder,
    TextEncoder,
    build_nano_t5,
    load_text_encoder,
    train_sentencepiece,
)

CAPTIONS = [
    "A robot arm reaches the red block.",
    "The robot pushes the blue block to the left.",
    "The robot lifts the green block from the table.",
    "The gripper moves up, then to the right.",
]


@pytest.fixture(scope="module")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_nano_t5(CAPTIONS, tmp_path_factory.mktemp("text") / "nano t5", vocab_size=128)


@pytest.fixture(scope="module")
def nano(nano_folder: Path) -> TextEncoder:
    return T5TextEncoder(str(nano_folder), max_length=32)


@pytest.fixture(scope="module")
def embedded() -> EmbeddedTextEncoder:
    try:
        asset_path("flan_t5_small_encoder")
    except AssetError as error:
        pytest.skip(f"the embedded weights cannot be fetched: {error}")
    return EmbeddedTextEncoder(max_length=48)


def check_layout(encoder: TextEncoder) -> None:
    prompts = [CAPTIONS[0], "", CAPTIONS[2]]
    embeddings_BLD, mask_BL = encoder.encode(prompts)
    assert embeddings_BLD.shape == (3, encoder.max_length, encoder.dim)
    assert embeddings_BLD.dtype == torch.float32
    lengths = [encoder.num_tokens(prompt) for prompt in prompts]
    assert mask_BL.sum(1).tolist() == lengths
    assert lengths[1] == 1  # the end-of-sequence token alone
    for row, length in enumerate(lengths):
        assert (embeddings_BLD[row, length:] == 0).all()
        assert (embeddings_BLD[row, :length].abs().sum(-1) > 0).all()


def check_independent_of_batch(encoder: TextEncoder, tolerance: float) -> None:
    together, _ = encoder.encode(["up", CAPTIONS[1], CAPTIONS[2]])
    alone = torch.cat([encoder.encode([text])[0] for text in ("up", CAPTIONS[1], CAPTIONS[2])])
    torch.testing.assert_close(together, alone, rtol=0, atol=tolerance)


def test_nano_layout_and_batch_independence(nano: TextEncoder) -> None:
    check_layout(nano)
    check_independent_of_batch(nano, 1e-5)


def test_nano_tells_captions_apart_and_is_reproducible(nano: TextEncoder, tmp_path: Path) -> None:
    embeddings, _ = nano.encode(CAPTIONS)
    assert torch.pdist(embeddings.flatten(1)).min() > 1
    state = torch.get_rng_state()
    again = T5TextEncoder(str(build_nano_t5(CAPTIONS, tmp_path / "again", vocab_size=128)), 32)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(again.encode(CAPTIONS)[0], embeddings)


def test_nano_matches_transformers_called_directly(nano: TextEncoder, nano_folder: Path) -> None:
    from transformers import T5EncoderModel, T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(nano_folder, legacy=True)
    model = T5EncoderModel.from_pretrained(nano_folder).eval()
    batch = tokenizer(CAPTIONS, padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        reference = model(**batch).last_hidden_state
    reference = reference * batch["attention_mask"][..., None]
    torch.testing.assert_close(nano.encode(CAPTIONS)[0], reference, rtol=0, atol=1e-5)


def test_spec_goes_round(nano: TextEncoder, nano_folder: Path) -> None:
    spec = nano.spec()
    assert len(spec["probe"]) == 64
    known = {name: value for name, value in spec.items() if name != "probe"}
    assert known == {"kind": "t5", "path": str(nano_folder), "max_length": 32, "dim": 128}
    again = load_text_encoder(spec)
    torch.testing.assert_close(again.encode(["up"])[0], nano.encode(["up"])[0])
    assert load_text_encoder({"kind": "t5", "path": str(nano_folder)}).max_length == 512


def test_bfloat16_weights_give_float32_embeddings(nano: TextEncoder, nano_folder: Path) -> None:
    half = load_text_encoder({"kind": "t5", "path": str(nano_folder), "dtype": "bfloat16"})
    embeddings, _ = half.encode(CAPTIONS)
    assert embeddings.dtype == torch.float32
    reference, _ = nano.encode(CAPTIONS)
    torch.testing.assert_close(embeddings[:, :32], reference, rtol=0.1, atol=0.1)


def test_long_prompt_is_refused_with_its_length(nano: TextEncoder) -> None:
    prompt = "the red block " * 200
    num_tokens = nano.num_tokens(prompt)
    with pytest.raises(PromptError, match=rf"has {num_tokens} tokens.*at most 32"):
        nano.encode(["up", prompt])
    embeddings, mask = nano.encode([prompt], truncate=True)
    assert mask.sum() == 32
    assert (embeddings[0, -1] != 0).any()


def test_more_than_512_tokens_is_refused_by_default(nano_folder: Path) -> None:
    encoder = load_text_encoder({"kind": "t5", "path": str(nano_folder)})
    with pytest.raises(PromptError, match="at most 512"):
        encoder.encode(["block " * 600])


def test_no_prompts_and_wrong_prompts(nano: TextEncoder) -> None:
    embeddings, mask = nano.encode([])
    assert embeddings.shape == (0, 32, 128)
    assert mask.shape == (0, 32)
    with pytest.raises(PromptError, match="one string"):
        nano.encode("up")
    with pytest.raises(PromptError, match="Prompt 1 is of type NoneType"):
        nano.encode(["up", None])  # type: ignore[list-item]


def test_vocabulary_covers_the_corpus(tmp_path: Path) -> None:
    import sentencepiece

    file = train_sentencepiece(CAPTIONS, tmp_path, vocab_size=10_000)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert (processor.pad_id(), processor.eos_id(), processor.unk_id()) == (0, 1, 2)
    for caption in CAPTIONS:
        assert processor.decode(processor.encode(caption)) == caption
    with pytest.raises(PromptError, match="none of 2 captions"):
        train_sentencepiece(["", "  "], tmp_path)


def test_missing_and_incomplete_folders(tmp_path: Path, nano_folder: Path) -> None:
    (tmp_path / "config.json").write_bytes((nano_folder / "config.json").read_bytes())
    with pytest.raises(MissingFileError, match="does not hold a complete T5 encoder"):
        load_text_encoder({"kind": "t5", "path": str(tmp_path)})
    with pytest.raises(MissingFileError, match=r"no such folder.*'embedded'"):
        load_text_encoder({"kind": "t5", "path": str(tmp_path / "nowhere")})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "clip"}, "kind 'clip'.*embedded, t5"),
        ({"kind": "t5"}, "needs a path"),
        ({"kind": "t5", "path": "x", "max_lenght": 3}, "'max_lenght'.*'max_length'"),
        ({"kind": "t5", "path": "x", "dtype": "int4"}, "'int4'.*float32, bfloat16"),
    ],
)
def test_wrong_spec(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_text_encoder(spec)


def test_wrong_width_or_length(nano_folder: Path) -> None:
    with pytest.raises(ConfigError, match="gives 128 channels; the model was trained with 1024"):
        load_text_encoder({"kind": "t5", "path": str(nano_folder), "dim": 1024})
    with pytest.raises(ConfigError, match="max_length is -1"):
        T5TextEncoder(str(nano_folder), max_length=-1)


def test_embedded_layout_batch_independence_and_spec(embedded: EmbeddedTextEncoder) -> None:
    check_layout(embedded)
    check_independent_of_batch(embedded, 1e-6)
    assert embedded.spec() == {"kind": "embedded", "path": None, "max_length": 48, "dim": 512}
    again = load_text_encoder(embedded.spec())
    torch.testing.assert_close(again.encode(["up"])[0], embedded.encode(["up"])[0])
    with pytest.raises(PromptError, match="at most 48"):
        embedded.encode(["block " * 60])


def test_embedded_paraphrases_are_closer_than_unrelated(embedded: EmbeddedTextEncoder) -> None:
    embeddings_BLD, mask_BL = embedded.encode(
        [
            "A robot arm picks up a red cube.",
            "A manipulator grasps a crimson block.",
            "A car drives in the rain at night.",
        ]
    )
    mean_BD = embeddings_BLD.sum(1) / mask_BL.sum(1, keepdim=True)
    similarity = torch.nn.functional.normalize(mean_BD) @ torch.nn.functional.normalize(mean_BD).T
    assert similarity[0, 1] > similarity[0, 2] + 0.1
    assert similarity[0, 1] > similarity[1, 2] + 0.1


def test_another_encoder_of_the_same_width_is_found_out(
    nano: TextEncoder, nano_folder: Path, tmp_path: Path
) -> None:
    half = {**nano.spec(), "dtype": "bfloat16"}
    load_text_encoder(half)  # the same encoder in another precision
    other = build_nano_t5(CAPTIONS, tmp_path / nano_folder.name, vocab_size=128, seed=7)
    with pytest.raises(ConfigError, match="is another than the one that the model was trained"):
        load_text_encoder({**nano.spec(), "path": str(other)})
