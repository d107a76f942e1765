"""A tiny NeMo model and its data; also a program that trains it, for tests that kill a process.

python toy.py FOLDER MAX_STEPS [DELAY_S]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from megatron.core.enums import ModelType
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from nemo import lightning as nl
from nemo.lightning import io
from nemo.lightning.data import WrappedDataLoader
from nemo.lightning.megatron_parallel import MegatronLossReduction
from safetensors.torch import save_file
from torch import nn

from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer

WIDTH = 8


class ToyNetwork(MegatronModule):
    def __init__(self, config: TransformerConfig, control: bool = False, width: int = 16) -> None:
        super().__init__(config)
        self.model_type = ModelType.encoder_or_decoder
        self.inner = nn.Linear(WIDTH, width)
        self.outer = nn.Linear(width, WIDTH)
        if control:
            self.controls = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))

    def set_input_tensor(self, tensor) -> None:
        pass


class Mean(MegatronLossReduction):
    def forward(self, batch, out):
        return out, {"avg": out.detach().reshape(1)}

    def reduce(self, losses):
        return torch.cat([loss["avg"] for loss in losses]).mean()


class ToyModel(pl.LightningModule, io.IOMixin, io.ConnectorMixin):
    def __init__(self, control: bool = False, delay_s: float = 0.0, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.config = TransformerConfig(
            num_layers=1, hidden_size=WIDTH, num_attention_heads=1, use_cpu_initialization=True
        )
        self.control = control
        self.delay_s = delay_s
        self.module = None
        self.optim = optimizer()
        self.optim.connect(self)

    def configure_model(self) -> None:
        if self.module is None:
            self.module = ToyNetwork(self.config, self.control, self.width)

    def forward(self, x):
        return self.module(x)

    def data_step(self, iterator):
        batch = next(iterator)
        return batch[0] if isinstance(batch, tuple) else batch

    def forward_step(self, batch):
        time.sleep(self.delay_s)
        noise = torch.randn_like(batch["x"])  # like a diffusion loss: resume must restore it
        return (self(batch["x"] + 0.1 * noise).float() - batch["x"].roll(1, -1)).square().mean()

    def training_step(self, batch, batch_idx=None):
        return self.forward_step(batch)

    validation_step = training_step

    def training_loss_reduction(self):
        return Mean()

    validation_loss_reduction = training_loss_reduction

    def flops_and_tokens(self, batch):
        return 2.0 * batch["x"].numel() * 32, len(batch["x"])

    def export(self, folder, data):
        network = self.module
        while not isinstance(network, ToyNetwork):
            network = network.module
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text("{}")
        tensors = {name: value.clone() for name, value in network.state_dict().items()}
        save_file(tensors, Path(folder) / "model.safetensors")


class ToyData(pl.LightningDataModule, io.IOMixin):
    """Samples by index; a resumed run goes on after those that were consumed."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.data_sampler = nl.MegatronDataSampler(
            seq_len=1, micro_batch_size=batch_size, global_batch_size=batch_size
        )

    def train_dataloader(self):
        return torch.utils.data.DataLoader(Samples(100_000))

    def val_dataloader(self):
        return WrappedDataLoader(mode="validation", dataset=Samples(64))

    def state_dict(self):
        steps = self.trainer.global_step
        return {"consumed_samples": steps * self.data_sampler.global_batch_size}

    def load_state_dict(self, state_dict):
        self.data_sampler.init_consumed_samples = state_dict["consumed_samples"]


class Samples(torch.utils.data.Dataset):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(int(index))
        return {"x": torch.randn(WIDTH, generator=generator)}


def optimizer(lr: float = 1e-2) -> nl.MegatronOptimizerModule:
    return nl.MegatronOptimizerModule(
        OptimizerConfig(optimizer="adam", lr=lr, use_distributed_optimizer=True, clip_grad=1.0)
    )


def arguments(
    folder, max_steps, save_every=4, delay_s=0.0, name="toy", ema=True, async_save=False, **trainer
):
    trainer.setdefault("strategy", WorldStrategy(ckpt_async_save=async_save))
    return {
        "model": ToyModel(delay_s=delay_s),
        "data": ToyData(),
        "trainer": WorldTrainer(
            max_steps=max_steps,
            log_every_n_steps=1,
            callbacks=[EMA(decay=0.9)] if ema else [],
            **trainer,
        ),
        "log": RunLogger(
            name=name, log_dir=str(folder), ckpt=StepCheckpoint(every_n_train_steps=save_every)
        ),
    }


if __name__ == "__main__":
    from nemo_cosmos import api

    delay_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    print(api.pretrain(**arguments(sys.argv[1], int(sys.argv[2]), delay_s=delay_s)))
