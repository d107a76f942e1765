"""Put an autoregressive world's network together."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.core import parallel_state

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork


def build_network(
    config: ARConfig, controls: Sequence[ControlSpec] = (), vp_stage: int | None = None
) -> ARNetwork:
    """Build the network, or this rank's part of it.

    Call :func:`nemo_cosmos.platform.ensure_model_parallel` before, or let NeMo's strategy do so.

    Args:
        config: the network's configuration.
        controls: what steers the model.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.

    Raises:
        ConfigError: a control is named: no control has an embedder for this family.
    """
    if controls:
        raise ConfigError(
            f"The control '{controls[0].name}' cannot steer an autoregressive model, which has no "
            "embedder for it. Use a diffusion model, such as diffusion_nano_action."
        )
    return ARNetwork(
        config,
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
        vp_stage=vp_stage,
    )
