"""The autoregressive world model as a NeMo model: what NeMo's MegatronStrategy trains.

The loss is in ``process/``, the network in ``network/``; neither needs NeMo. This class connects
them to NeMo's hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, cast

import torch
from megatron.core import parallel_state
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl
from nemo.lightning.pytorch.optim import OptimizerModule
from torch import Tensor, nn

from nemo_cosmos.batch import CodesBatch, DataSpec, spec_of
from nemo_cosmos.controls import ControlSpec, settled
from nemo_cosmos.errors import ConfigError, SampleError, nearest_names
from nemo_cosmos.models.autoregressive.build import build_network, joined_context
from nemo_cosmos.models.autoregressive.controls import num_context_tokens
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.flops import ar_flops
from nemo_cosmos.models.autoregressive.network.packs import is_pack, pack_inputs, samples_of
from nemo_cosmos.models.autoregressive.network.places import Grid, check_grid
from nemo_cosmos.models.autoregressive.network.transformer import TokenInput
from nemo_cosmos.models.autoregressive.parallel.divisibility import check_packs, check_tokens
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.process.training_step import (
    Targets,
    check_codes,
    make_targets,
    next_code_loss,
    num_tokens,
)
from nemo_cosmos.models.autoregressive.settings import FAMILY, ARSettings
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.models.common.family import ModelDescription, WorldInfo
from nemo_cosmos.models.common.latents import LatentCodec
from nemo_cosmos.models.common.megatron.layer_choice import check_fused_gradients
from nemo_cosmos.models.common.megatron.module import MegatronLightningModule, to_device
from nemo_cosmos.options import check_instance

TEXT_SETTINGS = (
    "context_channels",
    "absolute_positions",
    "begin_token",
    "condition_latents",
    "text_encoder",
    "text_length",
)
"""What tells a model with text from the one without that it goes on from."""
_REACH = ("max_frames", "max_height", "max_width")
_YARN = ("yarn_lengths_thw", "yarn_scale", "yarn_beta_fast", "yarn_beta_slow")
EXTENSIONS = (*_REACH, *_YARN, *TEXT_SETTINGS, "top_p")
"""Settings in which training can go on from weights that were trained with others."""


class ARModel(MegatronLightningModule):
    """An autoregressive model under NeMo's trainer.

    Args:
        config: the network's configuration.
        process: training of the next code; by default the first latent frame is given, or none
            with a token of the beginning.
        optim: the optimiser; AdamW at 1e-3 with the distributed optimiser by default.
        controls: what post-training adds to steer the model; none for pre-training.
        tokenizer: factors of the tokenizer that made the codes, for the controls.
        preset: name of the preset that ``config`` comes from, for the export's record.
        world: tokenizer, text encoder and video size that the export records; by default they are
            read from the ``dataset.json`` of the training data.
        extends: settings of network, process and text in which training goes on from its starting
            weights on purpose, such as ``("max_frames",)`` for longer videos. Those of
            :data:`TEXT_SETTINGS` add a text: the weights may lack what attends to it.
    """

    family: ClassVar[str] = FAMILY

    def __init__(
        self,
        config: ARConfig,
        process: ARProcess | None = None,
        optim: OptimizerModule | None = None,
        controls: Sequence[ControlSpec] = (),
        tokenizer: TokenizerFacts | None = None,
        preset: str | None = None,
        world: WorldInfo | None = None,
        extends: Sequence[str] = (),
    ) -> None:
        check_instance("config", config, ARConfig, "Write ARConfig(num_layers=..., ...).")
        if process is not None:
            check_instance("process", process, ARProcess, "Write ARProcess(...).")
        adamw = OptimizerConfig(lr=1e-3, use_distributed_optimizer=True)
        super().__init__(config, optim or nl.MegatronOptimizerModule(config=adamw))
        self.config: ARConfig = config
        self.process = process or ARProcess(condition_latents=0 if config.begin_token else 1)
        self.controls = tuple(settled(spec) for spec in controls)
        self.tokenizer = tokenizer or TokenizerFacts()
        self.preset = preset
        self.world = world
        self.extends = _checked_extensions(extends)
        self._fps: float | None = None  # of the first batch, for the description
        # A function, not its module: the tokenizer's weights are no part of this model.
        self._encode: Callable[[Tensor], Tensor] | None = None

    @property
    def new_modules(self) -> frozenset[str]:
        """Modules that the starting weights may lack."""
        adds_context = "context_channels" in self.extends or bool(self.config.control_channels)
        return frozenset({"cross_attention", "cross_attention_norm"} if adds_context else ())

    @property
    def longer_weights(self) -> frozenset[str]:
        """Weights that may have more rows here than in the starting weights."""
        return frozenset({"embedding.weight"} if "begin_token" in self.extends else ())

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
            ConfigError: codes, text or packs do not divide over the ranks that share them, or the
                layers cannot do what the configuration asks for.
            WrongFrameCountError, WrongSizeError: the network does not take the data's videos.
        """
        if spec.packed:
            check_packs(self.config)
            # Packs hold different numbers of videos and tokens: a step's loss is the mean over its
            # videos, not over its packs, and pipeline stages cannot expect one length.
            self.config.calculate_per_token_loss = True
            self.config.variable_seq_lengths = True
        check_tokens(self.config, spec.latents_thw, spec.num_text_tokens)
        check_fused_gradients(self.config, sharded)

    def encode_with(self, tokenizer: LatentCodec) -> None:
        """Make the codes of batches of pixels with a tokenizer from now on.

        Raises:
            ConfigError: it has another codebook, or the model attends to a text or has a control,
                which pixels come without: the windows are drawn, and may be changed, every time.
        """
        if tokenizer.config.num_codes != self.config.vocab_size:
            raise ConfigError(
                f"The tokenizer has {tokenizer.config.num_codes} codes, but the model "
                f"{self.config.vocab_size}. Set model.config.vocab_size to the tokenizer's codes; "
                "a continuous tokenizer has none."
            )
        if self.config.cross_channels or self.controls:
            raise ConfigError(
                "The model attends to a text or a control, which clips of pixels come without. "
                "Cache them with the codes ('nemo-cosmos tokenize'), or use a model without, such "
                "as ar_nano."
            )
        self._encode = tokenizer.encode

    def reinit(self) -> ARModel:
        """Make the part of the network for a further virtual pipeline stage; NeMo calls this.

        It shares the configuration, into which the strategy has written the layout.
        """
        part = ARModel(
            self.config,
            self.process,
            controls=self.controls,
            tokenizer=self.tokenizer,
            preset=self.preset,
            world=self.world,
            extends=self.extends,
        )
        part.trainer, part.peft = self.trainer, self.peft
        part._encode = self._encode
        return part

    def build(self, vp_stage: int | None) -> nn.Module:
        """Build this rank's part of the network."""
        return build_network(self.config, self.controls, self.tokenizer, vp_stage)

    def data_step(self, dataloader_iter: Iterator[Any]) -> CodesBatch:
        """Take the next batch, check it while it is on the CPU, and move it to the device.

        Of a batch of pixels the codes are made here, on the device.

        Raises:
            SampleError: the batch lacks codes or text, or they are of another codebook.
            WrongFrameCountError, WrongSizeError: the network does not take a video of a pack.
        """
        batch: CodesBatch = self._with_codes(self.next_batch(dataloader_iter))
        if "codes" not in batch:
            raise SampleError(
                "A batch lacks 'codes'. An autoregressive model trains on the codes of a discrete "
                "tokenizer: use CodesDataModule on what 'nemo-cosmos tokenize' made with one, or "
                "let the callback EncodeVideo make them of a VideoDataModule's clips."
            )
        for sample in samples_of(batch):
            check_codes(sample["codes"], self.config)
            check_grid(_grid_of(sample["codes"]), self.config)
        if self._fps is None and "fps" in batch:
            self._fps = float(torch.as_tensor(batch["fps"], dtype=torch.float32).median())
        moved = {name: to_device(value) for name, value in batch.items()}
        return cast("CodesBatch", moved)

    def _with_codes(self, batch: dict[str, Any]) -> CodesBatch:
        if self._encode is None or "video" not in batch:
            return cast("CodesBatch", batch)
        others = {name: value for name, value in batch.items() if name != "video"}
        video_BCTHW = cast("Tensor", to_device(batch["video"])).float() / 127.5 - 1
        # A copy outside: autograd keeps no tensor that was made in inference mode.
        return cast("CodesBatch", {**others, "codes": self._encode(video_BCTHW).long()})

    def forward_step(self, batch: CodesBatch) -> Tensor:
        """Return loss_B of a batch or a pack; on a pipeline stage but the last, hidden states."""
        network = self.network()
        targets, inputs = zip(*map(self._prepared, samples_of(batch)), strict=True)
        whole = pack_inputs(inputs, network.sequence) if is_pack(batch) else inputs[0]
        output: Tensor = self(whole)
        if not parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=self.vp_stage):
            return output
        return next_code_loss(
            output, targets, self.process.z_loss, self.config.vocab_size, network.tp_group
        )

    def _prepared(self, batch: CodesBatch) -> tuple[Targets, TokenInput]:
        """What follows each token of videos of one shape, and what the network sees of them."""
        network = self.network()
        codes_BTHW = batch["codes"]
        grid = _grid_of(codes_BTHW)
        cp_group = parallel_state.get_context_parallel_group()
        targets = make_targets(codes_BTHW, self.config, self.process, cp_group)
        table = network.place_table(grid, codes_BTHW.device)
        text = batch["t5_text_embeddings"] if self.config.context_channels else None
        control = network.embed_controls(batch, grid)
        inputs = TokenInput(
            targets.tokens_BL,
            table.at(targets.index_L),
            joined_context(self.config, text, control),
            frame_BTE=control.frame_BTE,
        )
        return targets, inputs

    def flops_and_tokens(self, batch: CodesBatch) -> tuple[float, int]:
        """Return the operations of a training step over a batch or a pack, and its tokens."""
        if is_pack(batch):
            parts = [self.flops_and_tokens(sample) for sample in samples_of(batch)]
            return sum(flops for flops, _ in parts), sum(tokens for _, tokens in parts)
        codes_BTHW = batch["codes"]
        size, tokens = codes_BTHW.shape[0], num_tokens(codes_BTHW)
        text = num_context_tokens(self.controls, _grid_of(codes_BTHW))
        if self.config.context_channels:
            text += batch["t5_text_embeddings"].shape[1]
        return float(ar_flops(self.config, tokens, text, size).training), size * tokens

    def describe(self) -> ModelDescription:
        """Say what the network is, for the export and the checkpoints."""
        return ModelDescription(
            family=FAMILY,
            settings=ARSettings(self.config.architecture(), self.process),
            preset=self.preset,
            controls=self.controls,
            fps=self._fps,
        )


def _grid_of(codes_BTHW: Tensor) -> Grid:
    _, frames, rows, columns = codes_BTHW.shape
    return frames, rows, columns


def _checked_extensions(names: Sequence[str]) -> tuple[str, ...]:
    """Require names of settings in which training can go on.

    Raises:
        ConfigError: one is another, such as a size that the weights fix.
    """
    if isinstance(names, str):
        raise ConfigError(f"extends is '{names}'; it must be a list of names, such as ['{names}'].")
    for name in names:
        if name not in EXTENSIONS:
            raise ConfigError(
                f"extends has '{name}', in which a model cannot go on from its weights. The "
                f"nearest are {nearest_names(name, EXTENSIONS)}."
            )
    return tuple(names)
