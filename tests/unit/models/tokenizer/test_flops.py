"""The count of operations against torch's own counter, and in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nemo_cosmos.errors import WrongFrameCountError
from nemo_cosmos.models.tokenizer.flops import tokenizer_flops
from nemo_cosmos.models.tokenizer.model import TokenizerModel
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.platform import kernels

NUM_FRAMES = {1: 3, 4: 9, 8: 9}
"""Frames of a clip by the tokenizer's temporal factor."""


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_product_is_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All published shapes, in thin networks."""
    # The CPU's own convolution of doubled pixels does less than the plain one that is counted.
    monkeypatch.setattr(kernels, "_is_plain_cpu", lambda x: False)
    config = replace(TOKENIZERS[name], channels=32, num_res_blocks=1)
    net = TokenizerNetwork(config)
    num_frames, height, width = NUM_FRAMES[config.temporal_factor], 32, 48
    video = torch.zeros(2, 3, num_frames, height, width)
    flops = tokenizer_flops(config, num_frames, height, width, batch_size=2)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            latents = net.encode(video)
        assert flops.encoder == counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            net.decode(latents)
        assert flops.decoder == counter.get_total_flops()
    assert flops.training == 3 * (flops.encoder + flops.decoder)


def test_lengths_that_the_tokenizer_does_not_take() -> None:
    with pytest.raises(WrongFrameCountError, match="8 frames"):
        tokenizer_flops(TOKENIZERS["tokenizer_nano_cv4x8x8"], 8, 32, 32)


def test_a_training_step_counts_itself() -> None:
    config = TOKENIZERS["tokenizer_nano_cv4x8x8"]
    model = TokenizerModel(config)
    flops, tokens = model.flops_and_tokens({"video": torch.zeros(2, 3, 9, 32, 48)})
    assert flops == tokenizer_flops(config, 9, 32, 48, batch_size=2).training
    assert tokens == 2 * 3 * 4 * 6
