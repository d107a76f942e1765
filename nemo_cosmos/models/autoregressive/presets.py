"""The autoregressive world models by name: data only, cheap to import.

A size is a row here, never a class. The 4B, 5B, 12B and 13B models are the published Cosmos
checkpoints; their parameter counts are exactly the published ones
(``tests/unit/models/autoregressive/test_presets.py``). The 1B model is a published configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nemo_cosmos.errors import ConfigError, nearest_names

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.network.config import ARConfig


@dataclass(frozen=True)
class ARPreset:
    """An autoregressive world model's size and task.

    Attributes:
        name: the preset's name, such as ``"ar_4b"``.
        task: ``"continuation"`` of given frames, or ``"video2world"`` with a text.
        network: arguments of
            :class:`~nemo_cosmos.models.autoregressive.network.config.ARConfig`.
        tokenizer: the tokenizer preset whose codes the model predicts.
        top_p: share of the probability that sampling keeps, as published.
    """

    name: str
    task: str
    network: Mapping[str, Any]
    tokenizer: str
    top_p: float

    @property
    def sizes(self) -> dict[str, int]:
        """Layers, width and heads, for a list of models."""
        named = {"layers": "num_layers", "width": "hidden_size", "heads": "num_attention_heads"}
        return {name: self.network[argument] for name, argument in named.items()}

    def config(self, **overrides: Any) -> ARConfig:
        """Return the network's configuration; ``overrides`` replace or add arguments."""
        from nemo_cosmos.models.autoregressive.network.config import ARConfig

        return ARConfig(**{**self.network, **overrides})


_NANO: dict[str, object] = {
    "num_layers": 6,
    "hidden_size": 192,
    "ffn_hidden_size": 512,
    "num_attention_heads": 6,
    "num_query_groups": 2,
    "max_frames": 16,
    "max_height": 32,
    "max_width": 32,
}
_LARGE: dict[str, object] = {
    "ffn_hidden_size": 14_336,
    "num_attention_heads": 32,
    "num_query_groups": 8,
}
_1B: dict[str, object] = {**_LARGE, "num_layers": 16, "hidden_size": 2048}
_4B: dict[str, object] = {**_LARGE, "num_layers": 16, "hidden_size": 4096}
_12B: dict[str, object] = {
    **_LARGE,
    "num_layers": 40,
    "hidden_size": 5120,
    "kv_channels": 128,
    "yarn_lengths_thw": (3, 40, 64),
}
_TEXT: dict[str, object] = {
    "context_channels": 1024,
    "absolute_positions": True,
    "begin_token": True,
}


def _presets() -> dict[str, ARPreset]:
    large, nano = "tokenizer_dv8x16x16", "tokenizer_nano_dv4x8x8"
    rows = (
        ("ar_nano", "continuation", _NANO, nano, 0.9),
        ("ar_1b", "continuation", _1B, large, 0.8),
        ("ar_4b", "continuation", _4B, large, 0.8),
        ("ar_12b", "continuation", _12B, large, 0.9),
        ("ar_5b_video2world", "video2world", {**_4B, **_TEXT}, large, 0.7),
        ("ar_13b_video2world", "video2world", {**_12B, **_TEXT}, large, 0.8),
    )
    return {
        name: ARPreset(name, task, MappingProxyType(network), tokenizer, top_p)
        for name, task, network, tokenizer, top_p in rows
    }


AUTOREGRESSIVE: dict[str, ARPreset] = _presets()


def get_ar_preset(name: str) -> ARPreset:
    """Return the preset called ``name``.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in AUTOREGRESSIVE:
        raise ConfigError(
            f"There is no autoregressive model called '{name}'. The nearest names are "
            f"{nearest_names(name, AUTOREGRESSIVE)}; `nemo-cosmos models` lists all."
        )
    return AUTOREGRESSIVE[name]


def count_parameters(preset: ARPreset) -> int:
    """Count a network's parameters without allocating them (on torch's meta device).

    The count is that of the published figures, which leave out the rows that the token of the
    beginning adds to the embedding.
    """
    from nemo_cosmos.models.autoregressive.costs import count_parameters as count

    return count(preset.config()).network
