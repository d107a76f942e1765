"""Checks 11 and 14: the optimiser's steps and state, and a run of NeMo's trainer that resumes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from nemo_cosmos.testing.first_run.kit import (
    Figures,
    Skipped,
    expect,
    inputs_for,
    is_full,
    network,
)


def optimiser_steps(device: torch.device) -> Figures:
    """Twenty steps of the distributed optimiser lower the loss; its state goes on after a load."""
    import megatron.core.optimizer as optimizers

    num_steps = 20 if is_full(device) else 6
    straight = _Trained(device)
    losses = [straight.step() for _ in range(num_steps)]
    expect(losses[-1] < 0.9 * losses[0], f"the loss went from {losses[0]:.4f} to {losses[-1]:.4f}")
    resumed = _Trained(device)
    for _ in range(num_steps - 1):
        resumed.step()
    weights = {name: p.detach().clone() for name, p in resumed.model.named_parameters()}
    state = resumed.optimizer.state_dict()
    parameters = resumed.optimizer.sharded_state_dict
    expect(callable(parameters), "the optimiser has no sharded state")
    other = _Trained(device)
    other.step()  # gives its optimiser a state to replace
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            parameter.copy_(weights[name])
    other.optimizer.load_state_dict(state)
    _copy_moments(resumed.optimizer, other.optimizer)
    last, expected = other.step(), resumed.step()
    expect(abs(last - expected) < 1e-6, f"the loss after a load is {last}, not {expected}")
    for (name, one), two in zip(
        resumed.model.named_parameters(), other.model.parameters(), strict=True
    ):
        expect(torch.allclose(one, two, atol=1e-6), f"{name} differs after a load")
    adam = f"{optimizers.Adam.__module__}.{optimizers.Adam.__name__}"
    return {"first_loss": round(losses[0], 5), "last_loss": round(losses[-1], 5), "adam": adam}


class _Trained:
    """A small network in bfloat16 with float32 weights in the distributed optimiser."""

    def __init__(self, device: torch.device) -> None:
        from megatron.core.distributed import (
            DistributedDataParallel,
            DistributedDataParallelConfig,
        )
        from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
        from megatron.core.transformer.module import Float16Module

        net = network(device, torch.bfloat16)
        self.given = inputs_for(net.config, device, dtype=torch.bfloat16)
        self.target = torch.randn(
            self.given.x_BCTHW.shape, generator=torch.Generator().manual_seed(4)
        ).to(device)
        ddp = DistributedDataParallelConfig(
            grad_reduce_in_fp32=True, use_distributed_optimizer=True
        )
        self.model = DistributedDataParallel(net.config, ddp, Float16Module(net.config, net))
        self.optimizer = get_megatron_optimizer(
            OptimizerConfig(
                optimizer="adam", lr=3e-3, bf16=True, weight_decay=0.0, clip_grad=1.0,
                params_dtype=torch.bfloat16, use_distributed_optimizer=True,
            ),
            [self.model],
        )  # fmt: skip

    def step(self) -> float:
        """One step; returns the loss before it."""
        from megatron.core.distributed import finalize_model_grads

        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        loss = (self.model(self.given).float() - self.target).square().mean()
        loss.backward()
        finalize_model_grads([self.model], None)
        succeeded, _, _ = self.optimizer.step()
        expect(succeeded, "the optimiser left a step out")
        return float(loss.detach())


def _copy_moments(source: Any, target: Any) -> None:
    """Copy what the distributed optimiser keeps out of ``state_dict``: its float32 parts."""
    for one, two in zip(source.chained_optimizers, target.chained_optimizers, strict=True):
        two.load_parameter_state_from_dp_zero(one.get_parameter_state_dp_zero())


def trainer_that_resumes(device: torch.device) -> Figures:
    """Ten steps of NeMo's trainer, in one run and in two with a checkpoint between: bit for bit."""
    from nemo_cosmos.platform import has

    if not has("nemo.lightning"):
        raise Skipped("NeMo is not installed")
    from nemo_cosmos.testing.tiny import write_latents

    num_steps = 10 if is_full(device) else 4
    with tempfile.TemporaryDirectory(prefix="nemo-cosmos-first-run-") as temporary:
        folder = Path(temporary)
        data = write_latents(folder / "latents")
        straight = _run(folder / "straight", data, num_steps, num_steps)
        _run(folder / "parts", data, num_steps, num_steps // 2)
        resumed = _run(folder / "parts", data, num_steps, num_steps)
    for name, weight in straight.items():
        expect(torch.equal(weight, resumed[name]), f"{name} differs after a resume")
    return {"steps": num_steps, "tensors": len(straight)}


def _run(folder: Path, data: Path, num_steps: int, until: int) -> dict[str, torch.Tensor]:
    """Train a tiny model up to a step, saving at half; return the weights."""
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl

    from nemo_cosmos.data.modules import LatentDataModule
    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from nemo_cosmos.testing.tiny import tiny_network
    from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
    from nemo_cosmos.training.logger import RunLogger
    from nemo_cosmos.training.session import TrainingSession
    from nemo_cosmos.training.strategy import WorldStrategy
    from nemo_cosmos.training.trainer import WorldTrainer

    optim = nl.MegatronOptimizerModule(
        OptimizerConfig(optimizer="adam", lr=1e-3, bf16=True, use_distributed_optimizer=True)
    )
    checkpoints = StepCheckpoint(every_n_train_steps=num_steps // 2)
    with TrainingSession.start(
        model=DiffusionModel(tiny_network(), optim=optim),
        data=LatentDataModule(str(data), micro_batch_size=2, global_batch_size=2),
        trainer=WorldTrainer(
            max_steps=num_steps,
            precision="bf16-mixed",
            log_every_n_steps=1,
            strategy=WorldStrategy(ckpt_async_save=False),
        ),
        log=RunLogger(name="run", log_dir=str(folder), ckpt=checkpoints),
    ) as session:
        session.advance(until - session.step)
        return {part.name: part.tensor.cpu() for part in session.weights()}
