"""Parts of a world that wait in the CPU's memory while another one works.

A GPU then holds one of them at a time, beside what never waits: less memory, for the time that the
parts take to come and go. The video stays the same. Text encoders need none of it: they run on the
CPU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.common.latents import LatentCodec, LatentGrid
from nemo_cosmos.platform import default_device, num_processes, release_memory

NETWORK, TOKENIZER, DECODER = "network", "tokenizer", "diffusion_decoder"
PARTS = (NETWORK, TOKENIZER, DECODER)
"""What can wait."""
GUARDS = "guards"
"""They never wait, but all others may while they look at a video."""
_REST = torch.device("cpu")


class Turns:
    """Parts that work in turns.

    Args:
        parts: the modules of each part that waits, by name; others never leave the device.

    Attributes:
        at_work: the part that worked last, or works.
    """

    def __init__(self, parts: Mapping[str, Sequence[nn.Module]]) -> None:
        self._parts = dict(parts)
        self.at_work: str | None = None

    def take(self, name: str) -> None:
        """Put a part on the device, after those that wait have left it.

        Args:
            name: one of :data:`PARTS`, also one that never waits, or :data:`GUARDS`.
        """
        if not self._parts or name == self.at_work:
            return
        for other, modules in self._parts.items():
            if other != name:
                _move(modules, _REST)
        release_memory()
        _move(self._parts.get(name, ()), default_device())
        self.at_work = name


class TakingTurns:
    """A tokenizer, or what decodes in its place, that shares the device with the network.

    Args:
        codec: what encodes and decodes.
        turns: who works.
        decodes: the part that decodes; the tokenizer encodes.
    """

    def __init__(self, codec: LatentCodec, turns: Turns, decodes: str) -> None:
        self._codec, self._turns, self._decodes = codec, turns, decodes

    @property
    def config(self) -> LatentGrid:
        """How pixels map to latents."""
        return self._codec.config

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape of a video's latents or codes."""
        return self._codec.latent_shape(num_frames, height, width)

    def encode(self, video_BCTHW: Tensor, /) -> Tensor:
        """Encode the given frames; the network comes back, which continues them."""
        self._turns.take(TOKENIZER)
        latents = self._codec.encode(video_BCTHW)
        self._turns.take(NETWORK)
        return latents

    def decode(self, latents: Tensor, /) -> Tensor:
        """Decode what the network made."""
        self._turns.take(self._decodes)
        return self._codec.decode(latents)


def check_offload(names: Collection[str], tp: int = 1, has_decoder: bool = True) -> None:
    """Require parts that can wait.

    Args:
        names: the parts.
        tp: ranks that share the weights.
        has_decoder: whether a diffusion decoder decodes.

    Raises:
        ConfigError: there is no such part, or ranks share the network in another way.
    """
    for name in names:
        if name not in PARTS:
            raise ConfigError(
                f"No part '{name}' of a world can wait in the CPU's memory. The nearest are "
                f"{nearest_names(name, PARTS)}."
            )
    if DECODER in names and not has_decoder:
        raise ConfigError(
            f"'{DECODER}' cannot wait: this world's own tokenizer decodes. Leave it out, or name "
            "the decoder's folder (--diffusion-decoder)."
        )
    if NETWORK in names and num_processes() > 1 and tp == 1:
        raise ConfigError(
            f"The network cannot wait in the CPU's memory while {num_processes()} processes share "
            "the video: each already holds a part of it alone. Leave 'network' out, or let all "
            "processes share its weights (--tensor-parallel)."
        )


def _move(modules: Sequence[nn.Module], device: torch.device) -> None:
    for module in modules:
        module.to(device)
