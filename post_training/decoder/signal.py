"""The codes of a discrete tokenizer as a signal that steers a diffusion model.

A discrete tokenizer compresses further than a continuous one, and its pictures show it. The
published autoregressive models therefore let a diffusion model make, from the codes, the latents of
a continuous tokenizer: the *diffusion decoder*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nemo_cosmos.controls import Control, Signal, SignalArray, Values
from nemo_cosmos.options import Range, check_names, check_value

USUAL_WIDTH = 32
"""Channels of a code, as the published code has them; the paper says 16."""
MOST_CODES = 2**24
"""More whole numbers than float32 tells apart."""


def _find_fault(values: Values) -> str | None:
    codes_THW = np.asarray(values["discrete"])
    if codes_THW.ndim != 3 or not codes_THW.size:
        return f"It has shape {codes_THW.shape}; expected codes of latent frames, rows and columns."
    if (codes_THW < 0).any() or (codes_THW != np.round(codes_THW)).any():
        return "It holds numbers that are no codes; expected whole numbers from 0."
    return None


DISCRETE = Signal(
    "discrete.npy",
    (SignalArray("discrete", None, max_abs=MOST_CODES, convention="codes (T, H, W)"),),
    find_fault=_find_fault,
)


def _settle(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Require options that an embedder can be built with.

    Raises:
        ConfigError: one is unknown, or no number of codes or channels.
    """
    check_names(options, ("num_codes", "width"))
    for name, value in options.items():
        check_value(name, value, int, Range(least=1, most=MOST_CODES))
    return options


DISCRETE_CONTROL = Control(
    "discrete",
    (DISCRETE,),
    {"diffusion": "post_training.decoder.embedder:CodesEmbedder"},
    following="psnr",
    settle=_settle,
)
