"""Sidecars: precision on disk, and no NaN in or out."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from nemo_cosmos.data.loading.latents import (
    pack_codes,
    pack_embedding,
    pack_latent,
    unpack_codes,
    unpack_embedding,
    unpack_latent,
)
from nemo_cosmos.errors import NumericsError, SampleError


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 1e-3), (torch.bfloat16, 1e-2), (torch.float32, 0)],
)
def test_there_and_back(dtype, tolerance):
    latent = torch.randn(16, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    again = unpack_latent(pack_latent(latent, dtype))
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, latent, rtol=tolerance, atol=tolerance)


def test_bfloat16_latents_of_a_model_are_taken():
    latent = torch.ones(16, 1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert unpack_latent(pack_latent(latent)).sum() == 64


def test_same_latent_gives_the_same_bytes():
    assert pack_latent(torch.ones(16, 1, 2, 2)) == pack_latent(torch.ones(16, 1, 2, 2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_is_refused_on_the_way_in(bad):
    latent = torch.zeros(16, 1, 2, 2)
    latent[3, 0, 1, 1] = bad
    with pytest.raises(NumericsError, match="latent of sample 'x' holds NaN or infinity"):
        pack_latent(latent, where="sample 'x'")


def test_embedding_beyond_float16():
    with pytest.raises(NumericsError, match=r"reaches 1e\+05, which torch.float16 cannot hold"):
        pack_embedding(torch.full((2, 8), 1e5))


def test_implausible_magnitudes_are_refused_on_both_ways():
    assert unpack_latent(pack_latent(torch.full((16, 1, 2, 2), 1e3))).max() == 1e3
    latent = torch.zeros(16, 1, 2, 2)
    latent[3, 0, 1, 1] = -3000
    with pytest.raises(NumericsError, match="latent of sample 'x' reaches a magnitude of 3e"):
        pack_latent(latent, where="sample 'x'")
    with pytest.raises(NumericsError, match="latent of sample 'x' reaches a magnitude of 3e"):
        unpack_latent(save({"latent": latent}), "sample 'x'")


def test_nan_is_refused_on_the_way_out():
    content = save({"latent": torch.full((16, 1, 2, 2), float("nan"))})
    with pytest.raises(NumericsError, match=r"latent of sample 'a' of 'b\.tar' holds NaN"):
        unpack_latent(content, "sample 'a' of 'b.tar'")


@pytest.mark.parametrize("shape", [(1, 16, 1, 2, 2), (16, 2, 2), (16, 0, 2, 2)])
def test_batches_and_empty_latents_are_refused(shape):
    with pytest.raises(SampleError, match="one sample, not a batch"):
        pack_latent(torch.zeros(shape))


@pytest.mark.parametrize(
    "content",
    [b"", b"not safetensors at all", save({"other": torch.zeros(16, 1, 2, 2)})],
)
def test_damaged_sidecar(content):
    with pytest.raises(SampleError, match="latent of sample 'a'"):
        unpack_latent(content, "sample 'a'")


@pytest.mark.parametrize("tensor", [torch.zeros(16, 2), torch.zeros(16, 1, 2, 2, dtype=torch.int8)])
def test_tensor_of_another_kind(tensor):
    with pytest.raises(SampleError, match="expected 4 dimensions"):
        unpack_latent(save({"latent": tensor}))


def test_embedding_there_and_back():
    embedding = torch.randn(7, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        unpack_embedding(pack_embedding(embedding)), embedding, rtol=1e-3, atol=1e-3
    )
    with pytest.raises(NumericsError, match="caption of a clip"):
        pack_embedding(torch.full((2, 2), float("nan")), "the caption of a clip")


def test_codes_that_are_none():
    with pytest.raises(SampleError, match="expected 3 dimensions"):
        pack_codes(torch.zeros(1, 2, 4, 6, dtype=torch.int32))
    with pytest.raises(SampleError, match="cannot be read"):
        unpack_codes(pack_latent(torch.zeros(16, 1, 2, 2)))
    with pytest.raises(SampleError, match="cannot be read"):
        unpack_codes(b"damaged")
