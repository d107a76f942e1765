"""Keep checkpoints the same whichever layer spec wrote them.

Transformer Engine's layers, and Megatron's like them, add an entry ``_extra_state`` to their state:
the scales that FP8's delayed scaling has collected, else nothing. The layers that have one differ
between the specs, so a checkpoint of one would lack keys of the other. Entries without content are
therefore left out, and put back empty when a state is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from megatron.core.transformer.transformer_config import TransformerConfig

SUFFIX = "_extra_state"


def keeps_scales(config: TransformerConfig) -> bool:
    """Whether the layers' extra state holds anything: the scales of delayed scaling."""
    return bool(config.fp8) and config.fp8_recipe == "delayed"


def without_extra_state(state: dict[str, object], config: TransformerConfig) -> dict[str, object]:
    """A (sharded) state without the extra states that hold nothing."""
    if keeps_scales(config):
        return state
    return {name: value for name, value in state.items() if not name.endswith(SUFFIX)}


def accept_missing_extra_state(network: nn.Module) -> None:
    """Let the network load a state that lacks extra states: the layers get None instead."""

    def fill(state: dict[str, object], prefix: str, *args: object) -> None:
        del args
        for name, module in network.named_modules():
            if type(module).get_extra_state is not nn.Module.get_extra_state:
                state.setdefault(f"{prefix}{name}.{SUFFIX}" if name else f"{prefix}{SUFFIX}", None)

    network._register_load_state_dict_pre_hook(fill)
