"""A network whose layers are spread over pipeline stages, called as if it were whole.

Training fills a pipeline with micro-batches. A sampler has one input at a time and needs the result
before the next, so the stages take turns. Each broadcasts its result: the next stage continues from
it, and the last stage's result is the prediction, on every rank.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import (
    NetworkInput,
    Places,
    TextKeysValues,
)


class PipelinedDiT:
    """This rank's stage of a pipeline, which the denoiser calls like a whole network.

    Args:
        stage: this rank's layers; every rank of the pipeline makes the same calls.

    Raises:
        ConfigError: the rank has several (virtual) stages.
    """

    def __init__(self, stage: DiT) -> None:
        if stage.vp_stage is not None:
            raise ConfigError(
                "A pipeline with virtual stages cannot sample. Set "
                "trainer.strategy.virtual_pipeline_model_parallel_size=null."
            )
        self.stage = stage

    def encode_text(
        self, text_BMC: Tensor, control: ControlEmbedding | None = None
    ) -> TextKeysValues:
        """The text's keys and values for the layers of this stage; see :meth:`DiT.encode_text`."""
        return self.stage.encode_text(text_BMC, control)

    def encode_places(self, inputs: NetworkInput) -> Places:
        """What this stage's layers see of the tokens' places; see :meth:`DiT.encode_places`."""
        return self.stage.encode_places(inputs)

    def __call__(self, inputs: NetworkInput) -> Tensor:
        """Predict; see :meth:`DiT.forward`."""
        group = self.stage.pp_group
        # The first stage takes no tokens; what it is given here it ignores.
        result = inputs.x_BCTHW
        for number in range(group.size()):
            if number == group.rank():
                self.stage.set_input_tensor(result)
                result = self.stage(inputs).contiguous()
            else:
                result = self._empty(inputs, is_last=number == group.size() - 1)
            dist.broadcast(result, dist.get_global_rank(group, number), group=group)
        return result

    def _empty(self, inputs: NetworkInput, is_last: bool) -> Tensor:
        """Memory for another stage's result: its tokens, or the prediction."""
        config, x_BCTHW = self.stage.config, inputs.x_BCTHW
        batch, _, *latent_thw = x_BCTHW.shape
        if is_last:
            return x_BCTHW.new_empty(batch, config.out_channels, *latent_thw)
        num_tokens = math.prod(inputs.token_grid(config)) // self.stage.sequence.num_ranks
        size = (num_tokens, batch, config.hidden_size)
        return torch.empty(size, dtype=self.stage.dtype, device=x_BCTHW.device)
