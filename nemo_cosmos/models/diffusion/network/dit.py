"""The diffusion transformer of the Cosmos world models, on Megatron-Core (paper section 5.2).

One network for all sizes and tasks: patches of a noisy latent video become tokens; layers of
self-attention over space and time, cross-attention to the text and a feed-forward network are
modulated by the noise level; a linear map gives the prediction. It takes tensors and knows nothing
of files, noise schedules or losses.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns; L tokens, M text
tokens, E model width, K values of a patch. Inside, tokens come first: (L, B, E).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from megatron.core.enums import ModelType
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.mappings import (
    gather_from_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
)
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.utils import get_pg_rank, get_pg_size
from torch import nn
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, WrongFrameCountError
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.megatron.extra_state import (
    accept_missing_extra_state,
    without_extra_state,
)
from nemo_cosmos.models.common.megatron.pipeline_copies import (
    number_copies,
    same_on_all_stages,
    tag_copies,
)
from nemo_cosmos.models.common.norms import ReplicatedLinear
from nemo_cosmos.models.common.packed import Packing
from nemo_cosmos.models.common.rope import Rope3D
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.network.embeddings import (
    LearnedPositionEmbedding,
    PatchEmbed,
    TimestepEmbedding,
    unpatchify,
)
from nemo_cosmos.models.diffusion.network.inputs import (
    NetworkInput,
    TextKeysValues,
    stack_channels,
    token_grid,
)
from nemo_cosmos.models.diffusion.network.layer_specs import dit_layer_spec
from nemo_cosmos.models.diffusion.network.layers import DiTStack, LayerInputs
from nemo_cosmos.models.diffusion.network.modulation import AdaLNLoRA, modulate
from nemo_cosmos.models.diffusion.network.packs import pack_conditioning


class FinalLayer(nn.Module):
    """Normalise, modulate and map tokens to the values of their patches."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.adaln = AdaLNLoRA(config, num_parts=2)
        self.linear = ReplicatedLinear(
            config.hidden_size, config.patch_volume * config.out_channels, config
        )

    def forward(self, x_LBE: torch.Tensor, c: LayerInputs) -> torch.Tensor:
        """Return (L, B, K)."""
        shift, scale = self.adaln(c.activated_TBE, c.shared_TB3E)
        return self.linear(modulate(x_LBE, shift, scale, c.row_L))


