"""LoRA: which maps get a low-rank adapter, and which weights are trained beside them.

The fields are called as in NeMo's ``nemo.collections.llm.peft.LoRA``, so that ``peft.dim=16`` means
the same here. NeMo's own transform waits for the first epoch and then wraps the network and sets up
the optimiser once more, which leaves out what a run here has set up before: FSDP, the average of
the weights, exact resume. Here the network has its adapters when it is built, and everything that
works on trained weights works on them.

What a control or further cameras add to the network is trained in full: it starts at zero or at
random, and an adapter of such weights learns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from megatron.core.transformer.transformer_layer import BaseTransformerLayer
from torch import nn

from nemo_cosmos.checkpoint.adapters.folder import MAX_RANK
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.common.megatron.low_rank import ADAPTER, Stacked, add_adapter, is_linear
from nemo_cosmos.options import Range, check_value

_LAYER = re.compile(r"\blayers\.(\d+)\.")

TARGETS = (
    "linear_qkv",
    "linear_q",
    "linear_kv",
    "linear_proj",
    "linear_fc1",
    "linear_fc2",
)
"""Every projection of attention and both of the feed-forward network, in every layer."""


@dataclass(frozen=True)
class LoRA:
    """Train low-rank adapters of a network instead of its weights.

    Args:
        dim: rank of the adapters.
        alpha: the adapters' product counts ``alpha / dim`` times.
        dropout: share of an adapter's input that is dropped in training.
        target_modules: maps that get an adapter: a name such as ``linear_qkv``, or a pattern of
            the whole name such as ``*.layers.0.*.linear_*``.
        trained_modules: modules that are trained in full beside them.
        seed: the adapters' first factors are drawn from it.

    Raises:
        ConfigError: a value outside its range.
    """

    dim: int = 32
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = TARGETS
    trained_modules: tuple[str, ...] = ("controls", "view_embed")
    seed: int = 0

    def __post_init__(self) -> None:
        check_value("peft.dim", self.dim, int, Range(least=1, most=MAX_RANK))
        check_value("peft.alpha", self.alpha, float, Range(above=0))
        check_value("peft.dropout", self.dropout, float, Range(least=0, most=0.95))
        for name in ("target_modules", "trained_modules"):
            check_value(f"peft.{name}", getattr(self, name), tuple[str, ...])
        if not self.target_modules:
            raise ConfigError(
                "peft.target_modules is empty, so that nothing would get an adapter. Leave it out "
                f"for {', '.join(TARGETS)}, or leave peft_scheme out to train all weights."
            )

    def apply(self, network: nn.Module) -> None:
        """Add the adapters to this rank's part of a network, and freeze the rest; in place.

        Args:
            network: a freshly built network, without data-parallel or precision wrappers.

        Raises:
            ConfigError: no map is meant by the names.
        """
        found = [(name, base) for name, base in _maps(network) if self.targets(name)]
        if not found:
            known = {name.rpartition(".")[2] for name, _ in _maps(network)}
            raise ConfigError(
                f"peft.target_modules={list(self.target_modules)} is no linear map of this "
                f"network. The nearest are {nearest_names(self.target_modules[0], known)}; a "
                "pattern such as '*.layers.0.*.linear_qkv' means the whole name."
            )
        num_layers = int(getattr(getattr(network, "config", None), "num_layers", 0))
        for name, base in found:
            stacked = self._stacked(name, num_layers)
            add_adapter(base, self.dim, self.alpha, self.dropout, f"{self.seed} {name}", stacked)
        trained = {ADAPTER, *self.trained_modules}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not trained.isdisjoint(name.split(".")))

    def count_added(self, network: nn.Module) -> int:
        """The parameters that the adapters of a network have."""
        maps: list[Any] = [base for name, base in _maps(network) if self.targets(name)]
        return sum(self.dim * sum(base.weight.shape) for base in maps)

    def _stacked(self, name: str, num_layers: int) -> Stacked | None:
        """The place of a map's adapter among those of other layers, this rank's or another's."""
        match = _LAYER.search(name)
        if match is None:
            return None
        others = (f"{name[: match.start(1)]}{n}{name[match.end(1) :]}" for n in range(num_layers))
        wanted = [number for number, other in enumerate(others) if self.targets(other)]
        if len(wanted) == num_layers:
            return None
        number = int(match[1])
        return Stacked(number, wanted.index(number), len(wanted))

    def targets(self, name: str) -> bool:
        """Whether a map, by its name in the whole network, gets an adapter."""
        last = name.rpartition(".")[2]
        return any(one == last or fnmatchcase(name, one) for one in self.target_modules)


def _maps(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linear maps by their names in the whole network, whichever stage holds them."""
    layers = {
        place: f"{place.rpartition('.')[0]}.{layer.layer_number - 1}"
        for place, layer in network.named_modules()
        if isinstance(layer, BaseTransformerLayer)
    }
    for name, module in network.named_modules():
        if is_linear(module):
            place = next((one for one in layers if name.startswith(f"{one}.")), None)
            yield (name if place is None else layers[place] + name[len(place) :]), module
