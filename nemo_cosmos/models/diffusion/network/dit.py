"""The diffusion transformer of the Cosmos world models, on Megatron-Core (paper section 5.2).

One network for all sizes and tasks: patches of a noisy latent video become tokens; layers of
self-attention over space and time, cross-attention to the text and a feed-forward network are
modulated by the noise level; a linear map gives the prediction. It takes tensors and knows nothing
of files, noise schedules or losses.

:meth:`DiT.forward` reads top to bottom as the paper does. Packs of samples are next door
(:mod:`~nemo_cosmos.models.diffusion.network.packs`), and so is what several ranks need
(:mod:`nemo_cosmos.models.diffusion.parallel`, :mod:`nemo_cosmos.models.common.megatron`).

Shape suffixes: B batch, C channels (of latent or text), T latent frames, H W latent rows
and columns; L tokens, M text tokens, E model width, K values of a patch. Inside, tokens come first:
(L, B, E).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from megatron.core.enums import ModelType
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.utils import get_pg_rank, get_pg_size
from torch import nn
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.fused import modulate
from nemo_cosmos.models.common.megatron.extra_state import (
    accept_missing_extra_state,
    without_extra_state,
)
from nemo_cosmos.models.common.megatron.pipeline_copies import (
    number_copies,
    same_on_all_stages,
    tag_copies,
)
from nemo_cosmos.models.common.megatron.sequence_parallel import SequenceParallel
from nemo_cosmos.models.common.norms import ReplicatedLinear
from nemo_cosmos.models.common.packed import Packing
from nemo_cosmos.models.common.rope import Rope3D
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.network.embeddings import (
    LearnedPositionEmbedding,
    PatchEmbed,
    TimestepEmbedding,
    passthrough_output,
    unpatchify,
)
from nemo_cosmos.models.diffusion.network.inputs import (
    NetworkInput,
    Places,
    TextKeysValues,
    stack_channels,
)
from nemo_cosmos.models.diffusion.network.layer_inputs import LayerInputs
from nemo_cosmos.models.diffusion.network.layer_specs import dit_layer_spec
from nemo_cosmos.models.diffusion.network.layers import DiTStack
from nemo_cosmos.models.diffusion.network.modulation import AdaLNLoRA
from nemo_cosmos.models.diffusion.network.views import CameraViews, ViewEmbedding, texts_by_view
from nemo_cosmos.models.diffusion.parallel.sequence import own_layer_inputs


class FinalLayer(nn.Module):
    """Normalise, modulate and map tokens to the values of their patches."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.fused = config.fused
        self.adaln = AdaLNLoRA(config, num_parts=2)
        self.linear = ReplicatedLinear(
            config.hidden_size, config.patch_volume * config.out_channels, config
        )
        if config.perform_initialization and config.passthrough_init:
            with torch.no_grad():
                self.linear.weight.copy_(passthrough_output(config))

    def forward(self, x_LBE: torch.Tensor, c: LayerInputs) -> torch.Tensor:
        """Return (L, B, K)."""
        shift, scale = self.adaln(c.activated_TBE, c.shared_TB3E)
        normed: torch.Tensor = modulate(x_LBE, shift, scale, c.row_L, mode=self.fused)
        return self.linear(normed)


