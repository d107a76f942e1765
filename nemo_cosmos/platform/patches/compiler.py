"""How many kernels torch's compiler may make of one function."""

from __future__ import annotations

import torch

MOST_GRAPHS = 64
"""A function here is compiled for tensors with and without gradients, of every precision, number of
axes and order in memory that layers have: more often than the 8 times that torch allows."""


def allow_many_graphs() -> None:
    """Raise torch's limit, past which it would silently stop compiling a function."""
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MOST_GRAPHS)
