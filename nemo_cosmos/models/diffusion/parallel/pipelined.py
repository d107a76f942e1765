"""A network whose layers are spread over pipeline stages, asked as if it were whole.

Training fills a pipeline with micro-batches; a sampler has one input at a time, and needs the
answer before the next. So the stages take turns, and each hands its result to all: the next goes on
from it, and the last one's is what the sampler wanted, on every process.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import TextKeysValues, token_grid


class PipelinedDiT:
    """This process's stage of a pipeline, as the denoiser calls a whole network.

    Args:
        stage: the layers of this process; every process of the pipeline makes the same calls.

    Raises:
        ConfigError: the process has several stages.
    """

    def __init__(self, stage: DiT) -> None:
        if stage.vp_stage is not None:
            raise ConfigError(
                "A pipeline with virtual stages cannot sample. Set "
                "trainer.strategy.virtual_pipeline_model_parallel_size=null."
            )
        self.stage = stage

    def encode_text(self, *args: Any) -> TextKeysValues:
        """The text's keys and values for the layers of this stage; see :meth:`DiT.encode_text`."""
        return self.stage.encode_text(*args)

    def __call__(self, x_BCTHW: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Predict; see :meth:`DiT.forward`."""
        group = self.stage.pp_group
        result = x_BCTHW
        for number in range(group.size()):
            if number == group.rank():
                self.stage.set_input_tensor(result)
                result = self.stage(x_BCTHW, *args, **kwargs).contiguous()
            else:
                result = self._empty(x_BCTHW, is_last=number == group.size() - 1)
            dist.broadcast(result, dist.get_global_rank(group, number), group=group)
        return result

    def _empty(self, x_BCTHW: Tensor, is_last: bool) -> Tensor:
        """Room for a stage's result: tokens, or the prediction."""
        config, (batch, _, *latent_thw) = self.stage.config, x_BCTHW.shape
        if is_last:
            return x_BCTHW.new_empty(batch, config.out_channels, *latent_thw)
        num_tokens = math.prod(token_grid(latent_thw, config))
        if config.sequence_parallel:
            num_tokens //= config.tensor_model_parallel_size
        size = (num_tokens, batch, config.hidden_size)
        return torch.empty(size, dtype=self.stage.dtype, device=x_BCTHW.device)
