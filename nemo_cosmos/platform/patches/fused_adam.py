"""Adam with the bookkeeping of Transformer Engine's and Apex's ``FusedAdam``, where neither is.

Megatron-Core's distributed optimiser keeps the step count in the parameter group, as those two do;
with torch's own AdamW (a step tensor beside each parameter) a resharded checkpoint does not load.
The arithmetic is torch's fused kernel of the device: one pass over parameter, gradient and both
moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class FusedAdam(torch.optim.Optimizer):
    """Adam (``adam_w_mode=False``) or AdamW (``True``), one fused kernel per parameter group.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the running mean of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: decoupled (AdamW) or added to the gradient (Adam).
        adam_w_mode: which of the two.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        adam_w_mode: bool = True,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
        self.adam_w_mode = adam_w_mode

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: recomputes the loss, as in every torch optimiser.

        Returns:
            The closure's loss, if there is a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[torch.Tensor]) -> None:
        for param in params:
            state = self.state[param]
            if "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(param)
                state["exp_avg_sq"] = torch.zeros_like(param)
        beta1, beta2 = group["betas"]
        # Filled on the device: CUDA's kernel reads it there, and a copy would wait for the queue.
        step = torch.full((), float(group["step"]), device=params[0].device)
        kernel = torch._fused_adamw_ if self.adam_w_mode else torch._fused_adam_
        kernel(
            params,
            [grad for param in params if (grad := param.grad) is not None],
            [self.state[param]["exp_avg"] for param in params],
            [self.state[param]["exp_avg_sq"] for param in params],
            [],  # max_exp_avg_sqs: AMSGrad only
            [step] * len(params),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def use_fused_adam() -> None:
    """Let Megatron-Core take :class:`FusedAdam` where it would fall back to torch's own AdamW.

    Imports Megatron-Core. Calling it again is free.
    """
    import megatron.core.optimizer as optimizers
    from megatron.core.optimizer import distrib_optimizer

    if not optimizers.USING_PYTORCH_OPTIMIZER:
        return
    optimizers.Adam = distrib_optimizer.Adam = FusedAdam
    optimizers.USING_PYTORCH_OPTIMIZER = False
    distrib_optimizer.HAVE_APEX_OR_TE = True
