"""The stage *embed_text*: embeddings in tars of their own, made once for each caption."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_curation import CurateSettings, SplitSettings, curate
from data_curation.settings import OPTIONAL_STAGES
from data_curation.stages.embed_text import EmbedTextSettings, EmbedTextStage
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError

SETTINGS = CurateSettings(
    split=SplitSettings(min_clip_s=1),
    skip=OPTIONAL_STAGES,
    embed_text=EmbedTextSettings("some-t5"),
)


class CountingEncoder:
    """Stands for a T5 that is too large for a test; a token a word, all of its length."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, prompts, truncate=False):
        assert truncate
        self.asked += prompts
        lengths = [len(prompt.split()) for prompt in prompts]
        embeddings = torch.zeros(len(prompts), max(lengths), 4)
        mask = torch.zeros(len(prompts), max(lengths))
        for row, length in enumerate(lengths):
            embeddings[row, :length], mask[row, :length] = float(length), 1
        return embeddings, mask


@pytest.fixture
def encoder(monkeypatch):
    encoder = CountingEncoder()
    monkeypatch.setattr(EmbedTextStage, "_load", lambda self: encoder)
    return encoder


def test_embeddings_have_tars_of_their_own(raw, tmp_path, encoder):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    samples = {sample.record.source: sample for sample in read_samples(output)}
    robot = samples["sub/robot.mp4"]
    assert np.array_equal(robot.text_embedding(), np.full((4, 4), 4, np.float32))
    tar = robot.members["t5.safetensors"].tar
    assert "/t5_xxl/part_000000/" in tar and "/metas/" in robot.members["json"].tar
    (info,) = output.glob("v0/*/*/*/wdinfo.json")
    content = json.loads(info.read_text())
    assert content["data_keys"] == ["video", "metas", "t5_xxl"]
    assert content["total_key_count"] == 3


def test_a_caption_is_embedded_once(raw, tmp_path, encoder):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    captions = [sample.record.caption for sample in read_samples(output)]
    assert len(captions) == 3
    assert sorted(encoder.asked) == sorted(set(captions))  # two clips are told in the same words
    assert len(encoder.asked) == 2
    before = {path: path.read_bytes() for path in (output / "v0").rglob("*.tar")}
    curate(raw, output, SETTINGS)
    assert len(encoder.asked) == 2
    assert before == {path: path.read_bytes() for path in (output / "v0").rglob("*.tar")}
    (raw / "sub" / "robot.json").write_text(json.dumps({"caption": "other words"}))
    curate(raw, output, SETTINGS)
    assert encoder.asked[2:] == ["other words"]
    curate(raw, output, replace(SETTINGS, embed_text=EmbedTextSettings("another-t5")))
    assert len(encoder.asked) == 5


def test_shards_without_embeddings_have_no_such_tar(raw, tmp_path):
    curate(raw, tmp_path / "out", replace(SETTINGS, embed_text=EmbedTextSettings()))
    assert not list((tmp_path / "out").rglob("t5_xxl"))


def test_the_embedded_encoder(store, make_clip, raw):
    clip = replace(make_clip(raw / "still.mp4"), caption="A red cube.", suffixes=("mp4",))
    stage = EmbedTextStage(EmbedTextSettings("embedded", max_length=8), store)
    (done,) = stage.process_all([clip])
    assert done.suffixes == ("mp4", "t5.safetensors")
    from nemo_cosmos.data.loading.latents import unpack_embedding

    embedding = unpack_embedding(store.get(clip.clip_id, "t5.safetensors"))
    assert embedding.shape[1] == 512 and 3 <= len(embedding) <= 8


def test_no_token_at_all_is_refused():
    with pytest.raises(ConfigError, match="1 to 65,536"):
        EmbedTextSettings(max_length=0)
