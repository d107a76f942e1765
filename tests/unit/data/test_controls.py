"""Controls: any sidecar that a control declares comes into the batch as the control reads it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from nemo_cosmos.data import controls
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.writer import CuratedWriter, ShardWriter, read_samples
from nemo_cosmos.data.tokenize.run import TokenizeConfig, tokenize_shards
from nemo_cosmos.errors import NumericsError, SampleError

from .conftest import npy


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class CameraReader:
    """Reads cameras as a control would: poses by frame, focal lengths for all frames."""

    sidecars = ("camera.npz", "rig.json")

    @classmethod
    def read(cls, sidecars, first_frame, num_frames):
        camera = sidecars["camera.npz"]
        poses = camera["poses"][first_frame : first_frame + num_frames]
        if len(poses) != num_frames:
            raise SampleError(f"{len(poses)} poses for {num_frames} frames.")
        return {"poses": poses, "focal": camera["focal"] * sidecars["rig.json"]["scale"]}


@pytest.fixture
def registered(monkeypatch):
    class Point:
        name = "camera"

        def load(self):
            return CameraReader

    monkeypatch.setattr(controls, "entry_points", lambda group: [Point()])


def write(folder, record, **files):
    import torch

    with ShardWriter(folder) as writer:
        latent, text = pack_latent(torch.zeros(16, 3, 8, 12)), pack_embedding(torch.ones(2, 8))
        writer.add(record, {"latent.safetensors": latent, "t5.safetensors": text, **files})
    return folder


def first_batch(folder, *names):
    return next(iter(LatentDataModule(folder, controls=names).train_dataloader()))


def test_a_control_reads_all_its_sidecars(tmp_path, make_record, registered):
    poses = np.arange(17 * 7, dtype=np.float64).reshape(17, 7)
    files = {
        "camera.npz": npz(poses=poses, focal=np.array([2.0])),
        "rig.json": b'{"scale": 1.5}',
    }
    batch = first_batch(write(tmp_path, make_record(num_frames=17), **files), "camera")
    np.testing.assert_array_equal(batch["poses"][0].numpy(), poses.astype(np.float32))
    assert batch["focal"].tolist() == [[3.0]]


def test_what_a_control_refuses_names_the_sample(tmp_path, make_record, registered):
    files = {
        "camera.npz": npz(poses=np.zeros((5, 7)), focal=np.ones(1)),
        "rig.json": b'{"scale": 1}',
    }
    folder = write(tmp_path, make_record(num_frames=17), **files)
    with pytest.raises(SampleError, match=r"In sample 'clip' of .*5 poses for 17 frames"):
        first_batch(folder, "camera")


def test_the_installed_action_control_is_found(write_latents):
    batch = first_batch(write_latents(), "action")
    assert batch["action"].shape == (1, 16, 7)


def test_an_array_of_ones_own(tmp_path, make_record):
    folder = write(tmp_path, make_record(), **{"wind.npy": npy(np.array([3, 4]))})
    assert first_batch(folder, "wind")["wind"].tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"no array", SampleError, r"'wind\.npy' of sample 'clip'"),
        (npy(np.array([np.nan])), NumericsError, "wind of sample 'clip'.* holds NaN"),
    ],
)
def test_damaged_sidecars(tmp_path, make_record, content, error, message):
    folder = write(tmp_path, make_record(), **{"wind.npy": content})
    with pytest.raises(error, match=message):
        first_batch(folder, "wind")


@pytest.mark.parametrize(("name", "content"), [("camera.npz", b"PK no zip"), ("rig.json", b"{")])
def test_damaged_files_of_other_kinds(tmp_path, make_record, registered, name, content):
    files = {"camera.npz": npz(poses=np.zeros((25, 7)), focal=np.ones(1)), "rig.json": b"{}"}
    folder = write(tmp_path, make_record(), **{**files, name: content})
    with pytest.raises(SampleError, match=f"'{name}' of sample 'clip'"):
        first_batch(folder, "camera")


def test_tokenize_cuts_any_npz_along(tmp_path, make_record, mp4):
    import torch

    poses = np.arange(25.0)[:, None]
    with CuratedWriter(tmp_path / "in") as writer:
        files = {"mp4": mp4, "lidar.npz": npz(poses=poses, focal=np.ones(3))}
        writer.add(make_record("clip"), files)
    tokenize_shards(
        tmp_path / "in",
        tmp_path / "out",
        encode=lambda video_BCTHW: torch.zeros(len(video_BCTHW), 16, 2, 4, 6),
        encode_text=lambda texts: (torch.ones(len(texts), 2, 8), torch.ones(len(texts), 2)),
        config=TokenizeConfig(window_frames=9, window_stride=8, size=(32, 48)),
    )
    sample = next(s for s in read_samples(tmp_path / "out") if s.key.endswith("w000008"))
    with np.load(io.BytesIO(sample.read("lidar.npz"))) as arrays:
        assert arrays["poses"][:, 0].tolist() == list(range(8, 17))
        assert arrays["focal"].shape == (3,)
