"""The diffusion world model as a NeMo model: what NeMo's MegatronStrategy trains.

The mathematics is in ``process/``, the network in ``network/``; neither needs NeMo. This class
connects them to NeMo's hooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

import torch
from megatron.core import parallel_state
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl
from nemo.lightning.pytorch.optim import OptimizerModule
from torch import Tensor, nn

from nemo_cosmos.batch import DataSpec, LatentBatch, spec_of
from nemo_cosmos.controls import ControlSpec, settled
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import ModelDescription, WorldInfo
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_packs
from nemo_cosmos.models.common.megatron.layer_choice import check_fused_gradients
from nemo_cosmos.models.common.megatron.module import MegatronLightningModule, to_device
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.controls import FAMILY, TokenizerFacts, has_level_each_frame
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.flops import dit_flops
from nemo_cosmos.models.diffusion.network.inputs import token_grid
from nemo_cosmos.models.diffusion.network.packs import is_pack, split_pack
from nemo_cosmos.models.diffusion.network.views import check_views
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.parallel.divisibility import Sharing
from nemo_cosmos.models.diffusion.parallel.tensor_overlap import buffer_tokens
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.training_step import (
    check_batch,
    cut_batch,
    prepare_step,
    sample_keys,
    whole_latent_shape,
)
from nemo_cosmos.models.diffusion.settings import DiffusionSettings
from nemo_cosmos.options import check_instance


class DiffusionModel(MegatronLightningModule):
    """A Text2World or Video2World diffusion model under NeMo's trainer.

    Args:
        config: the network's configuration.
        process: the diffusion process; by default the one that fits the network, with 0 to 2 given
            latent frames where it has the mask channel of Video2World.
        optim: the optimiser; AdamW at 1e-4 with the distributed optimiser by default.
        controls: what post-training adds to steer the model; none for pre-training.
        tokenizer: factors of the tokenizer that made the latents, for the controls.
        preset: name of the preset that ``config`` comes from, for the export's record.
        world: tokenizer, text encoder and video size that the export records; by default they are
            read from the ``dataset.json`` of the training data.
    """

    family: ClassVar[str] = FAMILY

    def __init__(
        self,
        config: DiTConfig,
        process: DiffusionConfig | None = None,
        optim: OptimizerModule | None = None,
        controls: Sequence[ControlSpec] = (),
        tokenizer: TokenizerFacts | None = None,
        preset: str | None = None,
        world: WorldInfo | None = None,
    ) -> None:
        check_instance("config", config, DiTConfig, "Write DiTConfig(num_layers=..., ...).")
        if process is not None:
            check_instance("process", process, DiffusionConfig, "Write DiffusionConfig(...).")
        adamw = OptimizerConfig(lr=1e-4, use_distributed_optimizer=True)
        super().__init__(config, optim or nl.MegatronOptimizerModule(config=adamw))
        self.config: DiTConfig = config
        self.process = process or DiffusionConfig(
            conditioning=ConditioningConfig(max_condition_latents=2 if config.condition_mask else 0)
        )
        self.controls = tuple(settled(spec) for spec in controls)
        self.tokenizer = tokenizer or TokenizerFacts()
        self.preset = preset
        self.world = world
        self._fps: float | None = None  # of the first batch, for the description
        self.buffer_tokens: int | None = None  # for the callback TensorOverlap

    def setup(self, stage: str) -> None:
        """Before anything is built, require the data to fit the layout and the network."""
        if stage == "fit":
            sharded = bool(getattr(self.trainer.strategy, "fsdp", None))
            self.check_data(spec_of(self.trainer.datamodule), sharded)

    def check_data(self, spec: DataSpec, sharded: bool) -> None:
        """Require the data to fit the layout and the network, and set what packs need.

        Args:
            spec: what is known of all batches.
            sharded: whether Megatron-FSDP shards weights.

        Raises:
            ConfigError: latents, text or packs do not divide over the ranks that share them, or
                the layers cannot do what the configuration asks for.
            WrongFrameCountError, WrongSizeError: the network does not take the data's latents.
        """
        sharing = Sharing.of(self.config, has_level_each_frame(self.controls))
        if spec.packed:
            sharing.check_packs()
            check_fp8_packs(self.config)
            # Packs hold different numbers of samples and tokens: a step's loss is the mean over its
            # samples, not over its packs, and pipeline stages cannot expect one length.
            self.config.calculate_per_token_loss = True
            self.config.variable_seq_lengths = True
        # How many views share a latent, its batch says; no more than the network takes.
        grids = [
            token_grid(latent_thw, self.config, self.config.max_views)
            for latent_thw in spec.latents_thw
        ]
        sharing.check(grids, spec.num_text_tokens)
        self.buffer_tokens = buffer_tokens(self.config, grids, spec.packed)
        check_fused_gradients(self.config, sharded)

    def reinit(self) -> DiffusionModel:
        """Make the part of the network for a further virtual pipeline stage; NeMo calls this.

        It shares the configuration, into which the strategy has written the layout.
        """
        part = DiffusionModel(
            self.config,
            self.process,
            controls=self.controls,
            tokenizer=self.tokenizer,
            preset=self.preset,
            world=self.world,
        )
        part.trainer, part.peft = self.trainer, self.peft
        return part

    def build(self, vp_stage: int | None) -> nn.Module:
        """Build this rank's part of the network."""
        return build_network(self.config, self.process, self.controls, self.tokenizer, vp_stage)

    def data_step(self, dataloader_iter: Iterator[Any]) -> LatentBatch:
        """Take the next batch, check it while it is on the CPU, and move it to the device.

        Under context parallelism, a rank takes its part of the video here, before anything else
        sees the batch.

        Raises:
            NumericsError: NaN or infinity in the latents.
            SampleError: the batch lacks latents or text embeddings.
            ConfigError: its tokens do not divide over the context-parallel ranks.
        """
        batch: LatentBatch = self.next_batch(dataloader_iter)
        check_batch(batch)
        for sample in split_pack(batch) if is_pack(batch) else [batch]:
            check_views(sample, self.config, sample["latent"].shape[2])
        if self._fps is None and "fps" in batch:
            self._fps = float(torch.as_tensor(batch["fps"], dtype=torch.float32).median())
        batch = self._own_part(batch)
        moved = {name: to_device(value) for name, value in batch.items()}
        return cast("LatentBatch", moved)

    def forward_step(self, batch: LatentBatch) -> Tensor:
        """Return loss_B of a batch or a pack; on a pipeline stage but the last, hidden states."""
        network = self.network()
        keys = sample_keys(batch, prefix=self.next_micro_batch())
        step = prepare_step(
            batch,
            keys,
            self.run_seed,
            self.step_number,
            self.process,
            network.embed_controls,
            self.config,
        )
        output = self(step.inputs)
        if not parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=self.vp_stage):
            return output
        logvar_B = None if network.logvar is None else network.logvar(step.c_noise_B)
        return step.loss(output, logvar_B)

    def flops_and_tokens(self, batch: LatentBatch) -> tuple[float, int]:
        """Return the operations of a training step over a batch or a pack, and its tokens."""
        if is_pack(batch):
            parts = [self.flops_and_tokens(sample) for sample in split_pack(batch)]
            return sum(flops for flops, _ in parts), sum(tokens for _, tokens in parts)
        size, _, *latent_thw = whole_latent_shape(batch)
        frames, height, width = latent_thw
        text_shape = batch["t5_text_embeddings"].shape
        per_frame = frames if self.controls else 1
        flops = dit_flops(
            self.config,
            (frames, height, width),
            text_shape[-2],
            size,
            per_frame,
            num_texts=math.prod(text_shape[1:-2]),
        )
        return float(flops.training), size * frames * height * width // self.config.patch_volume

    def describe(self) -> ModelDescription:
        """Say what the network is, for the export and the checkpoints."""
        return ModelDescription(
            family=FAMILY,
            settings=DiffusionSettings(self.config.architecture(), self.process),
            preset=self.preset,
            controls=self.controls,
            fps=self._fps,
        )

    def _own_part(self, batch: LatentBatch) -> LatentBatch:
        """Return this context-parallel rank's part of a batch."""
        size = parallel_state.get_context_parallel_world_size()
        if size == 1:
            return batch
        if is_pack(batch):
            raise ConfigError(
                f"Packed samples cannot be split over {size} context-parallel ranks. Set "
                "trainer.strategy.context_parallel_size=1, or train without data.packing."
            )
        rank = parallel_state.get_context_parallel_rank()
        whole_thw = batch["latent"].shape[2:]
        box = LatentBox.of(whole_thw, self.config.patch_thw, size, rank)
        return cut_batch(batch, box, self.process)
