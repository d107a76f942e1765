"""Autoregressive worlds as a folder of transformers: ``Qwen3VLForConditionalGeneration``.

Of the decoders in transformers, the language model of Qwen3-VL is the one that computes the same:
grouped queries, queries and keys normalised per head, a gated feed-forward network, an output of
its own, and positions along time, height and width. Two things are rearranged:

- Its rotary embedding deals the channel pairs of a head out to the axes in turns (t, h, w, t, ..),
  ours in three runs. The rows of queries and keys, and the weights of their norms, change places.
- Its frequencies are one ladder over all pairs, ours one for each axis, with YaRN or without. The
  factors of its ``longrope``, one a pair, turn the one into the other.

The class has a vision tower, which no code reaches; the folder holds the smallest possible, without
a block, of zeros. Positions are (time, row, column) of each code and have to be passed: without
them the class counts codes as the words of a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.autoregressive.keys import PREFIX, unfused
from nemo_cosmos.checkpoint.formats.json_files import write_object
from nemo_cosmos.checkpoint.formats.safetensors import write_safetensors
from nemo_cosmos.checkpoint.formats.tensors import TensorSource, TensorSpec, TensorStream
from nemo_cosmos.checkpoint.world.config import CONFIG_FILE
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.rope import Rope3D

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.network.config import ARConfig

WEIGHTS_NAME: Final = "model.safetensors"
_MODEL: Final = "model.language_model."
_LAYER: Final = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
"""Parts of a layer under original names, and their names in transformers."""
_OUTSIDE: Final = {
    "tok_embeddings.weight": f"{_MODEL}embed_tokens.weight",
    "norm.weight": f"{_MODEL}norm.weight",
    "output.weight": "lm_head.weight",
}
_TURNED: Final = ("wq", "wk", "q_norm", "k_norm")
"""Weights of what the rotary embedding turns."""
_PADDED: Final = ("tok_embeddings", "output")
"""Weights with rows that pad the vocabulary, which stay here: nothing would hide their scores."""
_VISION_WIDTH: Final = 4


def write_qwen3_vl(folder: Path, config: ARConfig, source: TensorSource) -> None:
    """Write ``config.json`` and the weights, streaming.

    Args:
        folder: the new folder.
        config: the network's configuration.
        source: the weights under our names.

    Raises:
        ConfigError: no class of transformers computes such a network.
    """
    check_expressible(config)
    stream = _stream(source, config)
    dtype = next(iter(stream.specs.values())).dtype
    write_object(folder / CONFIG_FILE, qwen3_vl_config(config, dtype))
    write_safetensors(folder / WEIGHTS_NAME, stream)


def check_expressible(config: ARConfig) -> None:
    """Require a network that the class can compute.

    Raises:
        ConfigError: it has a part that the class has not; names it.
    """
    parts = (
        (config.context_channels, "attends to a text in every layer"),
        (config.absolute_positions, "adds absolute positions before every layer"),
        (config.begin_token, "has a token of the beginning, which is no output"),
    )
    for is_there, what in parts:
        if is_there:
            raise ConfigError(
                f"No class of transformers computes this network: it {what}. Export it with "
                "--format cosmos or nemo; models without text, such as ar_4b and ar_12b, can be "
                "exported for transformers."
            )


def pair_order(head_dim: int) -> list[int]:
    """Return, for each channel pair of the class's heads, the number of ours.

    Args:
        head_dim: channels of a head.
    """
    first_h, first_w = _sections(head_dim)[0], head_dim // 2 - head_dim // 6
    times = iter(range(first_h))
    order = []
    for pair in range(head_dim // 2):
        turn, axis = divmod(pair, 3)
        in_turns = axis and turn < head_dim // 6
        order.append((0, first_h, first_w)[axis] + turn if in_turns else next(times))
    return order


def qwen3_vl_config(config: ARConfig, dtype: torch.dtype) -> JsonObject:
    """Return ``config.json``.

    Args:
        config: the network's configuration.
        dtype: type of the weights.
    """
    name = str(dtype).removeprefix("torch.")
    factors = _ladder_factors(config)
    rope: JsonObject = {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "mrope_section": _sections(config.head_dim),
        "mrope_interleaved": True,
    }
    text: JsonObject = {
        "model_type": "qwen3_vl_text",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_query_groups,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": math.prod(
            (config.max_frames, config.max_height, config.max_width)
        ),
        "rms_norm_eps": config.layernorm_epsilon,
        "attention_bias": False,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope,
        "tie_word_embeddings": False,
        "dtype": name,
    }
    # No code is a picture's: the numbers lie behind the codebook.
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        **{token: config.vocab_size + number for number, token in enumerate(tokens)},
        "text_config": text,
        "vision_config": _vision(config),
        "tie_word_embeddings": False,
        "dtype": name,
    }


def _vision(config: ARConfig) -> JsonObject:
    """An encoder of pictures without layers: the class has one, and no code is a picture's."""
    return {
        "model_type": "qwen3_vl",
        "depth": 0,
        "hidden_size": _VISION_WIDTH,
        "num_heads": 1,
        "in_channels": 1,
        "patch_size": 1,
        "temporal_patch_size": 1,
        "spatial_merge_size": 1,
        "num_position_embeddings": 1,
        "out_hidden_size": config.hidden_size,
        "deepstack_visual_indexes": [],
    }


