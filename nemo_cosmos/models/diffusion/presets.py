"""The diffusion world models by name: data only, cheap to import.

A size is a row here, never a class. The 7B and 14B models are the published Cosmos checkpoints
(``faditv2_7b``, ``faditv2_14b``); their parameter counts are exactly the published ones
(``tests/unit/models/diffusion/test_presets.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nemo_cosmos.errors import ConfigError, nearest_names

if TYPE_CHECKING:
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.process.config import DiffusionConfig


@dataclass(frozen=True)
class DiffusionPreset:
    """A diffusion world model's size and task.

    Attributes:
        name: the preset's name, such as ``"diffusion_7b_text2world"``.
        task: ``"text2world"`` or ``"video2world"``.
        network: arguments of :class:`~nemo_cosmos.models.diffusion.network.config.DiTConfig`.
        tokenizer: the tokenizer preset whose latents the model makes.
        adjust_video_noise: whether training multiplies a video's noise level by the square root
            of its number of latent frames (the 14B models).
    """

    name: str
    task: str
    network: Mapping[str, Any]
    tokenizer: str
    adjust_video_noise: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Layers, width and heads, for a list of models."""
        named = {"layers": "num_layers", "width": "hidden_size", "heads": "num_attention_heads"}
        return {name: self.network[argument] for name, argument in named.items()}

    def config(self, **overrides: Any) -> DiTConfig:
        """Return the network's configuration; ``overrides`` replace or add arguments."""
        from nemo_cosmos.models.diffusion.network.config import DiTConfig

        return DiTConfig(**{**self.network, **overrides})

    def process(self) -> DiffusionConfig:
        """Return the model's diffusion process: 0 to 2 given latent frames for Video2World."""
        from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
        from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
        from nemo_cosmos.models.diffusion.process.edm import EDMConfig

        most_given = 2 if self.task == "video2world" else 0
        return DiffusionConfig(
            edm=EDMConfig(adjust_video_noise=self.adjust_video_noise),
            conditioning=ConditioningConfig(max_condition_latents=most_given),
        )


_NANO: dict[str, object] = {
    "num_layers": 4,
    "hidden_size": 192,
    "num_attention_heads": 6,
    "crossattn_emb_channels": 512,
    "adaln_lora_dim": 64,
    "max_frames": 32,
    "max_height": 64,
    "max_width": 64,
    "rope_ratios_thw": (1.0, 1.0, 1.0),
}
_7B: dict[str, object] = {
    "num_layers": 28,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "rope_ratios_thw": (2.0, 1.0, 1.0),
}
_14B: dict[str, object] = {
    "num_layers": 36,
    "hidden_size": 5120,
    "num_attention_heads": 40,
    "rope_ratios_thw": (2.0, 2.0, 2.0),
}


def _presets() -> dict[str, DiffusionPreset]:
    presets = {}
    for size, network, tokenizer in (
        ("nano", _NANO, "tokenizer_nano_cv4x8x8"),
        ("7b", _7B, "tokenizer_cv8x8x8"),
        ("14b", _14B, "tokenizer_cv8x8x8"),
    ):
        for task in ("text2world", "video2world"):
            name = f"diffusion_{size}_{task}"
            presets[name] = DiffusionPreset(
                name=name,
                task=task,
                network=MappingProxyType({**network, "condition_mask": task == "video2world"}),
                tokenizer=tokenizer,
                adjust_video_noise=size == "14b",
            )
    return presets


DIFFUSION: dict[str, DiffusionPreset] = _presets()


def get_diffusion_preset(name: str) -> DiffusionPreset:
    """Return the preset called ``name``.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in DIFFUSION:
        raise ConfigError(
            f"There is no diffusion model called '{name}'. The nearest names are "
            f"{nearest_names(name, DIFFUSION)}; `nemo-cosmos models` lists all."
        )
    return DIFFUSION[name]


def count_parameters(preset: DiffusionPreset) -> int:
    """Count a network's parameters without allocating them (on torch's meta device).

    The count is of the whole network, however this rank's part is split; it equals that of the
    published checkpoints, which leave out what training adds (``logvar``).
    """
    from nemo_cosmos.models.diffusion.costs import count_parameters as count

    return count(preset.config()).network
