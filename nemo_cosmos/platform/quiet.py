"""Keep the libraries' chatter off the terminal. Imports nothing heavy: call it before they load."""

from __future__ import annotations

import importlib
import logging
import os
import warnings

VERBOSE_VARIABLE = "NEMO_COSMOS_VERBOSE"
# Logger -> the lowest level that still reaches the terminal. A run's log files hold the rest.
LEVELS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "pytorch_lightning": logging.WARNING,
    "nv_one_logger": logging.ERROR,
    "NeMo": logging.ERROR,
    "nemo.collections": logging.ERROR,
    "megatron.core": logging.ERROR,
    "torch.distributed": logging.ERROR,
}
# What says only that an optional accelerator package is not installed, or, of pynvml, that NVIDIA's
# resiliency package, which NeMo requires, has brought it along.
PACKAGE_WARNINGS = (
    "The pynvml package is deprecated",
    "Apex is not installed",
    "Transformer Engine and Apex are not installed",
)
# What says only that a run resumes, or that Slurm is installed, as it is wherever its users log in:
# a run there need not be a Slurm job.
RUN_WARNINGS = (
    "The `srun` command is available",
    "Checkpoint directory .* exists and is not empty",
    "You're resuming from a checkpoint that ended before the epoch ended",
)


def quiet_imports() -> None:
    """Keep libraries from talking of optional packages and telemetry when they are imported.

    ``NEMO_COSMOS_VERBOSE=1`` silences nothing, here and below.
    """
    if os.environ.get(VERBOSE_VARIABLE) != "1":
        _ignore(PACKAGE_WARNINGS)
        logging.getLogger("nv_one_logger").setLevel(LEVELS["nv_one_logger"])


def quiet_libraries() -> None:
    """Silence what NeMo, Lightning and Megatron-Core log about themselves at import and set-up.

    Warnings and errors of a run still reach its log files.
    """
    if os.environ.get(VERBOSE_VARIABLE) == "1":
        return
    _ignore(PACKAGE_WARNINGS + RUN_WARNINGS)
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)


def quiet_nemo() -> None:
    """Import NeMo's logger alone and keep its warnings off the terminal.

    NeMo warns of missing parts while the rest of it is imported, so this goes first. Imports torch.
    """
    quiet_libraries()
    if os.environ.get(VERBOSE_VARIABLE) == "1":
        return
    importlib.import_module("nemo.utils")  # makes the logger and its handlers
    for handler in logging.getLogger("nemo_logger").handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(logging.ERROR)


def _ignore(messages: tuple[str, ...]) -> None:
    for message in messages:
        warnings.filterwarnings("ignore", message=message)
