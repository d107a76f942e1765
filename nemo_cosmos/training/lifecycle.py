"""Set-up and teardown of a process, so that several training runs can follow each other in it.

NeMo, Lightning and Megatron-Core keep state in module globals: process groups, the micro-batch
calculator, the rerun state machine, log files, environment variables. :func:`fresh_globals`
clears it before and after a run.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from megatron.core import num_microbatches_calculator, parallel_state
from megatron.core.rerun_state_machine import destroy_rerun_state_machine

from nemo_cosmos.platform import has_cuda, is_first_process
from nemo_cosmos.platform.encoding import utf8_by_default
from nemo_cosmos.platform.gpu_environment import (
    GpuLayout,
    describe_environment,
    gpu_environment,
)
from nemo_cosmos.platform.patches.nemo import install_nemo_patches
from nemo_cosmos.platform.quiet import quiet_nemo
from nemo_cosmos.platform.ranks import RANK_VARIABLES, is_rank

LOGGERS = ("nemo_logger", "megatron.core", "lightning.pytorch")
# Set by Lightning and NeMo for one run, or by a launcher before.
RUN_VARIABLES = ("NEMO_EXPM_VERSION", *RANK_VARIABLES)

_is_first_run = True


@contextmanager
def fresh_globals() -> Iterator[None]:
    """Give one run the libraries' globals for itself, and clear them after it, also on errors."""
    install_nemo_patches()
    quiet_nemo()
    environment = {name: os.environ.get(name) for name in RUN_VARIABLES}
    if not is_rank():
        for name in RANK_VARIABLES:  # leftovers, which NeMo would take for this process's number
            os.environ.pop(name, None)
    teardown()  # inference in this process may have left its own process groups
    _free_former_run()
    try:
        with _imports_uncollected(), utf8_by_default():
            yield
    finally:
        teardown()
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def environment_of(trainer: pl.Trainer) -> Iterator[None]:
    """Give this process what its GPU's libraries read of the environment, and print it.

    A launcher has set it for the ranks that it started; this is for those that the user started.
    """
    layout = GpuLayout.of(trainer.strategy, trainer.world_size)
    lines = describe_environment(layout, os.environ)
    with gpu_environment(layout):
        if has_cuda() and is_first_process():
            print(*lines, sep="\n", file=sys.stderr)
        yield


def _free_former_run() -> None:
    """Give back memory and threads of a run that ended before in this process.

    A trainer and its parts refer to each other in circles, so that only the collector frees them;
    until then the process groups keep threads that poll, and the network its memory.
    """
    global _is_first_run
    if not _is_first_run:
        gc.collect()
    _is_first_run = False


@contextmanager
def _imports_uncollected() -> Iterator[None]:
    """Within the block, leave what exists now out of garbage collection.

    Megatron-Core collects in every save: half a second, unless what the imports made, a million
    objects that live as long as the process, is left out. A process that has frozen its own
    objects already, as servers do before they fork, is left as it is.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def teardown() -> None:
    """Destroy process groups and the global state of Megatron-Core and NeMo; safe to call twice."""
    parallel_state.destroy_model_parallel()
    if num_microbatches_calculator._GLOBAL_NUM_MICROBATCHES_CALCULATOR is not None:
        num_microbatches_calculator.destroy_num_microbatches_calculator()
    destroy_rerun_state_machine()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    _close_log_files()


def _close_log_files() -> None:
    """Close the files that NeMo's logger opened in the run's folder."""
    from nemo.utils import logging as nemo_logging

    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler):
                logger.removeHandler(handler)
                handler.close()
    for key in ("file", "file_err"):
        nemo_logging._handlers.pop(key, None)
