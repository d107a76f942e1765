"""Tokenising samples of several cameras: one latent with the views after another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nemo_cosmos.controls import encode_arrays
from nemo_cosmos.data.augmentation.settings import Variants
from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.loading.latent_dataset import LatentDataset
from nemo_cosmos.data.loading.latents import LATENT_SUFFIX, unpack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.writer import ShardWriter, read_samples
from nemo_cosmos.data.tokenize.run import sample_videos
from nemo_cosmos.errors import SampleError
from nemo_cosmos.video import Video, encode_video

from .conftest import CONFIG, run

VIEWS = ("front", "left", "right")
LEVELS = {"front": 40, "left": 120, "right": 200}


def rig(names=VIEWS, size=(64, 96)):
    count = len(names)
    matrix_33 = np.array([[80.0, 0, size[1] / 2], [0, 80, size[0] / 2], [0, 0, 1]])
    return {
        "poses": np.tile(np.eye(4), (count, 1, 1)),
        "intrinsics": np.tile(matrix_33, (count, 1, 1)),
        "size": np.tile(np.array(size, float), (count, 1)),
        "names": np.array(names),
    }


@pytest.fixture
def grey(tmp_path):
    def make(level, num_frames=25):
        frames_THWC = np.full((num_frames, 64, 96, 3), level, np.uint8)
        encode_video(tmp_path / "grey.mp4", Video(frames_THWC, fps=24.0), crf=1)
        return (tmp_path / "grey.mp4").read_bytes()

    return make


@pytest.fixture
def cars(tmp_path, make_record, grey):
    """Write clips of three cameras, each of its own grey, with path, rig and layout videos."""

    def write(name="shards", rig_values=None, left_frames=25, **changes):
        record = make_record("drive", views=VIEWS, **changes)
        path = np.stack([np.arange(25.0), np.zeros(25), np.zeros(25)], axis=1)
        files = {
            "mp4": grey(LEVELS["front"]),
            "left.mp4": grey(LEVELS["left"], left_frames),
            "right.mp4": grey(LEVELS["right"]),
            "layout.mp4": grey(10),
            "left.layout.mp4": grey(90),
            "right.layout.mp4": grey(240),
            "trajectory.npy": encode_arrays("trajectory.npy", {"trajectory": path}),
            "rig.npz": encode_arrays("rig.npz", rig_values or rig()),
        }
        with ShardWriter(tmp_path / name) as writer:
            writer.add(record, files)
        return tmp_path / name

    return write


def test_views_lie_after_one_another_in_one_latent(cars, tmp_path, encoders):
    dataset = run(cars(), tmp_path / "out", encoders)
    assert dataset["latent_shape"] == [16, 6, 4, 6]
    sample = read_samples(tmp_path / "out")[0]
    assert sample.record.views == VIEWS
    latent_CTHW = unpack_latent(sample.read(LATENT_SUFFIX))
    found = latent_CTHW.unflatten(1, (3, 2)).mean(dim=(0, 2, 3, 4))
    expected = torch.tensor([LEVELS[view] for view in VIEWS]) / 127.5 - 1
    assert torch.allclose(found, expected, atol=0.03)


def test_a_view_is_encoded_as_if_it_were_alone(cars, tmp_path, encoders, make_record, grey):
    run(cars(), tmp_path / "out", encoders)
    with ShardWriter(tmp_path / "alone") as writer:
        writer.add(make_record("drive"), {"mp4": grey(LEVELS["left"])})
    run(tmp_path / "alone", tmp_path / "single", encoders)
    together, alone = (
        unpack_latent(read_samples(tmp_path / name)[0].read(LATENT_SUFFIX))
        for name in ("out", "single")
    )
    assert torch.equal(together[:, 2:4], alone)


def test_no_more_videos_are_encoded_at_once_than_the_batch_size(cars, tmp_path, encoders):
    run(cars(), tmp_path / "out", encoders, replace(CONFIG, batch_size=2))
    assert max(shape[0] for shape in encoders.batches) == 2
    assert {shape[2] for shape in encoders.batches} == {9}


def test_a_batch_holds_path_rig_and_layout(cars, tmp_path, encoders):
    config = replace(CONFIG, size=(32, 48))
    run(cars(), tmp_path / "out", encoders, config)
    data = LatentDataModule(
        tmp_path / "out",
        micro_batch_size=1,
        global_batch_size=1,
        controls=("driving", "layout"),
        text_length=16,
    )
    batch = next(iter(data.train_dataloader()))
    assert batch["views"] == [VIEWS]
    assert batch["num_frames"].tolist() == [9.0]
    assert batch["latent"].shape == batch["layout"].shape == (1, 16, 6, 4, 6)
    assert batch["trajectory"].shape == (1, 9, 3)
    assert batch["rig_poses"].shape == (1, 3, 4, 4)
    assert batch["rig_size"].tolist() == [[[32.0, 48.0]] * 3]
    assert batch["rig_intrinsics"][0, 0].tolist() == [
        [40.0, 0.0, 24.0],
        [0.0, 40.0, 16.0],
        [0, 0, 1],
    ]
    levels = batch["layout"][0].unflatten(1, (3, 2)).mean(dim=(0, 2, 3, 4))
    assert torch.allclose(levels, torch.tensor([10.0, 90, 240]) / 127.5 - 1, atol=0.03)


def test_samples_of_other_views_are_in_other_buckets(cars, tmp_path, encoders, write_latents):
    run(cars(), tmp_path / "out", encoders)
    folders = [tmp_path / "out", write_latents(num_frames=9, height=32, width=48)]
    buckets = set(LatentDataset(folders, text_length=16).corpus.counts)
    assert buckets == {Bucket(9, 32, 48, VIEWS), Bucket(9, 32, 48)}


def test_kept_videos_are_those_of_each_view(cars, tmp_path, encoders):
    run(cars(), tmp_path / "out", encoders, replace(CONFIG, keep_video=True))
    sample = read_samples(tmp_path / "out")[0]
    assert {"mp4", "left.mp4", "right.mp4"} <= set(sample.members)
    sample.verify()


def test_statistics_see_each_view_as_a_video(cars):
    videos = list(sample_videos(cars(), CONFIG))
    assert [tuple(video.shape) for video in videos] == [(1, 3, 9, 32, 48)] * 3


def test_changed_copies_are_refused(cars, tmp_path, encoders):
    config = replace(CONFIG, variants=Variants(number=1, flip=0.5))
    with pytest.raises(SampleError, match="left cameras on the right"):
        run(cars(), tmp_path / "out", encoders, config)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"left_frames": 20}, r"The left\.mp4 of sample 'drive'"),
        ({"rig_values": rig(("front", "right", "left"))}, "expected the same in the same order"),
        ({"rig_values": rig(("front", "left"))}, "has 2 cameras"),
    ],
)
def test_what_does_not_belong_together_is_refused(cars, tmp_path, encoders, changes, reason):
    with pytest.raises(SampleError, match=reason):
        run(cars(**changes), tmp_path / "out", encoders)
