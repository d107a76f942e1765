"""Changed copies of windows: pictures, signals, words and records change together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nemo_cosmos.controls import decode_arrays, encode_arrays
from nemo_cosmos.controls.embodiment import find_embodiment
from nemo_cosmos.controls.motions import mirror_rows
from nemo_cosmos.data.augmentation.settings import Variants
from nemo_cosmos.data.loading.latents import TEXT_SUFFIX, pack_embedding, unpack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.writer import CuratedWriter, read_samples
from nemo_cosmos.data.tokenize import windows
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.video import decode

from ..conftest import HEIGHT, NUM_FRAMES, WIDTH, npy
from .conftest import CONFIG, Encoders, run

FLIPPED = Variants(flip=1.0)


def with_variants(variants, config=CONFIG):
    return replace(config, variants=variants)


def samples_of(folder):
    return {sample.key: sample for sample in read_samples(folder)}


def array_of(sample, suffix):
    return next(iter(decode_arrays(suffix, sample.read(suffix), "").values()))


@pytest.fixture
def write_clip(tmp_path, make_record, mp4):
    def write(name="in", caption="the square moves right", record=None, **files):
        with CuratedWriter(tmp_path / name) as writer:
            made = make_record("clip", caption=caption).with_changes(**(record or {}))
            writer.add(made, {"mp4": mp4, **files})
        return tmp_path / name

    return write


def test_windows_stay_as_they_are_without_and_beside_copies(curated, tmp_path):
    run(curated, tmp_path / "plain", Encoders())
    run(curated, tmp_path / "more", Encoders(), with_variants(Variants(flip=0.5, number=2)))
    plain, more = samples_of(tmp_path / "plain"), samples_of(tmp_path / "more")
    assert len(more) == 3 * len(plain)
    assert "augmentation" not in next(iter(plain.values())).record.extra
    for key, sample in plain.items():
        for suffix in sample.members:
            assert more[key].read(suffix) == sample.read(suffix), (key, suffix)
        assert {f"{key}-a1", f"{key}-a2"} <= set(more)


def test_a_mirrored_copy_has_mirrored_pictures_actions_and_words(tmp_path, write_clip, actions):
    encoders = Encoders()
    actions = np.random.default_rng(0).normal(size=actions.shape).astype(np.float32)
    source = write_clip(record={"instruction": "push it right"}, **{"action.npy": npy(actions)})
    config = with_variants(FLIPPED, replace(CONFIG, keep_video=True, latent_dtype="float32"))
    dataset = run(source, tmp_path / "out", encoders, config)
    found = samples_of(tmp_path / "out")
    plain, mirrored = found["clip-w000008"], found["clip-w000008-a1"]
    shown, seen = (decode(one.read("mp4")).frames_THWC.astype(int) for one in (plain, mirrored))
    assert np.abs(seen - shown[:, :, ::-1]).mean() < 3 < np.abs(seen - shown).mean()
    latents = [unpack_latent(one.read("latent.safetensors"), "") for one in (plain, mirrored)]
    np.testing.assert_allclose(latents[1], latents[0].flip(-1), atol=0.02)
    expected = mirror_rows(find_embodiment("bridge_7").numbers, actions[8:16], 1)
    np.testing.assert_array_equal(array_of(mirrored, "action.npy"), expected)
    assert mirrored.record.caption == "the square moves left"
    assert mirrored.record.extra["instruction"] == "push it left"
    assert "the square moves left" in encoders.texts
    told = mirrored.record.extra["augmentation"]
    assert (told["mirrored"], told["mirror_axis"], told["variant"]) == (True, "y", 1)
    assert dataset["window"]["variants"]["flip"] == 1.0
    recorded = json.loads((tmp_path / "out" / "dataset.json").read_text())["window"]["variants"]
    assert recorded == dataset["window"]["variants"]


def test_the_camera_follows_crop_and_mirror_and_chooses_the_axis(tmp_path, write_clip):
    lens = np.tile([[80.0, 0, 50], [0, 80, 30], [0, 0, 1]], (NUM_FRAMES, 1, 1))
    poses = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    camera = {"poses": poses, "intrinsics": lens, "size": np.array([HEIGHT, WIDTH])}
    source = write_clip(**{"camera.npz": encode_arrays("camera.npz", camera)})
    run(source, tmp_path / "out", Encoders(), with_variants(Variants(flip=1, crop=0.4, seed=3)))
    sample = samples_of(tmp_path / "out")["clip-w000000-a1"]
    told = sample.record.extra["augmentation"]
    top, left, bottom, right = told["box"]
    assert bottom - top < HEIGHT and told["mirror_axis"] == "x"
    camera = decode_arrays("camera.npz", sample.read("camera.npz"), "")
    scale = 48 / (right - left)
    x, y = (right - 50) * scale, (30 - top) * 32 / (bottom - top)
    np.testing.assert_allclose(camera["intrinsics"][0, :2, 2], [x, y], atol=0.6)
    np.testing.assert_allclose(camera["intrinsics"][0, 0, 0], 80 * scale, rtol=0.03)
    assert camera["size"].tolist() == [32, 48]


def test_a_fast_copy_takes_every_second_frame_and_joins_actions(tmp_path, write_clip, actions):
    source = write_clip(**{"action.npy": npy(actions), "state.npy": npy(np.zeros((NUM_FRAMES, 7)))})
    config = with_variants(Variants(speed=(2,)), replace(CONFIG, keep_video=True))
    run(source, tmp_path / "out", Encoders(), config)
    found = samples_of(tmp_path / "out")
    fast = found["clip-w000008-a1"]
    assert fast.record.fps == 12 and fast.record.extra["augmentation"]["speed"] == 2
    assert fast.record.span_s == pytest.approx((1 + 8 / 24, 1 + 25 / 24))
    joined = array_of(fast, "action.npy")
    assert joined[:, 0].tolist() == [2 * row + 1 for row in range(8, 24, 2)]
    assert joined[:, 6].tolist() == list(range(9, 24, 2))
    assert array_of(fast, "state.npy").shape == (9, 7)
    slow = [found[f"clip-w{start:06d}"] for start in (8, 16)]
    frames = np.concatenate([decode(one.read("mp4")).frames_THWC for one in slow])
    picked = np.r_[frames[:8:2], frames[9::2]].astype(int)
    shown = decode(fast.read("mp4")).frames_THWC.astype(int)
    assert np.abs(shown - picked).mean() < 3
    late = found["clip-w000016-a1"].record
    assert late.fps == 24, "too near the end for every second frame"


def test_copies_depend_on_seed_and_window_alone(curated, tmp_path):
    variants = Variants(flip=0.5, crop=0.3, colour=0.2, speed=(1, 2), number=2)
    for name, chosen in (("a", variants), ("b", variants), ("c", replace(variants, seed=1))):
        run(curated, tmp_path / name, Encoders(), with_variants(chosen))
    a, b, c = (
        {key: one.read("latent.safetensors") for key, one in samples_of(tmp_path / name).items()}
        for name in "abc"
    )
    assert a == b
    assert a.keys() == c.keys() and a != c
    more = with_variants(replace(variants, number=3))
    run(curated, tmp_path / "d", Encoders(), more)
    d = samples_of(tmp_path / "d")
    assert all(d[key].read("latent.safetensors") == latent for key, latent in a.items())


def test_long_clips_are_decoded_piece_by_piece_to_the_same(curated, tmp_path, monkeypatch):
    from nemo_cosmos.data.tokenize import variants as module

    config = with_variants(Variants(flip=0.5, speed=(1, 2)))
    run(curated, tmp_path / "whole", Encoders(), config)
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 1)
    assert windows.MAX_DECODED_BYTES > 1
    run(curated, tmp_path / "pieces", Encoders(), config)
    whole, pieces = samples_of(tmp_path / "whole"), samples_of(tmp_path / "pieces")
    assert whole.keys() == pieces.keys()
    for key, sample in whole.items():
        assert pieces[key].read("latent.safetensors") == sample.read("latent.safetensors")


@pytest.mark.parametrize(
    ("caption", "stored", "is_mirrored"),
    [
        ("the square moves right", False, True),
        ("a cup is left on the table", False, False),
        ("the square moves right", True, False),
        ("a square", True, True),
    ],
)
def test_what_words_cannot_follow_is_not_mirrored(
    tmp_path, write_clip, caption, stored, is_mirrored
):
    source = write_clip(caption=caption, **{TEXT_SUFFIX: pack_embedding(torch.ones(2, 8), "a")})
    encoders = Encoders()
    if stored:
        encoders.encode_text = None
    run(source, tmp_path / "out", encoders, with_variants(FLIPPED))
    told = samples_of(tmp_path / "out")["clip-w000000-a1"].record.extra["augmentation"]
    assert told["mirrored"] is is_mirrored


def test_training_reads_copies_as_any_sample(curated, tmp_path):
    run(curated, tmp_path / "out", Encoders(), with_variants(FLIPPED))
    module = LatentDataModule(tmp_path / "out", controls=("action",), text_length=4)
    batch = next(iter(module.train_dataloader()))
    assert batch["action"].shape == (1, 8, 7)


@pytest.mark.parametrize(
    ("variants", "files", "message"),
    [
        (
            FLIPPED,
            {"depth.npy": npy(np.zeros((NUM_FRAMES, 4, 4)))},
            r"'depth\.npy' of sample 'clip'",
        ),
        (Variants(crop=0.5), {"depth.npy": npy(np.zeros((NUM_FRAMES, 4)))}, "in_picture"),
        (
            FLIPPED,
            {"action.npy": npy(np.zeros((NUM_FRAMES - 1, 12)))},
            r"'bridge_7', has 7 numbers",
        ),
        (Variants(flip=1e-9), {"depth.npy": npy(np.zeros((NUM_FRAMES, 4)))}, "in_picture"),
        (Variants(speed=(1, 2)), {"force.npy": npy(np.zeros(NUM_FRAMES - 1))}, "how to join"),
    ],
)
def test_signals_that_cannot_follow_are_refused(tmp_path, write_clip, variants, files, message):
    with pytest.raises(SampleError, match=message):
        run(write_clip(**files), tmp_path / "out", Encoders(), with_variants(variants))
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_another_augmentation_needs_another_folder(curated, tmp_path):
    run(curated, tmp_path / "out", Encoders(), with_variants(FLIPPED))
    with pytest.raises(ConfigError, match="begun with variants"):
        run(curated, tmp_path / "out", Encoders(), with_variants(Variants(flip=0.5)))
    with pytest.raises(ConfigError, match="begun with variants"):
        run(curated, tmp_path / "out", Encoders())


def test_a_folder_from_before_goes_on(curated, tmp_path):
    run(curated, tmp_path / "out", Encoders())
    begun = json.loads((tmp_path / "out" / "tokenize.json").read_text())
    del begun["config"]["variants"]
    (tmp_path / "out" / "tokenize.json").write_text(json.dumps(begun))
    encoders = Encoders()
    run(curated, tmp_path / "out", encoders)
    assert not encoders.batches


def test_variants_are_variants():
    with pytest.raises(ConfigError, match="must be a Variants"):
        TokenizeConfig(variants={"flip": 0.5})
