"""Lightning's ``Trainer.fit``, one optimiser step at a time.

Lightning runs all steps in one call. A session has to stop between two of them, with the model,
the optimiser and the data iterator as they are, so the loops are written out here as a generator:
what ``FitLoop.run`` and ``_TrainingEpochLoop.run`` of Lightning 2.4 do, in their order, with a
``yield`` after every batch.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities.seed import isolate_rng

from nemo_cosmos.training.resilience.skipped import BadStep
from nemo_cosmos.training.trainer import ReadyToStep, WorldTrainer


class SteppedFit:
    """A fit that its caller advances.

    Args:
        trainer: the trainer; it is used for this fit alone.
        model: the Lightning module.
        data: its data module.
    """

    def __init__(
        self, trainer: WorldTrainer, model: pl.LightningModule, data: pl.LightningDataModule
    ) -> None:
        self.trainer = trainer
        self._steps = self._run_epochs()
        self._open = True
        with self._teardown_on_error():
            self._set_up(model, data)

    def step(self) -> bool:
        """Train one batch; return whether there was one to train.

        Raises:
            BadStep: the step spoilt the run, which :meth:`rewind` can save.
            Exception: whatever else training raises, after Lightning's ``on_exception`` hooks.
        """
        with self._teardown_on_error(), self._training_mode():
            return next(self._steps, None) is not None

    def rewind(self, checkpoint: str, error: BadStep) -> None:
        """Return to a checkpoint of this run, as a new process would that resumes from it.

        Args:
            checkpoint: its path.
            error: why; callbacks hear of it before.
        """
        trainer, loop = self.trainer, self.trainer.fit_loop
        with self._teardown_on_error():
            # They close what they opened at the start of training, which comes again.
            call._call_callback_hooks(trainer, "on_exception", error)
            self._steps.close()
            trainer.strategy.sync_weights()
            loop.teardown()  # ends the workers that read ahead
            loop._combined_loader = None
            trainer.ckpt_path = checkpoint
            connector = trainer._checkpoint_connector
            connector._restore_modules_and_callbacks(checkpoint)
            connector.restore_training_state()
            connector.resume_end()
            self._start_loop()
        self._steps = self._run_epochs()

    def end(self) -> None:
        """End the training here: call the hooks that follow the last step, and tear down."""
        if not self._open:
            return
        trainer = self.trainer
        with self._teardown_on_error(), self._training_mode():
            trainer.should_stop = True  # the loops end as if the last step had been reached
            for _ in self._steps:
                pass
            trainer.fit_loop._restarting = False
            trainer.fit_loop.on_run_end()
            self._open = False
            trainer._teardown()
            call._call_callback_hooks(trainer, "on_fit_end")
            call._call_lightning_module_hook(trainer, "on_fit_end")
            call._call_teardown_hook(trainer)
        trainer.state.status = TrainerStatus.FINISHED
        trainer.state.stage = None

    def abandon(self, error: BaseException) -> None:
        """End after an error as Lightning does: call ``on_exception``, tear down; save nothing."""
        if not self._open:
            return
        self._open = False
        trainer = self.trainer
        call._interrupt(trainer, error)
        trainer._teardown()
        trainer.state.stage = None
        launcher = trainer.strategy.launcher
        if isinstance(error, KeyboardInterrupt) and isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGTERM)  # the other ranks may wait for this one

    def _set_up(self, model: pl.LightningModule, data: pl.LightningDataModule) -> None:
        """Do all that ``Trainer.fit`` does before the first step."""
        trainer = self.trainer
        trainer.strategy._lightning_module = model
        trainer.state.fn = TrainerFn.FITTING
        trainer.state.status = TrainerStatus.RUNNING
        trainer.training = True
        trainer.is_stepped = True
        launcher = trainer.strategy.launcher
        try:
            if launcher is None:
                trainer._fit_impl(model, data)
            else:  # may start the other processes of this machine
                launcher.launch(trainer._fit_impl, model, data, trainer=trainer)
        except ReadyToStep:
            pass
        trainer.strategy.barrier("run-stage")
        model.zero_grad()
        with isolate_rng():
            trainer._run_sanity_check()
        self._start_loop()

    def _start_loop(self) -> None:
        """Do what the loop does before its first step."""
        loop = self.trainer.fit_loop
        loop.setup_data()
        # Lightning leaves these two out where no step remains. A run that was killed while it
        # exported then has no average to export: the callbacks restore their state in them.
        loop.reset()
        loop.on_run_start()

    def _run_epochs(self) -> Generator[int, None, None]:
        """Yield the global step after every batch, to the last epoch."""
        loop = self.trainer.fit_loop
        if loop.skip:
            return
        while not loop.done:
            try:
                loop.on_advance_start()
                yield from self._run_epoch()
                loop.on_advance_end()
                loop._restarting = False
            except StopIteration:
                break

    def _run_epoch(self) -> Iterator[int]:
        """Yield the global step after every batch, to the end of an epoch."""
        loop = self.trainer.fit_loop
        fetcher, epoch = loop._data_fetcher, loop.epoch_loop
        epoch.reset()
        epoch.on_run_start(fetcher)
        while not epoch.done:
            try:
                epoch.advance(fetcher)
                epoch.on_advance_end(fetcher)
                epoch._restarting = False
            except StopIteration:
                break
            yield self.trainer.global_step
        epoch._restarting = False

    @contextmanager
    def _training_mode(self) -> Iterator[None]:
        """Compute gradients in the block, whatever the caller does between two steps."""
        anomalies = torch.autograd.set_detect_anomaly(self.trainer._detect_anomaly)
        with torch.enable_grad(), anomalies:
            yield

    @contextmanager
    def _teardown_on_error(self) -> Iterator[None]:
        """Abandon the fit on any error in the block but a bad step, and raise the error."""
        try:
            yield
        except BadStep:
            raise
        except BaseException as error:
            self.abandon(error)
            raise
