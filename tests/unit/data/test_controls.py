"""Controls: any sidecar that a control declares comes into the batch as the control reads it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from nemo_cosmos.controls import Control, Signal, SignalArray
from nemo_cosmos.data.loading import latent_dataset
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.writer import CuratedWriter, ShardWriter, read_samples
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.run import tokenize_shards
from nemo_cosmos.errors import ConfigError, NumericsError, SampleError

from .conftest import npy


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


CAMERA = Control(
    "camera",
    (
        Signal(
            "camera.npz", (SignalArray("poses", "frame", (7,)), SignalArray("focal", None, (1,)))
        ),
        Signal("wind.npy", (SignalArray("wind"),)),
    ),
    {},
)


@pytest.fixture
def registered(monkeypatch):
    known = {"camera": CAMERA}
    monkeypatch.setattr(latent_dataset, "controls_of", lambda specs: [known[s.name] for s in specs])


def write(folder, record, **files):
    import torch

    with ShardWriter(folder) as writer:
        latent, text = pack_latent(torch.zeros(16, 3, 8, 12)), pack_embedding(torch.ones(2, 8))
        writer.add(record, {"latent.safetensors": latent, "t5.safetensors": text, **files})
    return folder


def first_batch(folder, *names):
    return next(iter(LatentDataModule(folder, controls=names).train_dataloader()))


def test_a_control_reads_all_its_signals(tmp_path, make_record, registered):
    poses = np.arange(17 * 7, dtype=np.float64).reshape(17, 7)
    files = {
        "camera.npz": npz(poses=poses, focal=np.array([2.0]), other=np.ones(3)),
        "wind.npy": npy(np.array([3, 4])),
    }
    batch = first_batch(write(tmp_path, make_record(num_frames=17), **files), "camera")
    np.testing.assert_array_equal(batch["camera_poses"][0].numpy(), poses.astype(np.float32))
    assert batch["camera_focal"].tolist() == [[2.0]]
    assert batch["wind"].tolist() == [[3.0, 4.0]]
    assert "camera_other" not in batch, "what no signal declares is not loaded"


def test_the_installed_action_control_is_found(write_latents):
    batch = first_batch(write_latents(), "action")
    assert batch["action"].shape == (1, 16, 7)


def test_an_unknown_control_names_the_nearest(write_latents):
    with pytest.raises(ConfigError, match=r"no control 'actions'.*'action'"):
        first_batch(write_latents(), "actions")


NAN = np.full((25, 7), np.nan)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("wind.npy", b"no array", SampleError, r"'wind\.npy' of sample 'clip'"),
        ("wind.npy", npy(np.array([np.nan])), NumericsError, r"'wind\.npy' of sample 'clip'.* NaN"),
        ("camera.npz", b"PK no zip", SampleError, r"'camera\.npz' of sample 'clip'"),
        ("camera.npz", npy(np.zeros(3)), SampleError, r"'camera\.npz'.*a single array"),
        ("camera.npz", npz(poses=NAN, focal=np.ones(1)), NumericsError, "'poses' in 'camera.*NaN"),
        ("camera.npz", npz(focal=np.ones(1)), SampleError, "no array 'poses'"),
        ("camera.npz", npz(poses=np.zeros((24, 7)), focal=np.ones(1)), SampleError, "24 rows"),
        ("camera.npz", npz(poses=np.zeros((25, 6)), focal=np.ones(1)), SampleError, r"\(25, 7\)"),
    ],
)
def test_damaged_sidecars(tmp_path, make_record, registered, name, content, error, message):
    files = {
        "camera.npz": npz(poses=np.zeros((25, 7)), focal=np.ones(1)),
        "wind.npy": npy(np.ones(2)),
    }
    folder = write(tmp_path, make_record(num_frames=25), **{**files, name: content})
    with pytest.raises(error, match=message):
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
