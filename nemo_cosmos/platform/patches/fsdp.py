"""Megatron-FSDP beside weights that are not trained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.utils.hooks import RemovableHandle


@contextmanager
def frozen_weights_accepted() -> Iterator[None]:
    """Within the block, hooks on the gradients of frozen weights are left out.

    Megatron-FSDP groups weights by whether they are trained, but asks each for its gradient's hook,
    which torch refuses.
    """
    register = Tensor.register_post_accumulate_grad_hook

    def where_trained(weight: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
        return register(weight, hook) if weight.requires_grad else RemovableHandle(OrderedDict())

    Tensor.register_post_accumulate_grad_hook = where_trained  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.register_post_accumulate_grad_hook = register  # type: ignore[method-assign]
