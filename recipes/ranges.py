"""The legal values of a recipe's numbers, by the name of the key.

They are the library classes' own (Megatron's optimiser, Lightning's trainer) as well as ours, and a
name means the same in all. What depends on several keys is checked where they meet
(:mod:`nemo_cosmos.training.checks`).
"""

from __future__ import annotations

from nemo_cosmos.options import Range, check_value

_SHARE = Range(least=0, most=1)
_COUNT = Range(least=1)
_COUNT_OR_NONE = Range(least=0)

RANGES: dict[str, Range] = {
    # Optimiser
    **dict.fromkeys(("lr", "min_lr", "weight_decay", "clip_grad"), Range(least=0)),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), _SHARE),
    "adam_eps": Range(above=0, most=1),
    **dict.fromkeys(("warmup_steps", "constant_steps"), _COUNT_OR_NONE),
    # Data
    **dict.fromkeys(("micro_batch_size", "global_batch_size", "shuffle_window"), _COUNT),
    **dict.fromkeys(("num_workers", "max_bad_shards", "cache_bytes"), _COUNT_OR_NONE),
    "seed": Range(least=0, most=2**32 - 1),
    "image_ratio": _SHARE,
    "num_frames": _COUNT,
    "text_length": Range(least=1, most=65536),
    # Trainer
    **dict.fromkeys(("log_every_n_steps", "every_n_train_steps"), _COUNT),
    **dict.fromkeys(("limit_val_batches", "val_check_interval", "every_n_steps"), Range(least=0)),
    "train_time_interval_s": Range(above=0),
    "decay": _SHARE,
    **dict.fromkeys(
        (
            "tensor_model_parallel_size",
            "context_parallel_size",
            "pipeline_model_parallel_size",
            "num_distributed_optimizer_instances",
        ),
        _COUNT,
    ),
    # Network and process
    **dict.fromkeys(
        (
            "num_attention_heads",
            "hidden_size",
            "ffn_hidden_size",
            "in_channels",
            "out_channels",
            "patch_spatial",
            "patch_temporal",
            "crossattn_emb_channels",
            "adaln_lora_dim",
            "max_frames",
            "max_height",
            "max_width",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        (
            "text_dropout",
            "frame_dropout",
            "control_dropout",
            "hidden_dropout",
            "attention_dropout",
        ),
        _SHARE,
    ),
    **dict.fromkeys(("base_fps", "sigma_data", "layernorm_epsilon"), Range(above=0)),
    "motion_weight": Range(least=0),
}


def check_range(key: str, value: object) -> None:
    """Refuse a number outside the range of its key, also within a list.

    Args:
        key: the whole key, such as ``optim.config.lr``.
        value: its value, of the right type; what is no number has no range.

    Raises:
        ConfigError: names the key, its range and the value.
    """
    legal = RANGES.get(key.rpartition(".")[2])
    for number in value if isinstance(value, list | tuple) else (value,):
        if legal is not None and isinstance(number, int | float) and not isinstance(number, bool):
            check_value(key, number, type(number), legal)
