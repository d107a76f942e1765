"""The autoregressive transformer of the Cosmos world models, on Megatron-Core (paper section 5.3).

One network for all sizes: the codes of a discrete video tokenizer, in the order (t, h, w), become
tokens; layers of causal self-attention and of a gated feed-forward network follow, where there is a
text or a control with cross-attention to it in between; a linear map gives the scores of the next
code. It takes tensors and knows nothing of files, losses or decoding.

Shape suffixes: B batch, L tokens, M text tokens, C channels of the text, E model width, T latent
frames, V codes (a tensor-parallel rank's). Inside, tokens come first: (L, B, E).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from megatron.core.enums import ModelType
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, VocabParallelEmbedding
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec, build_module
from megatron.core.utils import get_pg_rank, get_pg_size
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.layer_specs import ar_layer_spec
from nemo_cosmos.models.autoregressive.network.layers import ARLayerInputs, ARStack
from nemo_cosmos.models.autoregressive.network.places import Grid, Places, PlaceTable, place_table
from nemo_cosmos.models.common.attention.cache import KeyValueCache
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.attention.masks import Mask
from nemo_cosmos.models.common.megatron.extra_state import (
    accept_missing_extra_state,
    without_extra_state,
)
from nemo_cosmos.models.common.megatron.pipeline_copies import number_copies
from nemo_cosmos.models.common.megatron.sequence_parallel import SequenceParallel
from nemo_cosmos.models.common.packed import Packing


@dataclass(frozen=True)
class TextKeysValues:
    """The text's keys and values in every layer, computed once for all tokens of a video.

    Attributes:
        layers: keys and values for each layer of this pipeline stage.
    """

    layers: list[KeysValues]


@dataclass(frozen=True)
class TokenInput:
    """Everything that the network sees of some tokens.

    Attributes:
        tokens_BL: codes, and the token of the beginning where the network has one; int64.
        places: where they stand; see :meth:`ARNetwork.place_table`.
        text: text embedding (B, M, C) with what controls add to it, or its keys and values; None
            for a model without.
        cache: keys and values of the tokens before these; the caller advances it afterwards.
        mask: which tokens a token sees; those before it by default.
        is_scored: whether scores are asked for, or the keys and values alone.
        frame_BTE: what controls add to the tokens that precede the codes of each latent frame; None
            without.
        packing: where the videos of a packed sequence begin and end; see
            :func:`~nemo_cosmos.models.autoregressive.network.packs.pack_inputs`.
    """

    tokens_BL: Tensor
    places: Places
    text: Tensor | TextKeysValues | None = None
    cache: KeyValueCache | None = None
    mask: Mask | None = None
    is_scored: bool = True
    frame_BTE: Tensor | None = None
    packing: Packing | None = None


class ARNetwork(MegatronModule):
    """The autoregressive transformer.

    Build it after :func:`nemo_cosmos.platform.ensure_model_parallel` (or under NeMo's strategy).

    Args:
        config: sizes, parallelism and precision.
        layer_spec: spec of one layer; by default the one that ``config.layer_spec`` names.
        pre_process: whether this rank holds the first pipeline stage (embedding).
        post_process: whether this rank holds the last pipeline stage (output).
        vp_stage: number of the virtual pipeline stage; None without virtual stages.
        pg_collection: process groups; Megatron's global ones by default.

    Attributes:
        ON_EVERY_STAGE: prefixes of the parameters that all pipeline stages hold.
    """

    ON_EVERY_STAGE: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: ARConfig,
        layer_spec: ModuleSpec | None = None,
        *,
        pre_process: bool = True,
        post_process: bool = True,
        vp_stage: int | None = None,
        pg_collection: ProcessGroupCollection | None = None,
    ) -> None:
        super().__init__(config=config)
        self.config: ARConfig = config
        self.model_type = ModelType.encoder_or_decoder
        self.share_embeddings_and_output_weights = False
        self.pre_process, self.post_process, self.vp_stage = pre_process, post_process, vp_stage
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups()
        self.tp_group, self.pp_group = groups.tp, groups.pp
        self.sequence = SequenceParallel(config, groups.tp)
        spec = layer_spec or ar_layer_spec(config)
        if pre_process:
            self.embedding = VocabParallelEmbedding(
                config.num_inputs,
                config.hidden_size,
                init_method=config.init_method,
                reduce_scatter_embeddings=self.sequence.is_on,
                config=config,
                tp_group=groups.tp,
            )
        self.blocks = ARStack(
            config,
            spec,
            pre_process=pre_process,
            post_process=post_process,
            pg_collection=groups,
            vp_stage=vp_stage,
        )
        if post_process:
            self.norm = build_module(
                spec.submodules.norm,
                config=config,
                hidden_size=config.hidden_size,
                eps=config.layernorm_epsilon,
            )
            self.output = ColumnParallelLinear(
                config.hidden_size,
                config.num_outputs,
                config=config,
                init_method=config.init_method,
                bias=False,
                gather_output=False,
                tp_group=groups.tp,
            )
        accept_missing_extra_state(self)

    def forward(self, inputs: TokenInput) -> Tensor:
        """Score the code that follows each token.

        Returns:
            logits_LBV of this rank's codes; the last layer's tokens where no scores are asked for,
            and on a pipeline stage before the last. Rows that pad the vocabulary have scores, too.

        Raises:
            ConfigError: the text is missing, or of another width.
        """
        layer_inputs, keys_values = self._layer_inputs(inputs)
        # A later pipeline stage gets its tokens from the stage before, by set_input_tensor.
        x_LBE = self._embed(inputs) if self.pre_process else None
        x_LBE = self.blocks(
            x_LBE, layer_inputs, keys_values, inputs.cache, inputs.mask, inputs.packing
        )
        return self.score(x_LBE) if self.post_process and inputs.is_scored else x_LBE

    def score(self, x_LBE: Tensor) -> Tensor:
        """Return logits_LBV of what the last layer gave."""
        logits: Tensor
        logits, _ = self.output(self.norm(x_LBE))
        return logits

    def place_table(self, grid_thw: Grid, device: torch.device) -> PlaceTable:
        """Compute the places of a video's tokens, to be looked up for some of them."""
        return place_table(self.config, grid_thw, device, self.config.params_dtype)

    def encode_text(self, text_BMC: Tensor) -> TextKeysValues:
        """Compute the text's keys and values for all layers, to be used for every token."""
        return TextKeysValues(self.blocks.project_context(self._context(text_BMC)))

    def _embed(self, inputs: TokenInput) -> Tensor:
        """This rank's share of the tokens, (L, B, E), with what controls add to them."""
        self.sequence.check_divides(inputs.tokens_BL.shape[1])
        x: Tensor = self.embedding(inputs.tokens_BL)
        # Under sequence parallelism the embedding sums and shares out, tokens first.
        x_LBE = x if self.sequence.is_on else x.transpose(0, 1).contiguous()
        if inputs.frame_BTE is None:
            return x_LBE
        frame_TBE = inputs.frame_BTE.to(x_LBE.dtype).transpose(0, 1)
        next_LB = self.sequence.chunk(inputs.places.next_frame_LB)
        return x_LBE + frame_TBE[next_LB, torch.arange(frame_TBE.shape[1], device=x_LBE.device)]

    def _layer_inputs(self, inputs: TokenInput) -> tuple[ARLayerInputs, list[KeysValues] | None]:
        text, takes_text = inputs.text, bool(self.config.cross_channels)
        if (text is not None) != takes_text:
            raise ConfigError(
                "The network attends to a text or a control, but was given none. Pass the text's "
                "embedding, or the control's."
                if takes_text
                else "A text was given to a network that was built without one "
                "(context_channels=0). Use a preset with text, such as ar_5b_video2world."
            )
        rope, position_LBE = inputs.places.rope, inputs.places.position_LBE
        keys_values = text.layers if isinstance(text, TextKeysValues) else None
        layer_inputs = ARLayerInputs(
            rope.cos_LB1D,
            rope.sin_LB1D,
            # The rotary table stays whole: attention gathers all tokens of a head.
            None if position_LBE is None else self.sequence.chunk(position_LBE),
            self._context(text) if isinstance(text, Tensor) else None,
        )
        return layer_inputs, keys_values

    def _context(self, text_BMC: Tensor) -> Tensor:
        """What cross-attention attends to: this rank's share of the text, tokens first."""
        if text_BMC.shape[-1] != self.config.cross_channels:
            raise ConfigError(
                f"The text embedding is {text_BMC.shape[-1]} wide, but the network was built for "
                f"context_channels={self.config.cross_channels}. Use the text encoder that the "
                "model was trained with."
            )
        context_MBC = text_BMC.to(self.config.params_dtype).transpose(0, 1).contiguous()
        self.sequence.check_divides(context_MBC.shape[0])
        # A plain slice: what embeds controls sums its gradients over the ranks.
        return self.sequence.chunk(context_MBC)

    def set_input_tensor(self, input_tensor: Tensor | list[Tensor]) -> None:
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
        state: dict[str, object] = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        if not self.pre_process:
            copies = tuple(prefix + name for name in self.ON_EVERY_STAGE)
            stage = get_pg_rank(self.pp_group) + get_pg_size(self.pp_group) * (self.vp_stage or 0)
            number_copies(state, copies, stage)
        return without_extra_state(state, self.config)
