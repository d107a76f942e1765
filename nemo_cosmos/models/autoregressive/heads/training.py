"""Training of heads on a network that stays as it is, or whose last layers learn with them.

Shape suffixes: B videos, T latent frames, H W latent rows and columns, M context tokens, C
channels, E model width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.models.autoregressive.heads.loss import heads_loss
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput
from nemo_cosmos.models.autoregressive.options import USUAL_HEADS
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.process.training_step import (
    check_codes,
    make_targets,
    next_code_loss,
)
from nemo_cosmos.progress import Progress


@dataclass(frozen=True)
class HeadsBatch:
    """Videos of one size, and what the network sees beside them.

    Attributes:
        codes_BTHW: codes of the network's codebook.
        context_BMC: text and controls, for a network that attends to any.
        frame_BTE: what controls add to the tokens before each latent frame's codes.
    """

    codes_BTHW: Tensor
    context_BMC: Tensor | None = None
    frame_BTE: Tensor | None = None


@dataclass(frozen=True)
class HeadsTraining:
    """How heads are trained.

    Attributes:
        num_heads: how many codes ahead they guess.
        num_steps: number of steps.
        lr: highest learning rate, from which a cosine falls to nothing.
        trained_layers: last layers of the network that learn, too, with its output layer and the
            norm before it; 0 leaves the network as it is. It then is another network.
        network_lr: their highest learning rate.
    """

    num_heads: int = USUAL_HEADS
    num_steps: int = 1000
    lr: float = 1e-3
    trained_layers: int = 0
    network_lr: float = 5e-5


def train_heads(
    net: ARNetwork,
    process: ARProcess,
    batches: Iterator[HeadsBatch],
    how: HeadsTraining,
    progress: Progress | None = None,
) -> tuple[Heads, list[float]]:
    """Train heads on one device; returns them and the loss of every step.

    Args:
        net: the whole network; with ``trained_layers`` it is changed.
        process: which frames are given, and the z-loss.
        batches: videos of the network's codebook, on any device.
        how: how they are trained.
        progress: called after every step.

    Raises:
        ConfigError: more layers are to learn than there are.
        SampleError: codes of another codebook.
        NumericsError: the loss is NaN or infinite.
    """
    device = next(net.parameters()).device
    heads = Heads(how.num_heads, net.config.hidden_size, device=device)
    own = _open_layers(net, how.trained_layers)
    of_heads = list(heads.parameters())
    groups: list[dict[str, Any]] = [{"params": of_heads, "lr": how.lr}]
    if own:
        groups.append({"params": own, "lr": how.network_lr})
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    falling = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: 0.5 * (1 + math.cos(math.pi * step / how.num_steps))
    )
    losses: list[float] = []
    for step in range(how.num_steps):
        loss = _loss(net, process, heads, next(batches), device, learns=bool(own))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise NumericsError(
                f"The loss of the heads is {losses[-1]} at step {step + 1}. Train with a smaller "
                "learning rate."
            )
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*of_heads, *own], 1.0)
        adam.step()
        falling.step()
        if progress is not None:
            progress(step + 1, how.num_steps)
    net.requires_grad_(False)
    return heads.eval().requires_grad_(False), losses


def _loss(
    net: ARNetwork,
    process: ARProcess,
    heads: Heads,
    batch: HeadsBatch,
    device: torch.device,
    *,
    learns: bool,
) -> Tensor:
    check_codes(batch.codes_BTHW, net.config)
    codes_BTHW = batch.codes_BTHW.to(device)
    _, frames, rows, columns = codes_BTHW.shape
    targets = make_targets(codes_BTHW, net.config, process, None)
    places = net.place_table((frames, rows, columns), device).at(targets.index_L)
    context, frame = (
        None if value is None else value.to(device)
        for value in (batch.context_BMC, batch.frame_BTE)
    )
    with torch.set_grad_enabled(learns):
        inputs = TokenInput(targets.tokens_BL, places, context, is_scored=False, frame_BTE=frame)
        x_LBE: Tensor = net(inputs)
    loss = heads_loss(net, heads, x_LBE, targets).mean()
    if learns:
        size, group = net.config.vocab_size, net.tp_group
        next_B = next_code_loss(net.score(x_LBE), targets, process.z_loss, size, group)
        loss = loss + next_B.mean()
    return loss


def _open_layers(net: ARNetwork, num_layers: int) -> list[nn.Parameter]:
    """Let the last layers, the norm and the output layer learn; return their parameters."""
    if not 0 <= num_layers <= len(net.blocks.layers):
        raise ConfigError(
            f"{num_layers} layers cannot learn: the network has {len(net.blocks.layers)}. Choose "
            "0, which leaves it as it is, or 2, as published."
        )
    net.requires_grad_(False)
    if not num_layers:
        return []
    learning = [*net.blocks.layers[-num_layers:], net.norm, net.output]
    own = [parameter for module in learning for parameter in module.parameters()]
    for parameter in own:
        parameter.requires_grad_(True)
    return own
