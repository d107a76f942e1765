"""Finite scalar quantisation: codes, indices, gradients."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import InputError
from nemo_cosmos.models.tokenizer.network.fsq import FSQ

LEVELS = (8, 8, 8, 5, 5, 5)


def test_codebook_has_64000_codes_and_the_reference_basis():
    fsq = FSQ(LEVELS)
    assert fsq.num_codes == 64_000
    assert fsq._basis.tolist() == [1, 8, 64, 512, 2560, 12800]
    assert fsq.implicit_codebook.shape == (64_000, 6)


def test_every_index_survives_codes():
    fsq = FSQ((8, 5, 3))
    indices = torch.arange(120, dtype=torch.int32).reshape(1, 2, 6, 10)
    digits = torch.stack([indices % 8, indices // 8 % 5, indices // 40], dim=-1)
    half = torch.tensor([4, 2, 1])
    codes = fsq.codes_of(indices)
    torch.testing.assert_close(codes, (digits - half) / half)
    # Invert the squashing to reach each code from a latent.
    levels = torch.tensor([8.0, 5.0, 3.0])
    half_range, offset = (levels - 1) * 1.001 / 2, torch.tensor([0.5, 0.0, 0.0])
    latents = ((codes * half + offset) / half_range).atanh() - (offset / half_range).atanh()
    again, codes_again = fsq(latents.movedim(-1, 1))
    assert torch.equal(again, indices)
    torch.testing.assert_close(codes_again, codes.movedim(-1, 1))


def test_codes_of_known_latents():
    fsq = FSQ(LEVELS)
    indices, codes = fsq(torch.zeros(1, 6, 1, 1, 1))
    assert indices.item() == 4 * (1 + 8 + 64) + 2 * (512 + 2560 + 12800)
    assert codes.flatten().tolist() == [0.0] * 6
    far, codes = fsq(torch.full((1, 6, 1, 1, 1), 9.0))
    assert far.item() == 63_999
    torch.testing.assert_close(codes.flatten(), torch.tensor([0.75] * 3 + [1.0] * 3))


def test_gradient_passes_straight_through_the_rounding():
    fsq = FSQ(LEVELS)
    z = torch.randn(2, 6, 1, 3, 3, requires_grad=True)
    fsq(z)[1].sum().backward()
    smooth = z.detach().clone().requires_grad_()
    half_width = (fsq._levels // 2).float()
    (fsq._bound(smooth.movedim(1, -1)) / half_width).sum().backward()
    torch.testing.assert_close(z.grad, smooth.grad)
    assert (z.grad != 0).any()


def test_indices_do_not_depend_on_how_codes_are_stored():
    fsq = FSQ(LEVELS)
    z = torch.randn(1, 6, 2, 4, 4).bfloat16()
    indices, codes = fsq(z)
    assert codes.dtype == torch.bfloat16
    assert torch.equal(indices, fsq(z.float())[0])


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (torch.full((1, 1, 1, 1), 64_000), "0 to 63999"),
        (torch.full((1, 1, 1, 1), -1), "0 to 63999"),
        (torch.zeros(1, 1, 1, 1), "integer indices"),
        (torch.zeros(1, 1, 1, dtype=torch.int32), "integer indices"),
    ],
)
def test_foreign_indices_are_refused(indices, message):
    with pytest.raises(InputError, match=message):
        FSQ(LEVELS).check_indices(indices)
