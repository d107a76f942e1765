"""The stage *video_type* on real pictures, through whole runs."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from data_curation import CaptionSettings, CurateSettings, EmbedSettings, SplitSettings, curate
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.settings import OPTIONAL_STAGES
from data_curation.stages.video_type import VideoTypeSettings
from data_curation.video_type.taxonomy import load_taxonomy
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.testing.chat_server import num_pictures, question_of
from nemo_cosmos.video import Video, encode_video

SETTINGS = CurateSettings(
    split=SplitSettings(method="none", min_clip_s=0.5),
    skip=tuple(name for name in OPTIONAL_STAGES if name not in ("embed", "video_type")),
)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    for name, picture in (("cat", data.cat()), ("cup", data.coffee())):
        wide = cv2.resize(picture, (288, 256))
        views = np.stack([wide[:, 2 * t : 2 * t + 256] for t in range(12)])
        encode_video(folder / f"{name}.mp4", Video(views, fps=12))
    return folder


@pytest.fixture
def pets(tmp_path):
    """A taxonomy of one's own."""
    file = tmp_path / "pets.json"
    labels = {"cats": {"imagenet": ["281-285"]}, "crockery": {"imagenet": [504, 967, 968]}}
    file.write_text(json.dumps({"video_type": labels}))
    return str(file)


def test_real_pictures_are_sorted_by_ones_own_labels(videos, tmp_path, pets):
    settings = replace(SETTINGS, video_type=VideoTypeSettings(taxonomy=pets))
    curate(videos, tmp_path / "out", settings)
    records = {sample.record.source: sample.record for sample in read_samples(tmp_path / "out")}
    assert records["cat.mp4"].extra["video_type"] == "cats"
    assert records["cup.mp4"].extra["video_type"] == "crockery"
    assert records["cup.mp4"].extra["environment"] == "unknown"
    assert 0.3 <= records["cat.mp4"].scores["video_type_confidence"] <= 1


def test_another_taxonomy_sorts_anew_without_working_on_a_source(videos, tmp_path, pets):
    curate(videos, tmp_path / "out", SETTINGS)
    (sample, *_) = read_samples(tmp_path / "out")
    assert sample.record.extra["video_type"] == "unknown"
    only_cats = VideoTypeSettings(taxonomy=pets, keep=("cats",))
    summary = curate(videos, tmp_path / "out", replace(SETTINGS, video_type=only_cats))
    assert (summary.num_reused, summary.rejected) == (2, {"video_type": 1})
    assert [s.record.source for s in read_samples(tmp_path / "out")] == ["cat.mp4"]
    assert "shows crockery and unknown, not cats" in (tmp_path / "out/rejected.jsonl").read_text()


def test_without_an_embedding_nothing_is_said(videos, tmp_path):
    skip = (*SETTINGS.skip, "embed")
    curate(videos, tmp_path / "out", replace(SETTINGS, skip=skip))
    assert all("video_type" not in s.record.extra for s in read_samples(tmp_path / "out"))


