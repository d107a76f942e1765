"""Chunks of a diffusion decoder: where they begin, and how their pixels are blended."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.inference.diffusion_decoder import blend, chunk_starts


def test_chunks_share_two_latent_frames_and_end_with_the_video() -> None:
    assert chunk_starts(8, 8) == chunk_starts(3, 8) == [0]
    assert chunk_starts(14, 8) == [0, 6], "105 frames are two chunks of 57 that share 9"
    assert chunk_starts(15, 8) == [0, 6, 7], "the last one shares more"
    with pytest.raises(ConfigError, match="share 2"):
        chunk_starts(5, 2)


def test_shared_frames_go_over_linearly() -> None:
    one, other = torch.zeros(1, 3, 5, 2, 2), torch.ones(1, 3, 6, 2, 2)
    joined_T = blend([one, other], [0, 2])[0, 0, :, 0, 0]
    assert joined_T.tolist() == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_chunks_that_agree_are_joined_without_a_trace() -> None:
    video = torch.randn(1, 3, 17, 2, 2)
    chunks = [video[:, :, start : start + 9] for start in (0, 4, 8)]
    torch.testing.assert_close(blend(chunks, [0, 4, 8]), video, rtol=0, atol=1e-6)