class DiT(MegatronModule):
    """The diffusion transformer.

    Build it after :func:`nemo_cosmos.platform.ensure_model_parallel` (or under NeMo's strategy).

    Args:
        config: sizes, parallelism and precision.
        layer_spec: spec of one layer; by default the one that ``config.layer_spec`` names.
        pre_process: whether this rank holds the first pipeline stage (patch embedding).
        post_process: whether this rank holds the last pipeline stage (output).
        vp_stage: number of the virtual pipeline stage; None without virtual stages.
        pg_collection: process groups; Megatron's global ones by default.
    """

    ON_EVERY_STAGE: ClassVar[tuple[str, ...]] = ("timestep_embed.", "position_embed.")
    """Prefixes of the parameters that every pipeline stage holds a copy of."""

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
        self.sequence = SequenceParallel(config, groups.tp)

        if pre_process:
            self.patch_embed = PatchEmbed(config)
            if config.view_slots:
                self.view_embed = ViewEmbedding(config)
        # Every stage embeds noise level and position itself, from weights that start equal.
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
            layer_spec or dit_layer_spec(config),
            pre_process=pre_process,
            post_process=post_process,
            pg_collection=groups,
            vp_stage=vp_stage,
        )
        if post_process:
            self.final_layer = FinalLayer(config)
        accept_missing_extra_state(self)

    def forward(self, inputs: NetworkInput) -> torch.Tensor:
        """Predict from a noisy latent video.

        Returns:
            The prediction in the shape and type of ``inputs.x_BCTHW`` (``out_channels`` channels);
            on a pipeline stage before the last, the tokens.

        Raises:
            WrongSizeError: height or width does not fit the patches or exceeds the maximum.
            WrongFrameCountError: the network does not take this number of latent frames, or noise
                levels or a control have another.
            ConfigError: an input does not fit the configuration.
        """
        grid_thw = inputs.token_grid(self.config)
        layer_inputs = self.embed_conditions(inputs, grid_thw)
        # A later pipeline stage gets its tokens from the stage before, by set_input_tensor.
        x_LBE = self.embed_latent(inputs) if self.pre_process else None
        text = inputs.text
        keys_values = text.layers if isinstance(text, TextKeysValues) else None
        out = self.run_layers(x_LBE, layer_inputs, keys_values)
        return self.to_latent(out, grid_thw, inputs) if self.post_process else out

    def embed_latent(self, inputs: NetworkInput) -> torch.Tensor:
        """Tokens (L, B, E) of the latent and of the masks and channels that are stacked on it."""
        control = inputs.control
        if control is not None and control.latent_channels_BCTHW is not None:
            channels = self.sequence.counted_once(control.latent_channels_BCTHW)
            inputs = replace(inputs, control=replace(control, latent_channels_BCTHW=channels))
        return self.patch_embed(stack_channels(inputs, self.config, self.dtype))

    def embed_conditions(self, inputs: NetworkInput, grid_thw: tuple[int, int, int]) -> LayerInputs:
        """What the layers see besides the tokens, for the whole sequence.

        Args:
            inputs: noise level, text, frame rate and control.
            grid_thw: tokens along time, height and width.

        Raises:
            WrongFrameCountError: noise levels or a control have another number of frames.
            WrongSizeError: a control has another number of tokens.
            ConfigError: the text has another width than the network was built for.
        """
        control = inputs.control or ControlEmbedding()
        emb_TBE, shared_TB3E = self.timestep_embed(
            _by_frame(inputs.c_noise, grid_thw[0]), control.timestep_BTD, control.adaln_lora_BT3D
        )
        for num_values in (emb_TBE.shape[0], shared_TB3E.shape[0]):
            if num_values not in (1, grid_thw[0]):
                raise WrongFrameCountError(
                    f"A control has {num_values} values along time, but the latent has "
                    f"{grid_thw[0]} frames. Give one value for the video, or one a frame."
                )
        places, text = inputs.places or self._places(inputs), inputs.text
        return LayerInputs(
            # Every layer's modulation begins with the same activation, so it is done once.
            activated_TBE=F.silu(emb_TBE),
            shared_TB3E=shared_TB3E,
            rope_cos_LB1D=places.rope.cos_LB1D,
            rope_sin_LB1D=places.rope.sin_LB1D,
            position_L1E=places.position_L1E,
            context_MBC=None if isinstance(text, TextKeysValues) else self._context(text, control),
            added_LBE=self._added(inputs, grid_thw) if self.pre_process else None,
        )

    def run_layers(
        self,
        x_LBE: torch.Tensor | None,
        layer_inputs: LayerInputs,
        keys_values: list[KeysValues] | None = None,
        packing: Packing | None = None,
    ) -> torch.Tensor:
        """Run this stage's layers, and the final layer if it is the last stage.

        Args:
            x_LBE: all tokens; None on a pipeline stage after the first.
            layer_inputs: what the layers see besides the tokens.
            keys_values: keys and values of the text for each layer, instead of the text.
            packing: where the samples of a packed sequence begin and end.

        Returns:
            (L, B, K); on a pipeline stage before the last, this rank's tokens.
        """
        if x_LBE is not None:
            x_LBE = self.sequence.scatter(x_LBE)
        layer_inputs = own_layer_inputs(layer_inputs, self.sequence)
        if x_LBE is not None and layer_inputs.added_LBE is not None:
            x_LBE = x_LBE + layer_inputs.added_LBE
        layer_inputs = layer_inputs._replace(added_LBE=None)
        x_LBE = self.blocks(x_LBE, layer_inputs, keys_values, packing)
        if not self.post_process:
            return x_LBE
        return self.sequence.gather(self.final_layer(x_LBE, layer_inputs))

    def to_latent(
        self, out_LBK: torch.Tensor, grid_thw: tuple[int, int, int], inputs: NetworkInput
    ) -> torch.Tensor:
        """Put the values of all patches back on the latent's grid, in the latent's type."""
        return unpatchify(out_LBK, grid_thw, self.config.patch_thw).to(inputs.x_BCTHW.dtype)

    def encode_text(
        self, text_BMC: torch.Tensor, control: ControlEmbedding | None = None
    ) -> TextKeysValues:
        """Compute the text's keys and values for all layers, to be used at every sampling step.

        Args:
            text_BMC: text embedding, zero beyond its length; (B, V, M, C) for a text a view.
            control: its ``context_BLD`` is appended to the text; give the same to ``forward``.
        """
        context_MBC = self._context(text_BMC, control or ControlEmbedding())
        return TextKeysValues(self.blocks.project_context(self.sequence.scatter(context_MBC)))

    def encode_places(self, inputs: NetworkInput) -> Places:
        """Compute what the layers see of the tokens' places, to be used at every sampling step.

        Args:
            inputs: their size, frame rate and origin are read.
        """
        return self._places(inputs)

    # Forward calls this and not encode_places: where ranks share the weights, encode_places drops
    # the gathered weights at its end, and forward still needs them.
    def _places(self, inputs: NetworkInput) -> Places:
        grid_thw, origin_thw = inputs.token_grid(self.config), inputs.origin_thw
        views, position = inputs.views, self.position_embed
        # Time begins again with each view.
        period = None if views is None else views.num_frames // self.config.patch_temporal
        rope = self.rope(grid_thw, inputs.fps_B, inputs.x_BCTHW.device, origin_thw, period)
        return Places(rope, None if position is None else position(grid_thw, origin_thw, period))

    def _context(self, text_BMC: torch.Tensor, control: ControlEmbedding) -> torch.Tensor:
        """What cross-attention attends to: the text's tokens, then the control's; tokens first."""
        if text_BMC.shape[-1] != self.config.crossattn_emb_channels:
            raise ConfigError(
                f"The text embedding is {text_BMC.shape[-1]} wide, but the network was built for "
                f"crossattn_emb_channels={self.config.crossattn_emb_channels}. Use the text "
                "encoder that the model was trained with."
            )
        text, added_BLD = text_BMC.to(self.dtype), control.context_BLD
        if text.dim() == 4:  # every view attends to its own text, and to the controls' tokens
            if added_BLD is not None:
                added = added_BLD.to(self.dtype)[:, None].expand(-1, text.shape[1], -1, -1)
                text = torch.cat([text, added], dim=2)
            return texts_by_view(text).contiguous()
        if added_BLD is not None:
            text = torch.cat([text, added_BLD.to(self.dtype)], dim=1)
        return text.transpose(0, 1).contiguous()

    def _added(self, inputs: NetworkInput, grid_thw: tuple[int, int, int]) -> torch.Tensor | None:
        """What controls and views add to the tokens, tokens first; None where nothing is added."""
        control = None if inputs.control is None else self._of_controls(inputs.control, grid_thw)
        views = inputs.views
        if views is None:
            return control
        of_views = self._of_views(views, grid_thw, inputs.origin_thw[0])
        return of_views if control is None else of_views + control

    def _of_views(
        self, views: CameraViews, grid_thw: tuple[int, int, int], first: int
    ) -> torch.Tensor:
        """The embedding of each token's view."""
        time, height, width = grid_thw
        view_of_frame_T = views.view_of_frame(first, time, self.config.patch_temporal)
        added_TBE = self.view_embed(views, view_of_frame_T)
        return added_TBE[:, None].expand(-1, height * width, -1, -1).flatten(0, 1)

    def _of_controls(
        self, control: ControlEmbedding, grid_thw: tuple[int, int, int]
    ) -> torch.Tensor | None:
        """What controls add to the tokens; None where they add nothing."""
        tokens_BDthw = control.tokens_BDthw
        if tokens_BDthw is None:
            return None
        if tokens_BDthw.shape[2:] != grid_thw:
            raise WrongSizeError(
                f"A control adds to {' x '.join(map(str, tokens_BDthw.shape[2:]))} tokens, but the "
                f"latent has {' x '.join(map(str, grid_thw))} (time, height, width). Embed it for "
                "the latent's shape and the network's patch."
            )
        return tokens_BDthw.to(self.dtype).flatten(2).permute(2, 0, 1)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return self.timestep_embed.linear_1.weight.dtype

    def set_input_tensor(self, input_tensor: torch.Tensor | list[torch.Tensor]) -> None:
        """Take the tokens of the pipeline stage before (called by Megatron's schedules)."""
        if isinstance(input_tensor, list):
            (input_tensor,) = input_tensor
        self.blocks.set_input_tensor(input_tensor)

    def sharded_state_dict(
        self,
        prefix: str = "",
        sharded_offsets: tuple[tuple[int, int, int], ...] = (),
        metadata: dict[str, object] | None = None,
    ) -> dict[str, object]:
        """Megatron's sharded state, which holds what every pipeline stage has a copy of once.

        Its keys are the same for every layer spec.
        """
        state: dict[str, Any] = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        if not self.pre_process:
            copies = tuple(prefix + name for name in self.ON_EVERY_STAGE)
            stage = get_pg_rank(self.pp_group) + get_pg_size(self.pp_group) * (self.vp_stage or 0)
            number_copies(state, copies, stage)
        return without_extra_state(state, self.config)


def _by_frame(c_noise: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Noise levels (B,) or (B, T) as (1 or T, B)."""
    c_noise_TB = c_noise.reshape(c_noise.shape[0], -1).t()
    if c_noise_TB.shape[0] not in (1, num_frames):
        raise WrongFrameCountError(
            f"c_noise has {c_noise_TB.shape[0]} noise levels a sample, but the latent has "
            f"{num_frames} frames. Give one level a sample, (B,), or one a frame, (B, T)."
        )
    return c_noise_TB
