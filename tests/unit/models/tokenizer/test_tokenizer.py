"""VideoTokenizer: folder, normalisation, chunks, bad input."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingFileError,
    NumericsError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats, compute_latent_stats
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer


@pytest.fixture
def tokenizer(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8")
    return VideoTokenizer(net, compute_latent_stats(net, [random_video(2, 9, 16, 16)]))


def test_folder_round_trip(tokenizer, random_video, tmp_path):
    video = random_video(1, 5, 16, 24)
    z = tokenizer.encode(video)
    tokenizer.save(tmp_path / "tok")
    again = VideoTokenizer.from_folder(tmp_path / "tok")
    assert again.config == tokenizer.config
    assert torch.equal(again.encode(video), z)
    assert torch.equal(again.decode(z), tokenizer.decode(z))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    names = {path.name for path in (tmp_path / "tok").iterdir()}
    assert names == {"config.json", "model.safetensors", "latent_stats.safetensors"}


def test_saving_again_replaces_the_folder(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tok")
    tokenizer.stats = None
    tokenizer.save(tmp_path / "tok")
    assert VideoTokenizer.from_folder(tmp_path / "tok").stats is None


def test_latents_are_normalised_and_decode_undoes_it(tokenizer, random_video):
    video = random_video(2, 9, 16, 16)  # what the statistics were measured on
    z = tokenizer.encode(video)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std((0, 2, 3, 4), correction=0), torch.ones(16), rtol=0, atol=1e-4)
    expected = tokenizer.net(video).clamp(-1, 1)
    torch.testing.assert_close(tokenizer.decode(z), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["tokenizer_cv4x8x8", "tokenizer_dv4x8x8", "tokenizer_ci8x8"])
@pytest.mark.parametrize("chunk_frames", [5, 9, 13, 33])
def test_chunks_equal_one_pass(tiny_network, random_video, name, chunk_frames):
    tokenizer = VideoTokenizer(tiny_network(name))
    video = random_video(1, 17, 16, 16)
    z = tokenizer.encode(video)
    chunked = tokenizer.encode(video, chunk_frames)
    torch.testing.assert_close(chunked, z, rtol=0, atol=1e-5)
    frames = tokenizer.decode(z, chunk_frames)
    torch.testing.assert_close(frames, tokenizer.decode(z), rtol=0, atol=1e-5)


def test_discrete_tokenizers_return_indices(tiny_network, random_video, tmp_path):
    tokenizer = VideoTokenizer(tiny_network("tokenizer_dv4x8x8"))
    tokenizer.save(tmp_path / "tok")
    tokenizer = VideoTokenizer.from_folder(tmp_path / "tok")
    indices = tokenizer.encode(random_video(1, 5, 16, 16))
    assert indices.dtype == torch.int32 and indices.shape == (1, 2, 2, 2)
    assert tokenizer.latent_shape(5, 16, 16) == (1, 2, 2, 2)
    assert tokenizer.decode(indices).shape == (1, 3, 5, 16, 16)


def test_bfloat16_folder(tokenizer, random_video, tmp_path):
    tokenizer.save(tmp_path / "tok")
    rough = VideoTokenizer.from_folder(tmp_path / "tok", dtype=torch.bfloat16)
    video = random_video(1, 5, 16, 16)
    z = rough.encode(video)
    assert z.dtype == torch.float32
    assert (z - tokenizer.encode(video)).abs().mean() < 0.1
    assert rough.decode(z).dtype == torch.float32


def test_statistics_per_frame(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8")
    videos = [random_video(1, 9, 16, 16, seed=seed) for seed in (1, 2)]
    stats = compute_latent_stats(net, videos, per_frame=True)
    with torch.no_grad():
        z = torch.cat([net.encode(video) for video in videos])
    torch.testing.assert_close(stats.mean, z.mean((0, 3, 4)), rtol=0, atol=1e-5)
    torch.testing.assert_close(stats.std, z.std((0, 3, 4), correction=0), rtol=0, atol=1e-5)
    longer = torch.zeros(1, 16, 5, 1, 1)  # the last column holds beyond the measured frames
    torch.testing.assert_close(
        stats.denormalise(longer)[0, :, :, 0, 0], stats.mean[:, [0, 1, 2, 2, 2]]
    )
    with pytest.raises(InputError, match="one length"):
        compute_latent_stats(net, [videos[0], videos[0][:, :, :5]], per_frame=True)


def test_statistics_need_a_continuous_tokenizer_and_a_video(tiny_network):
    with pytest.raises(InputError, match="discrete"):
        compute_latent_stats(tiny_network("tokenizer_dv4x8x8"), [])
    with pytest.raises(InputError, match="no video"):
        compute_latent_stats(tiny_network("tokenizer_cv4x8x8"), [])


def test_measuring_statistics_leaves_training_mode(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8").train()
    compute_latent_stats(net, [random_video(1, 5, 16, 16)])
    assert net.training


def test_impossible_statistics_are_refused():
    with pytest.raises(NumericsError, match="above 0"):
        LatentStats(torch.zeros(16), torch.zeros(16))
    with pytest.raises(NumericsError, match="finite"):
        LatentStats(torch.full((16,), torch.nan), torch.ones(16))
    with pytest.raises(InputError, match="shapes"):
        LatentStats(torch.zeros(16), torch.ones(16, 3))


def test_bad_videos(tokenizer, random_video):
    video = random_video(1, 5, 16, 16)
    with pytest.raises(WrongFrameCountError, match="nearest legal lengths are 5 or 9"):
        tokenizer.encode(random_video(1, 6, 16, 16))
    with pytest.raises(WrongFrameCountError, match="nearest legal lengths are 5 or 9"):
        tokenizer.encode(video, chunk_frames=8)
    with pytest.raises(WrongSizeError, match="multiples of 8"):
        tokenizer.encode(random_video(1, 5, 16, 20))
    with pytest.raises(InputError, match=r"video / 127\.5 - 1"):
        tokenizer.encode(torch.zeros(1, 3, 5, 16, 16, dtype=torch.uint8))
    video[0, 0, 0, 0, 0] = torch.nan
    video[0, 0, 0, 0, 1] = torch.inf
    with pytest.raises(NumericsError, match="2 pixels"):
        tokenizer.encode(video)


def test_bad_latents(tokenizer):
    with pytest.raises(NumericsError, match="1 values"):
        tokenizer.decode(torch.tensor([torch.nan] + [0.0] * 63).reshape(1, 16, 1, 2, 2))
    with pytest.raises(InputError, match="decodes latents"):
        tokenizer.decode(torch.zeros(1, 8, 1, 2, 2))


def test_bad_folders(tokenizer, tmp_path):
    with pytest.raises(MissingFileError, match="There is no file"):
        VideoTokenizer.from_folder(tmp_path / "nowhere")
    folder = tmp_path / "tok"
    tokenizer.save(folder)
    config = json.loads((folder / "config.json").read_text())

    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        VideoTokenizer.from_folder(folder)
    save_file({"encoder.nothing": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        VideoTokenizer.from_folder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"model\.safetensors"):
        VideoTokenizer.from_folder(folder)

    tokenizer.save(folder)
    (folder / "latent_stats.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="'mean' and 'std'"):
        VideoTokenizer.from_folder(folder)

    for text, error, message in (
        ("{", CheckpointError, "not the configuration"),
        ("[]", CheckpointError, "not the configuration"),
        (json.dumps({}), CheckpointError, "not the configuration"),
        (json.dumps(config | {"version": 99}), CheckpointError, "version 99"),
        (json.dumps(config | {"network": {"nam": 1}}), ConfigError, "'name'"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(error, match=message):
            VideoTokenizer.from_folder(folder)
