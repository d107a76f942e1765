"""The loss of the next code: what is shifted, what is learnt, and what the z-loss sees."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.process.training_step import (
    check_codes,
    make_targets,
    next_code_loss,
)
from nemo_cosmos.platform.distributed import single_process_groups

ONE = single_process_groups().tp
FRAME = 6  # codes of a frame


def config(**changes: object) -> ARConfig:
    sizes = {"num_layers": 1, "hidden_size": 48, "num_attention_heads": 4, "num_query_groups": 2}
    return ARConfig(**{**sizes, "vocab_size": 40, **changes})  # type: ignore[arg-type]


def codes(frames: int = 3) -> torch.Tensor:
    return torch.randint(40, (2, frames, 2, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("begins", "given", "frames", "learnt_from"),
    [
        (False, 1, 3, FRAME),
        (False, 2, 3, 2 * FRAME),
        (False, 1, 1, 1),  # an image is learnt but for its first code
        (True, 0, 3, 0),
        (True, 1, 3, FRAME),
    ],
)
def test_loss_is_that_of_the_codes_behind_the_given_frames(
    begins: bool, given: int, frames: int, learnt_from: int
) -> None:
    net = config(begin_token=begins)
    batch = codes(frames)
    num = batch[0].numel()
    process = ARProcess(condition_latents=given, z_loss=0.25)
    targets = make_targets(batch, net, process, None)
    logits_LBV = torch.randn(num, 2, net.num_outputs, generator=torch.Generator().manual_seed(2))
    loss_B = next_code_loss(logits_LBV, targets, process.z_loss, net.vocab_size, ONE)

    flat = batch.flatten(1)
    scores = logits_LBV.transpose(0, 1)[..., :40]
    if begins:
        assert (targets.tokens_BL[:, 0] == 40).all()
        assert torch.equal(targets.tokens_BL[:, 1:], flat[:, :-1])
    else:
        assert torch.equal(targets.tokens_BL, flat)
        scores = scores[:, :-1]
    first = num - scores.shape[1]  # the first code that is predicted
    for sample in range(2):
        start = learnt_from - first
        entropy = F.cross_entropy(scores[sample, start:], flat[sample, learnt_from:])
        z = scores[sample].logsumexp(-1).square().mean()
        torch.testing.assert_close(loss_B[sample], entropy + 0.25 * z)


def test_gradients_are_those_of_cross_entropy() -> None:
    net, batch = config(), codes()
    process = ARProcess(z_loss=0.0)
    targets = make_targets(batch, net, process, None)
    logits = torch.randn(18, 2, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    next_code_loss(logits, targets, 0.0, 40, ONE).mean().backward()
    found, logits.grad = logits.grad, None
    scores = logits[FRAME - 1 : -1, :, :40].transpose(0, 1).flatten(0, 1)
    F.cross_entropy(scores, batch.flatten(1)[:, FRAME:].flatten()).backward()
    torch.testing.assert_close(found, logits.grad)


def test_codes_of_another_codebook_are_refused() -> None:
    check_codes(codes(), config())
    with pytest.raises(SampleError, match=r"codes from 0 to 40.*0 to 39"):
        check_codes(torch.arange(41).view(1, 1, 1, 41), config())
    with pytest.raises(SampleError, match="whole numbers"):
        check_codes(torch.zeros(1, 1, 1, 4), config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_query_groups": 3}, r"num_query_groups to one of \[1, 2, 4\]"),
        ({"kv_channels": 10}, "even number of at least 12"),
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"yarn_lengths_thw": (3, 40)}, "three numbers"),
        ({"tensor_model_parallel_size": 4}, r"num_query_groups=2 does not divide.*\[1, 2\]"),
        ({"begin_token": 1}, "begin_token"),
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)
