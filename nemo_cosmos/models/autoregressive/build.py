"""Put an autoregressive world's network together: the transformer and its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from megatron.core import parallel_state
from torch import Tensor, nn

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.controls import (
    CONTEXT_MULTIPLE,
    ARControlEmbedding,
    build_embedders,
    combine,
)
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.places import Grid
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.models.common.megatron.pipeline_copies import same_on_all_stages, tag_copies


class NoControl(nn.Module):
    """Stands in for controls that were taken away: zeros for a network that attends to them alone.

    Args:
        num_channels: channels of the context.
    """

    zeros_BMC: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        zeros_BMC = torch.zeros(1, CONTEXT_MULTIPLE, num_channels)
        self.register_buffer("zeros_BMC", zeros_BMC, persistent=False)

    def forward(self, batch: Mapping[str, object], grid_thw: Grid) -> ARControlEmbedding:
        """Embed nothing, for codes of any grid."""
        del batch, grid_thw
        return ARControlEmbedding(self.zeros_BMC)


class ARWorldNetwork(ARNetwork):
    """The transformer with what belongs to it in a world model.

    Attributes:
        controls: embedders of the control signals by the control's name; empty without any.
    """

    ON_EVERY_STAGE = ("controls.",)

    controls: nn.ModuleDict

    def embed_controls(self, batch: Mapping[str, object], grid_thw: Grid) -> ARControlEmbedding:
        """Embed the batch's signals for codes of a grid; empty without any control.

        Raises:
            SampleError: the batch lacks a signal, or it does not fit the codes.
        """
        return combine([embed(batch, grid_thw) for embed in self.controls.values()])

    def drop_controls(self) -> None:
        """Take the controls away, so that the network generates without their signals."""
        channels = self.config.control_channels
        none = NoControl(channels).to(self.config.params_dtype) if channels else None
        self.controls = nn.ModuleDict({} if none is None else {"none": none})


def joined_context(
    config: ARConfig, text_BMC: Tensor | None, control: ARControlEmbedding
) -> Tensor | None:
    """Return what the layers attend to: the text, where the model has one, then the controls.

    Args:
        config: the network's configuration.
        text_BMC: the text's embedding; a model without text leaves it out.
        control: what the controls give.

    Raises:
        ConfigError: a network that attends to controls has none.
    """
    parts = [text_BMC] if config.context_channels else []
    if control.context_BMC is not None:
        parts.append(control.context_BMC)
    found = [part for part in parts if part is not None]
    if config.control_channels and not found:
        raise ConfigError(
            f"The network attends to a control (control_channels={config.control_channels}), but "
            "the model has none. Name it in model.controls, or set control_channels=0."
        )
    if len(found) < 2:
        return found[0] if found else None
    return torch.cat([part.to(found[-1].dtype) for part in found], dim=1)


def build_network(
    config: ARConfig,
    controls: Sequence[ControlSpec] = (),
    tokenizer: TokenizerFacts | None = None,
    vp_stage: int | None = None,
) -> ARWorldNetwork:
    """Build the network, or this rank's part of it.

    Call :func:`nemo_cosmos.platform.ensure_model_parallel` before, or let NeMo's strategy do so.

    Args:
        config: the network's configuration.
        controls: what steers the model.
        tokenizer: factors of the tokenizer that made the codes, which embedders depend on.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.

    Raises:
        ConfigError: a control has no embedder for this family, or does not fit the network.
    """
    network = ARWorldNetwork(
        config,
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
        vp_stage=vp_stage,
    )
    with same_on_all_stages(network.pp_group, salt=1):
        network.controls = build_embedders(controls, config, tokenizer)
    tag_copies([network.controls], network.pp_group, network.pre_process)
    return network
