"""A machine that computes wrong numbers trains nothing."""

from __future__ import annotations

import lightning.pytorch as pl
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.platform.accelerator.self_check import require_right_kernels


class MachineCheck(pl.Callback, IOMixin):
    """Compute small known problems on every rank, and refuse machines whose answers are wrong.

    Hooks:

    - ``setup``: the ranks have met and have their devices; nothing is built or loaded yet.

    Raises:
        MachineError: names the machines and the kernels.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the machines of all ranks."""
        if stage == "fit":
            require_right_kernels()