def _sections(head_dim: int) -> list[int]:
    """Channel pairs of time, height and width."""
    space = head_dim // 6
    return [head_dim // 2 - 2 * space, space, space]


def _ladder_factors(config: ARConfig) -> list[float]:
    """By how much each frequency of the class's one ladder is divided to be ours."""
    half = config.head_dim // 2
    rope = Rope3D(config.head_dim, theta=config.rope_theta, yarn=config.yarn)
    ours = torch.cat(rope.frequencies(torch.device("cpu"))).double()[pair_order(config.head_dim)]
    exponent = torch.arange(half, dtype=torch.float64) / half
    factors: list[float] = (config.rope_theta**-exponent / ours).tolist()
    return factors


def _stream(source: TensorSource, config: ARConfig) -> TensorStream:
    original = unfused(source, config)
    specs: dict[str, TensorSpec] = {}
    readers: dict[str, Callable[[], torch.Tensor]] = {}
    for name, spec in original.specs.items():
        theirs, shape = _renamed(name.removeprefix(PREFIX)), spec.shape
        if name.split(".")[-2] in _PADDED:
            shape = (config.vocab_size, *shape[1:])
        specs[theirs] = TensorSpec(shape, spec.dtype)
        readers[theirs] = partial(_read, original, name, config)
    dtype = next(iter(specs.values())).dtype
    for theirs, shape in _vision_shapes(config.hidden_size).items():
        specs[theirs] = TensorSpec(shape, dtype)
        readers[theirs] = partial(torch.zeros, shape, dtype=dtype)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, read in readers.items():
            yield name, read()

    return TensorStream(specs, tensors())


def _renamed(original: str) -> str:
    """Return a weight's name in transformers."""
    if original in _OUTSIDE:
        return _OUTSIDE[original]
    _, number, rest = original.split(".", 2)
    return f"{_MODEL}layers.{number}.{_LAYER[rest.removesuffix('.weight')]}.weight"


def _read(original: TensorSource, name: str, config: ARConfig) -> torch.Tensor:
    """Return an original weight, arranged as the class has it."""
    tensor, part = original.read(name), name.split(".")[-2]
    if part in _PADDED:
        return tensor[: config.vocab_size]
    if part not in _TURNED:
        return tensor
    pairs = torch.tensor(pair_order(config.head_dim))
    channels = torch.cat([pairs, pairs + config.head_dim // 2])
    return tensor.unflatten(0, (-1, config.head_dim))[:, channels].flatten(0, 1)


def _vision_shapes(hidden_size: int) -> dict[str, tuple[int, ...]]:
    width = _VISION_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (width, 1, 1, 1, 1),
        "patch_embed.proj.bias": (width,),
        "pos_embed.weight": (1, width),
        "merger.norm.weight": (width,),
        "merger.norm.bias": (width,),
        "merger.linear_fc1.weight": (width, width),
        "merger.linear_fc1.bias": (width,),
        "merger.linear_fc2.weight": (hidden_size, width),
        "merger.linear_fc2.bias": (hidden_size,),
    }
    return {f"model.visual.{name}": shape for name, shape in shapes.items()}
