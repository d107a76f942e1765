"""Chunked and streaming results equal one pass."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import InputError, WrongFrameCountError
from nemo_cosmos.models.tokenizer.network.streaming import (
    CausalCache,
    StreamingDecoder,
    StreamingEncoder,
    chunk_bounds,
)

# Chunk lengths in latent frames; they add up to 7.
CHUNKINGS = [(1, 1, 1, 1, 1, 1, 1), (3, 1, 3), (1, 6), (6, 1), (2, 4, 1)]
PRESETS = [
    "tokenizer_cv4x8x8",
    "tokenizer_cv8x8x8",
    "tokenizer_cv8x16x16",
    "tokenizer_cv4x8x8_lowres",
    "tokenizer_dv8x8x8",
    "tokenizer_ci8x8",
]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("chunking", CHUNKINGS)
@torch.no_grad()
def test_streaming_equals_one_pass(tiny_network, random_video, name, chunking):
    net = tiny_network(name)
    factor = net.config.temporal_factor
    video = random_video(1, 1 + 6 * factor, 16, 16)
    latents = net.encode(video)
    encoder = StreamingEncoder(net.encode, factor)
    lengths = [factor * n for n in chunking]
    lengths[0] -= factor - 1
    parts = [encoder.push(chunk) for chunk in video.split(lengths, dim=2)]
    time = 1 if net.config.discrete else 2
    torch.testing.assert_close(torch.cat(parts, time), latents, rtol=0, atol=1e-5)

    decoder = StreamingDecoder(net.decode)
    frames = [decoder.push(chunk) for chunk in latents.split(list(chunking), dim=time)]
    assert frames[0].shape[2] == lengths[0]
    torch.testing.assert_close(torch.cat(frames, 2), net.decode(latents), rtol=0, atol=1e-5)


@torch.no_grad()
def test_two_streams_do_not_mix(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8")
    videos = [random_video(1, 9, 16, 16, seed=seed) for seed in (1, 2)]
    streams = [StreamingEncoder(net.encode, 4) for _ in videos]
    firsts = [s.push(v[:, :, :5]) for s, v in zip(streams, videos, strict=True)]
    seconds = [s.push(v[:, :, 5:]) for s, v in zip(streams, videos, strict=True)]
    for first, second, video in zip(firsts, seconds, videos, strict=True):
        both = torch.cat([first, second], dim=2)
        torch.testing.assert_close(both, net.encode(video), rtol=0, atol=1e-5)


@torch.no_grad()
def test_bounded_attention_forgets_and_keeps_memory_bounded(tiny_network):
    net = tiny_network("tokenizer_cv4x8x8")
    z = torch.randn(1, 16, 6, 2, 2)
    bounded = StreamingDecoder(net.decode, max_attention_frames=1)
    frames = [bounded.push(frame) for frame in z.split(1, dim=2)]
    keys, _ = next(iter(bounded._cache._keys_values.values()))
    assert keys.shape[-2] == 2  # one past frame and the present one
    whole = net.decode(z)
    torch.testing.assert_close(torch.cat(frames[:2], 2), whole[:, :, :5], rtol=0, atol=1e-5)
    assert not torch.allclose(torch.cat(frames, 2), whole, atol=1e-5)


def test_cache_does_not_keep_the_chunk_alive():
    cache, layer, chunk = CausalCache(), torch.nn.Identity(), torch.zeros(1, 4, 64, 8, 8)
    cache.keep(layer, chunk[:, :, -2:])
    assert cache.recall(layer).untyped_storage().nbytes() == 4 * 4 * 2 * 64


@pytest.mark.parametrize(("first", "nearest"), [(4, "1 and 5"), (6, "5 and 9"), (0, "1 and 1")])
def test_wrong_first_chunk(tiny_network, random_video, first, nearest):
    net = tiny_network("tokenizer_cv4x8x8")
    with pytest.raises(WrongFrameCountError, match=nearest):
        StreamingEncoder(net.encode, 4).push(random_video(1, first, 16, 16))


@torch.no_grad()
def test_wrong_later_chunk(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8")
    stream = StreamingEncoder(net.encode, 4)
    stream.push(random_video(1, 5, 16, 16))
    with pytest.raises(WrongFrameCountError, match="4n frames, so the nearest are 4 and 8"):
        stream.push(random_video(1, 5, 16, 16))


def test_attention_bound_must_be_positive():
    with pytest.raises(InputError, match="at least 1"):
        CausalCache(max_attention_frames=0)


def test_chunk_bounds_cover_everything_once():
    assert list(chunk_bounds(10, 5, 4)) == [(0, 5), (5, 9), (9, 10)]
    assert list(chunk_bounds(3, 5, 4)) == [(0, 3)]
