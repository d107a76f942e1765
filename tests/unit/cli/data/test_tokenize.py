"""``nemo-cosmos tokenize`` with a real tiny tokenizer and a stand-in for the text encoder."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nemo_cosmos.cli.kit.options import parse_size
from nemo_cosmos.cli.main import app
from nemo_cosmos.data.loading.latents import TEXT_SUFFIX, pack_embedding
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import CuratedWriter, read_samples
from nemo_cosmos.data.tokenize.dataset_info import check_tokenizer
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.storage import mirror_folder
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import Video, encode_video


class Words:
    """Embeds a caption as its word lengths."""

    def encode(self, texts):
        embeddings = torch.zeros(len(texts), 16, 4)
        mask = torch.zeros(len(texts), 16)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                embeddings[row, place] = len(word)
                mask[row, place] = 1
        return embeddings, mask

    def spec(self):
        return {"kind": "words", "path": None, "max_length": 16, "dim": 4}


@pytest.fixture
def text_encoder(monkeypatch):
    asked = []
    target = "nemo_cosmos.tokenizing.run.load_text_encoder"
    monkeypatch.setattr(target, lambda spec: asked.append(spec) or Words())
    return asked


@pytest.fixture
def tokenizer_folder(tmp_path):
    """A nano tokenizer without latent statistics."""
    preset = TOKENIZERS["tokenizer_nano_cv4x8x8"]
    torch.manual_seed(0)
    network = TokenizerNetwork(dataclasses.replace(preset, channels=16))
    VideoTokenizer(network).save(tmp_path / "tok")
    return tmp_path / "tok"


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path)


def write_shards(tmp_path, **sidecars):
    with CuratedWriter(tmp_path / "shards") as writer:
        for number in range(2):
            random = np.random.default_rng(number)
            small = random.integers(0, 256, (12, 4, 6, 3), dtype=np.uint8)
            frames_THWC = small.repeat(12, axis=1).repeat(12, axis=2)
            encode_video(tmp_path / "clip.mp4", Video(frames_THWC, fps=12), preset="ultrafast")
            record = ClipRecord(
                key=f"clip-{number}",
                source="film.mp4",
                span_s=(0, 1),
                fps=12,
                num_frames=12,
                width=72,
                height=48,
                caption="blocks of colour flicker",
            )
            writer.add(record, {"mp4": (tmp_path / "clip.mp4").read_bytes(), **sidecars})
    return tmp_path / "shards"


def invoke(*arguments):
    return CliRunner().invoke(app, ["tokenize", *map(str, arguments)], catch_exceptions=False)


def test_shards_to_batches(shards, tokenizer_folder, tmp_path, text_encoder):
    options = ["--tokenizer", tokenizer_folder, "--window-frames", 5, "--window-stride", 4]
    result = invoke(shards, tmp_path / "out", *options, "--size", "32x48", "--json")
    assert result.exit_code == 0, result.output
    dataset = json.loads(result.stdout.strip().splitlines()[-1])
    assert dataset["num_samples"] == 6
    assert dataset["latent_shape"] == [16, 2, 4, 6]
    assert dataset["text_encoder"]["kind"] == "words"
    assert text_encoder == [{"kind": "embedded", "max_length": 512}]
    assert VideoTokenizer.from_folder(tokenizer_folder).stats is not None
    assert len(dataset["latent_stats"]["mean"]) == 16
    data = LatentDataModule(
        tmp_path / "out", micro_batch_size=6, global_batch_size=6, text_length=8
    )
    batch = next(iter(data.train_dataloader()))
    assert batch["latent"].shape == (6, 16, 2, 4, 6)
    assert abs(float(batch["latent"].mean())) < 0.5, "latents are not normalised"
    assert 0.5 < float(batch["latent"].std()) < 2
    assert batch["t5_text_embeddings"][0, :4, 0].tolist() == [6, 2, 6, 7]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), {"kind": "t5", "path": "here", "max_length": 6, "dim": 4}),
        (("--text-length", 9), {"kind": "t5", "path": "here", "max_length": 9, "dim": 4}),
        (("--text-encoder", "embedded"), {"kind": "embedded", "max_length": 6}),
    ],
)
def test_captions_are_embedded_for_the_world_of_the_tokenizer(
    shards, tmp_path, text_encoder, words, asked
):
    encoder = {"kind": "t5", "path": "here", "max_length": 6, "dim": 4}
    world = write_world(tmp_path / "world", text_encoder=encoder)
    options = ["--window-frames", 5, "--size", "32x48", *words]
    invoke(shards, tmp_path / "out", "--tokenizer", world / "tokenizer", *options)
    assert text_encoder == [asked]


def test_changed_copies_are_asked_for_by_their_options(
    shards, tokenizer_folder, tmp_path, text_encoder
):
    options = ["--tokenizer", tokenizer_folder, "--window-frames", 5, "--size", "32x48", "--json"]
    copies = ["--variants", 2, "--flip", 1, "--crop", 0.1, "--speed", 1, "--speed", 2]
    result = invoke(shards, tmp_path / "out", *options, *copies, "--mirror-axis", "x")
    assert result.exit_code == 0, result.output
    dataset = json.loads(result.stdout.strip().splitlines()[-1])
    chosen = {"flip": 1.0, "crop": 0.1, "colour": 0.0, "speed": [1, 2], "mirror_axis": "x"}
    assert dataset["window"]["variants"] == {**chosen, "number": 2, "seed": 0, "embodiment": None}
    told = [sample.record.extra.get("augmentation") for sample in read_samples(tmp_path / "out")]
    assert len(told) == 3 * told.count(None)
    assert all(one["mirrored"] and one["mirror_axis"] == "x" for one in told if one)


def test_copies_that_change_nothing_are_refused(shards, tokenizer_folder, tmp_path, run_cli):
    call = ["tokenize", shards, tmp_path / "out", "--tokenizer", tokenizer_folder]
    refused = run_cli(*call, "--variants", 2)
    assert refused.code == 2 and "changes nothing" in refused.err
    refused = run_cli(*call, "--flip", 2)
    assert refused.code == 2 and "--flip is 2.0" in refused.err


def test_from_a_bucket_into_a_bucket(shards, tokenizer_folder, tmp_path, text_encoder, bucket):
    mirror_folder(shards, f"{bucket}/shards", "v0/wdinfo_list.csv")
    options = ["--tokenizer", tokenizer_folder, "--window-frames", 5, "--size", "32x48,48x32"]
    words = [f"{bucket}/shards", f"{bucket}/latents", *options, "--work", tmp_path / "work"]
    assert invoke(*words).exit_code == 0
    assert f"Written to '{bucket}/latents'" in invoke(*words).stdout  # which has nothing to do
    invoke(shards, tmp_path / "local", *options)
    here, there = read_samples(tmp_path / "local"), read_samples(f"{bucket}/latents")
    assert [sample.key for sample in there] == [sample.key for sample in here]
    for one, other in zip(here, there, strict=True):
        assert one.read("latent.safetensors") == other.read("latent.safetensors")
    check_tokenizer(f"{bucket}/latents")


@pytest.mark.parametrize("kind", ["cv4x8x8", "dv4x8x8"])
def test_latents_or_codes(shards, tmp_path, text_encoder, kind):
    preset = dataclasses.replace(TOKENIZERS[f"tokenizer_nano_{kind}"], channels=16)
    VideoTokenizer(TokenizerNetwork(preset)).save(tmp_path / "tok")
    options = ["--tokenizer", tmp_path / "tok", "--window-frames", 5, "--size", "32x48"]
    invoke(shards, tmp_path / "out", *options)
    suffix = "latent.safetensors" if kind.startswith("c") else "codes.safetensors"
    assert all(suffix in sample.members for sample in read_samples(tmp_path / "out"))


def test_summary_for_people(shards, tokenizer_folder, tmp_path, text_encoder):
    options = ["--tokenizer", tokenizer_folder, "--window-frames", 9, "--size", "32x48"]
    result = invoke(shards, tmp_path / "out", *options, "--text-encoder", "some/t5")
    assert "4 windows of 2 clips, latents 16x3x4x6" in result.stdout
    assert text_encoder == [{"kind": "t5", "path": "some/t5", "max_length": 512}]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--window-frames", 6], WrongFrameCountError),
        (["--size", "30x48"], WrongSizeError),
        (["--size", "96"], WrongSizeError),
        (["--window-stride", 0], ConfigError),
    ],
)
def test_illegal_windows_are_refused_before_any_work(
    shards, tokenizer_folder, tmp_path, text_encoder, options, error
):
    with pytest.raises(error):
        invoke(shards, tmp_path / "out", "--tokenizer", tokenizer_folder, *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", ["", "latents"])
def test_latents_are_not_written_among_the_shards(shards, tokenizer_folder, inside):
    before = sorted(shards.rglob("*"))
    with pytest.raises(InputError, match="Choose another place"):
        invoke(shards, shards / inside, "--tokenizer", tokenizer_folder)
    assert sorted(shards.rglob("*")) == before


def test_missing_tokenizer(shards, tmp_path, text_encoder):
    with pytest.raises(MissingFileError, match="tokenizer folder"):
        invoke(shards, tmp_path / "out", "--tokenizer", tmp_path / "none")


def test_help_has_examples():
    result = invoke("--help")
    assert result.exit_code == 0
    assert "--keep-video" in result.stdout
    assert "nemo-cosmos tokenize data/robot" in result.stdout


@pytest.mark.parametrize(("text", "size"), [("96x128", (96, 128)), (" 704X1280 ", (704, 1280))])
def test_size(text, size):
    assert parse_size(text) == size


def test_stored_embeddings_need_no_encoder(tokenizer_folder, tmp_path, text_encoder):
    shards = write_shards(tmp_path, **{TEXT_SUFFIX: pack_embedding(torch.full((3, 6), 0.5))})
    options = ["--tokenizer", tokenizer_folder, "--window-frames", 5, "--size", "32x48"]
    stored = ["--stored-text", "--text-encoder", "google-t5/t5-11b"]
    result = invoke(shards, tmp_path / "out", *options, *stored, "--json")
    assert result.exit_code == 0, result.output
    assert not text_encoder, "no encoder is loaded"
    recorded = json.loads((tmp_path / "out" / "dataset.json").read_text())["text_encoder"]
    assert recorded == {"kind": "t5", "path": "google-t5/t5-11b", "max_length": 512, "dim": 6}
    (batch,) = [next(iter(LatentDataModule(tmp_path / "out").train_dataloader()))]
    assert batch["t5_text_embeddings"].sum() == 3 * 6 * 0.5


def test_check_stops_before_an_encoder_is_loaded(
    shards, tokenizer_folder, tmp_path, text_encoder, run_cli
):
    call = ["tokenize", shards, tmp_path / "out", "--tokenizer", tokenizer_folder, "--json"]
    window = ["--window-frames", 5, "--window-stride", 4, "--size", "32x48"]
    found = {row["check"]: row for row in run_cli(*call, *window, "--check").json}
    assert all(row["ok"] for row in found.values())
    assert found["windows"]["found"] == "latents of 16x2x4x6"
    assert "statistics will be measured" in found["tokenizer"]["found"]
    assert not text_encoder and not (tmp_path / "out").exists()
    bad = run_cli(*call, "--window-frames", 6, "--size", "33x48", "--check")
    assert bad.code == 2 and [r["check"] for r in bad.json if not r["ok"]] == ["windows", "room"]
    assert run_cli("tokenize", shards, shards / "x" / "y", "--tokenizer", "none").code == 2
    (tmp_path / "file").write_text("")
    refused = run_cli("tokenize", shards, tmp_path / "file", "--tokenizer", tokenizer_folder)
    assert refused.code == 2 and "is a file" in refused.err and not text_encoder


def test_another_tokenizer_into_the_same_folder_is_refused_before_the_text_encoder_is_loaded(
    shards, tokenizer_folder, tmp_path, text_encoder, run_cli
):
    text = ["--text-encoder", "words"]
    call = ["tokenize", shards, tmp_path / "out", "--window-frames", 5, "--size", "32x48", *text]
    assert run_cli(*call, "--tokenizer", tokenizer_folder).code == 0
    text_encoder.clear()
    torch.manual_seed(9)
    network = TokenizerNetwork(VideoTokenizer.from_folder(tokenizer_folder).config)
    VideoTokenizer(network).save(tmp_path / "tok2")
    (tmp_path / "out" / "dataset.json").unlink()
    refused = run_cli(*call, "--tokenizer", tmp_path / "tok2")
    assert refused.code == 2 and "their weights differ" in refused.err and not text_encoder