class DiT(MegatronModule):
    """The diffusion transformer.

    Build it after :func:`nemo_cosmos.platform.ensure_model_parallel` (or under NeMo's strategy).

    Args:
        config: sizes, parallelism and precision.
        layer_spec: of one layer; chosen by ``config.layer_spec`` if not given.
        pre_process: whether this process holds the first pipeline stage (patch embedding).
        post_process: whether it holds the last (output).
        vp_stage: virtual pipeline stage.
        pg_collection: process groups; Megatron's global ones if not given.
    """

    def __init__(
        self,
        config: DiTConfig,
        layer_spec: ModuleSpec | None = None,
        *,
        pre_process: bool = True,
        post_process: bool = True,
        vp_stage: int | None = None,
        pg_collection: ProcessGroupCollection | None = None,
    ) -> None:
        super().__init__(config=config)
        self.model_type = ModelType.encoder_or_decoder
        self.share_embeddings_and_output_weights = False
        self.pre_process, self.post_process, self.vp_stage = pre_process, post_process, vp_stage
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups()
        self.tp_group, self.pp_group = groups.tp, groups.pp

        if pre_process:
            self.patch_embed = PatchEmbed(config)
        with same_on_all_stages(self.pp_group):
            self.timestep_embed = TimestepEmbedding(config)
            position = LearnedPositionEmbedding(config) if config.extra_pos_emb else None
        self.rope = Rope3D(
            config.hidden_size // config.num_attention_heads,
            config.rope_ratios_thw,
            config.base_fps,
        )
        self.position_embed = position
        tag_copies((self.timestep_embed, position), self.pp_group, pre_process)
        self.blocks = DiTStack(
            config,
            layer_spec or dit_layer_spec(config.layer_spec),
            pre_process=pre_process,
            post_process=post_process,
            pg_collection=groups,
            vp_stage=vp_stage,
        )
        if post_process:
            self.final_layer = FinalLayer(config)
        accept_missing_extra_state(self)

    def sharded_state_dict(
        self,
        prefix: str = "",
        sharded_offsets: tuple[tuple[int, int, int], ...] = (),
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Megatron's sharded state, with what every pipeline stage holds in it once.

        Its keys are the same for every layer spec.
        """
        state: dict[str, Any] = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        if not self.pre_process:
            copies = ("timestep_embed.", "position_embed.", "controls.")
            stage = get_pg_rank(self.pp_group) + get_pg_size(self.pp_group) * (self.vp_stage or 0)
            number_copies(state, tuple(prefix + name for name in copies), stage)
        return without_extra_state(state, self.config)

    def set_input_tensor(self, input_tensor: torch.Tensor | list[torch.Tensor]) -> None:
        """Take the tokens of the pipeline stage before (called by Megatron's schedules)."""
        if isinstance(input_tensor, list):
            (input_tensor,) = input_tensor
        self.blocks.set_input_tensor(input_tensor)

    def forward(
        self,
        x_BCTHW: Any,
        c_noise: Any,
        crossattn_emb_BLD: Any,
        fps_B: Any = None,
        padding_mask_B1HW: Any = None,
        condition_mask_B1THW: Any = None,
        control: Any = None,
        origin_thw: tuple[int, int, int] | None = None,
    ) -> Any:
        """Predict from a noisy latent video, or from a pack of samples of any lengths and sizes.

        For a pack, every argument is a list with one entry a sample, each a batch of one, or
        ``None`` for all samples; so is the result. The samples lie end to end in one sequence and
        do not see each other.

        Args:
            x_BCTHW: latent, already scaled by the preconditioning's ``c_in``.
            c_noise: a quarter of the noise level's natural logarithm, (B,) or, with a noise level
                for each latent frame, (B, T).
            crossattn_emb_BLD: text embedding, zero beyond its length, or its keys and values from
                :meth:`encode_text` (not for a pack).
            fps_B: frame rate of each sample in Hz; ``None`` counts time at the base rate (images).
            padding_mask_B1HW: 1 where the picture is padding, at any resolution; ``None`` means
                no padding.
            condition_mask_B1THW: 1 on the latent frames that are given; ``None`` means none is.
            control: further conditions; see :class:`ControlEmbedding`.
            origin_thw: position of the first token, where the latent is a context-parallel
                rank's part of a larger one (:mod:`~nemo_cosmos.models.diffusion.parallel.cp_box`).

        Returns:
            The prediction in the shape and type of ``x_BCTHW`` (``out_channels`` channels); on
            other than the last pipeline stage, the tokens.

        Raises:
            WrongSizeError: height or width does not fit the patches or exceeds the maximum.
            WrongFrameCountError: the number of latent frames does not, or ``c_noise`` has another.
            ConfigError: an input does not fit the configuration.
        """
        given = NetworkInput(
            x_BCTHW,
            c_noise,
            crossattn_emb_BLD,
            fps_B,
            padding_mask_B1HW,
            condition_mask_B1THW,
            control,
            origin_thw,
        )
        if isinstance(x_BCTHW, torch.Tensor):
            return self._forward_batch(given)
        return self._forward_pack(given.samples())

    def _forward_batch(self, given: NetworkInput) -> torch.Tensor:
        """Predict for samples of one shape."""
        grid_thw = token_grid(given.x_BCTHW.shape[2:], self.config)
        conditioning = self._condition(grid_thw, given)
        text = given.text_BLD
        keys_values = text.layers if isinstance(text, TextKeysValues) else None
        tokens_LBE = self._embed(given) if self.pre_process else None
        out = self._run(tokens_LBE, conditioning, keys_values)
        return self._unpatchify(out, grid_thw, given) if self.post_process else out

    def _forward_pack(self, samples: list[NetworkInput]) -> list[torch.Tensor] | torch.Tensor:
        """Predict for samples of different shapes, laid end to end."""
        grids = [token_grid(sample.x_BCTHW.shape[2:], self.config) for sample in samples]
        lengths = [math.prod(grid) for grid in grids]
        parts = [self._condition(*each) for each in zip(grids, samples, strict=True)]
        size = get_pg_size(self.tp_group) if self.config.sequence_parallel else 1
        num_padding = -sum(lengths) % size
        conditioning, packing = pack_conditioning(parts, lengths, num_padding)
        tokens_L1E = None
        if self.pre_process:
            tokens_L1E = torch.cat([self._embed(sample) for sample in samples])
            tokens_L1E = F.pad(tokens_L1E, (0, 0, 0, 0, 0, num_padding))
        out = self._run(tokens_L1E, conditioning, None, packing)
        if not self.post_process:
            return out
        outputs = out[: sum(lengths)].split(lengths)
        return [self._unpatchify(*each) for each in zip(outputs, grids, samples, strict=True)]

    def _run(
        self,
        tokens_LBE: torch.Tensor | None,
        conditioning: LayerInputs,
        keys_values: list[KeysValues] | None,
        packing: Packing | None = None,
    ) -> torch.Tensor:
        """The layers of this stage, and the final layer if it is the last: (L, B, K)."""
        if tokens_LBE is not None:
            tokens_LBE = self._scatter(tokens_LBE)
        conditioning = self._shard(conditioning)
        tokens_LBE = self.blocks(tokens_LBE, conditioning, keys_values, packing)
        if not self.post_process:
            return tokens_LBE
        out_LBK = self.final_layer(tokens_LBE, conditioning)
        if self.config.sequence_parallel:
            out_LBK = gather_from_sequence_parallel_region(
                out_LBK, tensor_parallel_output_grad=False, group=self.tp_group
            )
        return out_LBK

    def encode_text(
        self, crossattn_emb_BLD: torch.Tensor, control: ControlEmbedding | None = None
    ) -> TextKeysValues:
        """Compute the text's keys and values for all layers, to be used at every sampling step.

        Args:
            crossattn_emb_BLD: text embedding, zero beyond its length.
            control: its ``context_BLD`` is appended to the text; give the same to ``forward``.
        """
        context_MBE = self._context(crossattn_emb_BLD, control or ControlEmbedding())
        return TextKeysValues(self.blocks.project_context(self._scatter(context_MBE)))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return self.timestep_embed.linear_1.weight.dtype

    def _condition(self, grid_thw: tuple[int, int, int], given: NetworkInput) -> LayerInputs:
        """What the layers see besides the tokens, of the whole sequence."""
        c_noise, control = given.c_noise, given.control or ControlEmbedding()
        c_noise_TB = c_noise.reshape(c_noise.shape[0], -1).t()
        if c_noise_TB.shape[0] not in (1, grid_thw[0]):
            raise WrongFrameCountError(
                f"c_noise has {c_noise_TB.shape[0]} noise levels a sample, but the latent has "
                f"{grid_thw[0]} frames. Give one level a sample, (B,), or one a frame, (B, T)."
            )
        emb_TBE, shared_TB3E = self.timestep_embed(
            c_noise_TB,
            None if control.timestep_BTD is None else control.timestep_BTD.transpose(0, 1),
            None if control.adaln_lora_BT3D is None else control.adaln_lora_BT3D.transpose(0, 1),
        )
        for num_frames in (emb_TBE.shape[0], shared_TB3E.shape[0]):
            if num_frames not in (1, grid_thw[0]):
                raise WrongFrameCountError(
                    f"A control has {num_frames} values along time, but the latent has "
                    f"{grid_thw[0]} frames. Give one value for the video, or one a frame."
                )
        origin_thw = given.origin_thw or (0, 0, 0)
        rope = self.rope(grid_thw, given.fps_B, given.x_BCTHW.device, origin_thw)
        position = self.position_embed
        text = given.text_BLD
        return LayerInputs(
            activated_TBE=F.silu(emb_TBE),
            shared_TB3E=shared_TB3E,
            rope_cos_LB1D=rope.cos_LB1D,
            rope_sin_LB1D=rope.sin_LB1D,
            position_L1E=None if position is None else position(grid_thw, origin_thw),
            context_MBE=None if isinstance(text, TextKeysValues) else self._context(text, control),
        )

    def _shard(self, c: LayerInputs) -> LayerInputs:
        """Keep what belongs to this process's share of the tokens under sequence parallelism.

        Rotary tables stay whole: attention gathers the tokens of a head.
        """
        if not self.config.sequence_parallel:
            return c
        rank, size = get_pg_rank(self.tp_group), get_pg_size(self.tp_group)
        if c.row_L is not None:
            c = c._replace(row_L=c.row_L.chunk(size)[rank])
        else:
            c = c._replace(
                activated_TBE=self._frames_here(c.activated_TBE),
                shared_TB3E=self._frames_here(c.shared_TB3E),
            )
        return c._replace(
            position_L1E=None if c.position_L1E is None else self._scatter(c.position_L1E),
            context_MBE=None if c.context_MBE is None else self._scatter(c.context_MBE),
        )

    def _context(self, text_BMD: torch.Tensor, control: ControlEmbedding) -> torch.Tensor:
        if text_BMD.shape[-1] != self.config.crossattn_emb_channels:
            raise ConfigError(
                f"The text embedding is {text_BMD.shape[-1]} wide, but the network was built for "
                f"crossattn_emb_channels={self.config.crossattn_emb_channels}. Use the text "
                "encoder that the model was trained with."
            )
        context_BMD = text_BMD.to(self.dtype)
        if control.context_BLD is not None:
            context_BMD = torch.cat([context_BMD, control.context_BLD.to(self.dtype)], dim=1)
        return context_BMD.transpose(0, 1).contiguous()

    def _scatter(self, x_LBE: torch.Tensor) -> torch.Tensor:
        """Keep this process's share of the tokens under sequence parallelism."""
        if not self.config.sequence_parallel:
            return x_LBE
        size = get_pg_size(self.tp_group)
        if x_LBE.shape[0] % size:
            raise ConfigError(
                f"{x_LBE.shape[0]} tokens do not divide over {size} sequence-parallel processes. "
                "Turn sequence_parallel off, or choose a length and size of video, and a length of "
                f"text, whose tokens are a multiple of {size}."
            )
        return scatter_to_sequence_parallel_region(x_LBE, group=self.tp_group)

    def _frames_here(self, x_TBE: torch.Tensor) -> torch.Tensor:
        """The frames whose tokens this process holds; a plain slice, as gradients are summed."""
        num_frames, size = x_TBE.shape[0], get_pg_size(self.tp_group)
        if num_frames == 1:
            return x_TBE
        if num_frames % size:
            raise ConfigError(
                f"With a noise level for each frame, {num_frames} latent frames do not divide over "
                f"{size} sequence-parallel processes. Turn sequence_parallel off, or choose a "
                "number of frames that divides."
            )
        return x_TBE.chunk(size)[get_pg_rank(self.tp_group)]

    def _embed(self, given: NetworkInput) -> torch.Tensor:
        """Tokens (L, B, E) of the latent and what is stacked on it."""
        return self.patch_embed(stack_channels(given, self.config, self.dtype))

    def _unpatchify(
        self, out_LBK: torch.Tensor, grid_thw: tuple[int, int, int], given: NetworkInput
    ) -> torch.Tensor:
        patch_thw = (self.config.patch_temporal, *(self.config.patch_spatial,) * 2)
        return unpatchify(out_LBK, grid_thw, patch_thw).to(given.x_BCTHW.dtype)
