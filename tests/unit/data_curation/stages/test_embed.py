"""The stage *embed*: a sidecar for every clip, in the shards too."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation import CurateSettings, EmbedSettings, SplitSettings, curate
from data_curation.clip import Rejection
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.settings import OPTIONAL_STAGES
from data_curation.stages.embed import EmbedStage
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video, encode_video


@pytest.fixture
def embed(tmp_path, store, make_clip):
    def embed(frames) -> tuple:
        source = tmp_path / "v.mp4"
        encode_video(source, Video(frames, fps=10))
        clip = replace(make_clip(source), num_frames=len(frames), suffixes=("mp4",))
        store.put(clip.clip_id, "mp4", source.read_bytes())
        stage = EmbedStage(EmbedSettings(num_frames=3), store)
        stage.prepare()
        return stage.process_batch([clip], [stage.look(clip)])[0], store

    return embed


def test_a_clip_gets_a_vector_of_length_one_and_thumbnails(embed, scene):
    clip, store = embed(scene(1, 12))
    assert clip.suffixes == ("mp4", EMBEDDING_SUFFIX)
    found = ClipEmbedding.from_bytes(store.get(clip.clip_id, EMBEDDING_SUFFIX), "the clip")
    assert found.vector_D.shape == (1280,) and found.vector_D.dtype == np.float16
    assert np.linalg.norm(found.vector_D.astype(np.float32)) == pytest.approx(1, abs=1e-3)
    assert found.signature_TYX.shape == (3, 16, 16)


def test_the_same_picture_in_another_size_is_near_and_another_picture_far(embed):
    def vector(picture, size):
        clip, store = embed(np.repeat(cv2.resize(picture, size)[None], 3, axis=0))
        content = store.get(clip.clip_id, EMBEDDING_SUFFIX)
        return ClipEmbedding.from_bytes(content, "the clip").vector_D.astype(np.float32)

    first = vector(data.astronaut(), (256, 256))
    assert first @ vector(data.astronaut(), (160, 160)) > 0.9
    assert first @ vector(data.coffee(), (256, 256)) < 0.6


def test_a_clip_that_cannot_be_decoded_is_counted_as_such(store, embed, scene):
    clip, store = embed(scene(1, 6))
    store.put(clip.clip_id, "mp4", b"no video")
    result = EmbedStage(EmbedSettings(), store).look(clip)
    assert isinstance(result, Rejection) and result.reason == "decode_failure"


def test_clips_of_a_batch_are_what_they_are_alone_and_a_bad_one_costs_no_other(
    store, tmp_path, scene, make_clip
):
    clips = []
    for seed in range(3):
        encode_video(tmp_path / f"{seed}.mp4", Video(scene(seed, 12), fps=10))
        clip = replace(make_clip(tmp_path / f"{seed}.mp4"), clip_id=f"clip-{seed}", num_frames=12)
        store.put(clip.clip_id, "mp4", clip.source.read_bytes())
        clips.append(clip)
    store.put("clip-1", "mp4", b"no video")
    stage = EmbedStage(EmbedSettings(num_frames=8), store)
    looks = [stage.look(clip) for clip in clips]
    assert [isinstance(look, Rejection) for look in looks] == [False, True, False]
    stage.process_batch(clips[::2], looks[::2])
    together = [store.get(f"clip-{seed}", EMBEDDING_SUFFIX) for seed in (0, 2)]
    for seed in (0, 2):
        stage.process_batch([clips[seed]], [looks[seed]])
    assert [store.get(f"clip-{seed}", EMBEDDING_SUFFIX) for seed in (0, 2)] == together


def test_no_frame_at_all_is_refused():
    with pytest.raises(ConfigError, match="1 to 1,000"):
        EmbedSettings(num_frames=0)


def test_the_sidecar_is_in_the_shards_and_a_run_may_do_without(raw, tmp_path):
    others = tuple(name for name in OPTIONAL_STAGES if name != "embed")
    settings = CurateSettings(split=SplitSettings(min_clip_s=1), skip=others)
    curate(raw / "sub", tmp_path / "out", settings)
    assert all(EMBEDDING_SUFFIX in sample.members for sample in read_samples(tmp_path / "out"))
    with pytest.raises(ConfigError, match="'transcode' cannot be skipped"):
        CurateSettings(skip=("transcode",))
