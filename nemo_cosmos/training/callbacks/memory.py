"""How much memory training holds."""

from __future__ import annotations

import lightning.pytorch as pl
import psutil
import torch
from nemo.lightning.io.mixin import IOMixin

GIGABYTE_BYTES = 1e9


class Memory(pl.Callback, IOMixin):
    """Log host memory, and device memory where there is a device.

    Hooks:

    - ``on_train_start``: reset the device's peak, which set-up raised.
    - ``on_train_batch_end``: log ``memory_host_gb`` (resident set of this process), and on a GPU
      ``memory_device_peak_gb`` and ``memory_device_reserved_gb``.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()

    def __deepcopy__(self, memo: object) -> Memory:
        """Return a new one: NeMo copies arguments, and the handle of a process cannot be copied."""
        return Memory()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the device's peak from here."""
        torch.cuda.reset_peak_memory_stats()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Log at the steps that Lightning logs."""
        if trainer.global_step % trainer.log_every_n_steps:
            return
        values_bytes = {
            "memory_host_gb": self._process.memory_info().rss,
            "memory_device_peak_gb": torch.cuda.max_memory_allocated(),
            "memory_device_reserved_gb": torch.cuda.max_memory_reserved(),
        }
        for name, value_bytes in values_bytes.items():
            if value_bytes:
                pl_module.log(name, value_bytes / GIGABYTE_BYTES, batch_size=1)