@pytest.fixture(scope="module")
def clip_with_text(tmp_path_factory):
    """A small CLIP model with both halves and a tokenizer of single letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    half = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    half |= {"num_attention_heads": 2, "projection_dim": 8}
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz'"
    ends = ["<|startoftext|>", "<|endoftext|>"]
    words = [*ends, *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    text = {**half, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1}
    vision = {**half, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(
        folder
    )
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder)
    return folder


def zero_shot_by_the_whole_model(folder, texts, vector_D) -> list[float]:
    from transformers import AutoTokenizer, CLIPModel

    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        pooled = model.text_model(**tokens).pooler_output
        features = torch.nn.functional.normalize(model.text_projection(pooled), dim=1)
    return torch.softmax(100 * features @ torch.from_numpy(vector_D), dim=0).tolist()


def asking(server, **type_settings) -> CurateSettings:
    return replace(
        SETTINGS,
        caption=CaptionSettings(url=server.url, model="vlm", pause_s=0.01),
        video_type=VideoTypeSettings(by="vlm", **type_settings),
    )


def labels_of(output) -> dict[str, tuple[str, str]]:
    records = [sample.record for sample in read_samples(output)]
    return {r.source: (r.extra["video_type"], r.extra["environment"]) for r in records}


def test_a_model_is_asked_for_one_label_of_each_aspect(videos, tmp_path, server):
    server.answer = lambda body: "Zoo." if "Where" in question_of(body) else "nature_dynamics"
    curate(videos, tmp_path / "out", asking(server))
    assert labels_of(tmp_path / "out") == dict.fromkeys(
        ("cat.mp4", "cup.mp4"), ("nature_dynamics", "zoo")
    )
    (sample, *_) = read_samples(tmp_path / "out")
    assert sample.record.extra["type_source"] == "vlm"
    assert sample.record.extra["objects"] == ["cat"]  # by the embedding, as before
    questions = [
        question_of(body) for body in server.requests if "one of these labels" in question_of(body)
    ]
    assert len(questions) == 4 and sum("- driving:" in text for text in questions) == 2
    shown = [body for body in server.requests if "one of these labels" in question_of(body)]
    assert {num_pictures(body) for body in shown} == {8}


def test_an_answer_that_is_no_label_is_asked_for_again_and_then_unknown(videos, tmp_path, server):
    server.answer = lambda body: "zoo" if "Where" in question_of(body) else "a cat video"
    curate(videos, tmp_path / "out", asking(server))
    assert set(labels_of(tmp_path / "out").values()) == {("unknown", "zoo")}
    again = [question_of(body) for body in server.requests if "You answered" in question_of(body)]
    assert len(again) == 2 and all("'a cat video'" in text for text in again)


def test_answers_are_kept_and_other_labels_are_asked_for_anew(videos, tmp_path, server, pets):
    server.answer = lambda body: "city"
    curate(videos, tmp_path / "out", asking(server))
    num_asked = len(server.requests)
    curate(videos, tmp_path / "out", asking(server))
    assert len(server.requests) == num_asked
    server.answer = lambda body: "cats"
    summary = curate(videos, tmp_path / "out", asking(server, taxonomy=pets, keep=("crockery",)))
    assert summary.rejected == {"video_type": 2}
    assert len(server.requests) == num_asked + 2


def test_a_clip_that_the_model_refuses_is_of_no_known_type(videos, tmp_path, server):
    refused = lambda: (400, b"too many images", {})  # noqa: E731
    server.script = [refused, refused]
    settings = asking(server)
    settings = replace(settings, video_type=replace(settings.video_type, vlm=settings.caption),
                       caption=CaptionSettings())  # fmt: skip
    curate(videos, tmp_path / "out", settings)
    assert set(labels_of(tmp_path / "out").values()) == {("unknown", "unknown")}


def test_clip_models_read_the_labels(videos, tmp_path, clip_with_text):
    folder = clip_with_text
    settings = replace(SETTINGS, embed=EmbedSettings(model=str(folder)))
    curate(videos, tmp_path / "out", settings)
    for sample in read_samples(tmp_path / "out"):
        content = sample.read(EMBEDDING_SUFFIX)
        vector_D = ClipEmbedding.from_bytes(content, "the clip").vector_D.astype(np.float32)
        labels = load_taxonomy().labels["environment"]
        texts = [f"a video of {label.prompt}" for label in labels.values()]
        chances = zero_shot_by_the_whole_model(folder, texts, vector_D)
        best = list(labels)[int(np.argmax(chances))]
        expected = best if max(chances) >= 0.3 else "unknown"
        assert sample.record.extra["environment"] == expected
        assert sample.record.scores["environment_confidence"] == pytest.approx(
            max(chances), abs=2e-3
        )
        assert sample.record.extra["type_source"] == folder.name
        assert "objects" not in sample.record.extra


def test_impossible_settings_are_refused(videos, tmp_path):
    with pytest.raises(ConfigError, match="0 to 1"):
        VideoTypeSettings(min_confidence=3)
    with pytest.raises(ConfigError, match="by takes no 'guess'"):
        VideoTypeSettings(by="guess")
    with pytest.raises(ConfigError, match="none is named"):
        curate(videos, tmp_path / "out", replace(SETTINGS, video_type=VideoTypeSettings(by="vlm")))
    settings = replace(SETTINGS, video_type=VideoTypeSettings(keep=("dogs",)))
    with pytest.raises(ConfigError, match="no label 'dogs'"):
        curate(videos, tmp_path / "out", settings)
