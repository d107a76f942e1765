"""The data modules under NeMo's trainer: order, micro-batches, validation, resumption."""

from __future__ import annotations

import itertools

import lightning.pytorch as pl
import pytest
import torch

# NeMo, Megatron and what they import raise dozens of deprecation warnings when a run starts.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

nl = pytest.importorskip("nemo.lightning")

from megatron.core.enums import ModelType  # noqa: E402
from megatron.core.optimizer import OptimizerConfig  # noqa: E402
from megatron.core.transformer.module import MegatronModule  # noqa: E402
from megatron.core.transformer.transformer_config import TransformerConfig  # noqa: E402
from nemo.lightning import io  # noqa: E402
from nemo.lightning.megatron_parallel import MegatronLossReduction  # noqa: E402

from nemo_cosmos import api  # noqa: E402
from nemo_cosmos.data.modules import LatentDataModule  # noqa: E402
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint  # noqa: E402
from nemo_cosmos.training.logger import RunLogger  # noqa: E402
from nemo_cosmos.training.trainer import WorldTrainer  # noqa: E402


class Network(MegatronModule):
    def __init__(self, config):
        super().__init__(config)
        self.model_type = ModelType.encoder_or_decoder
        self.scale = torch.nn.Parameter(torch.ones(1))

    def set_input_tensor(self, tensor):
        pass

    def forward(self, x):
        return (self.scale * x).mean()


class Mean(MegatronLossReduction):
    def forward(self, batch, out):
        return out, {"avg": out.detach().reshape(1)}

    def reduce(self, losses):
        return torch.cat([loss["avg"] for loss in losses]).mean()


class Recorder(pl.LightningModule, io.IOMixin, io.ConnectorMixin):
    """Learns one number and writes down which samples it saw."""

    def __init__(self):
        super().__init__()
        self.config = TransformerConfig(num_layers=1, hidden_size=8, num_attention_heads=1)
        self.module = None
        self.optim = nl.MegatronOptimizerModule(
            OptimizerConfig(optimizer="adam", lr=1e-3, use_distributed_optimizer=True)
        )
        self.optim.connect(self)
        self.seen = []
        self.validated = []

    def configure_model(self):
        if self.module is None:
            self.module = Network(self.config)

    def forward(self, x):
        return self.module(x)

    def data_step(self, iterator):
        fetched = next(iterator)
        return fetched[0] if isinstance(fetched, tuple) else fetched

    def training_step(self, batch, batch_idx=None):
        self.seen += batch["key"]
        return self(batch["latent"])

    def validation_step(self, batch, batch_idx=None):
        self.validated += batch["key"]
        return self(batch["latent"])

    def training_loss_reduction(self):
        return Mean()

    validation_loss_reduction = training_loss_reduction

    def flops_and_tokens(self, batch):
        return 1.0, 1

    def export(self, folder, data):
        folder.mkdir(parents=True, exist_ok=True)


def train(folder, data, max_steps, **trainer):
    model = Recorder()
    api.pretrain(
        model,
        data,
        WorldTrainer(max_steps=max_steps, log_every_n_steps=1, **trainer),
        log=RunLogger(name="run", log_dir=str(folder), ckpt=StepCheckpoint(every_n_train_steps=2)),
    )
    return model


def data_module(folder, **options):
    return LatentDataModule(
        folder, micro_batch_size=2, global_batch_size=4, text_length=8, seed=3, **options
    )


def test_resumed_run_sees_what_an_uninterrupted_one_would(write_latents, tmp_path):
    folder = write_latents(count=10)
    # Two micro-batches of two samples in each of six steps.
    loader = data_module(folder).train_dataloader()
    whole = [key for batch in itertools.islice(loader, 12) for key in batch["key"]]
    first = train(tmp_path / "parts", data_module(folder), 4).seen
    second = train(tmp_path / "parts", data_module(folder), 6).seen
    assert first + second == whole


def test_validation_sees_every_sample_in_order(write_latents, tmp_path):
    folder = write_latents(count=8)
    data = data_module(folder, val_path=folder)
    model = train(tmp_path / "run", data, 4, limit_val_batches=2, val_check_interval=1)
    one_pass = [key.split("@")[0] for key in model.validated[:8]]
    assert one_pass == [f"s{number}" for number in range(8)]
    assert model.validated[8:16] == model.validated[:8]
