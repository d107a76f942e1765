"""A training run that its caller advances: some steps, a look at the weights, some more steps.

::

    with TrainingSession.start(model, data, trainer, log) as session:
        while not session.is_done:
            session.advance(100)
            session.replace(average_with_others(session.weights()))
        folder = session.finish()

:func:`nemo_cosmos.training.run.train` is the plain use of it: all steps, then ``finish``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import lightning.pytorch as pl
from nemo import lightning as nl

from nemo_cosmos.batch import spec_of
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.errors import ConfigError, NemoCosmosError, NumericsError, Preempted
from nemo_cosmos.exits import note_work
from nemo_cosmos.models.common.family import WorldModel
from nemo_cosmos.models.common.megatron.parts import TensorPart
from nemo_cosmos.storage import EXPORT_FOLDER, atomic_path
from nemo_cosmos.storage.atomic import clean_up
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.callbacks.encoding import encoders_of
from nemo_cosmos.training.callbacks.hang_watch import HangWatch
from nemo_cosmos.training.callbacks.signals import StopOnSignal, StoppedError
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.storage import check_writable, clear_storage_errors
from nemo_cosmos.training.checkpointing.whole import is_described
from nemo_cosmos.training.checks import check_run, check_trainers_machine
from nemo_cosmos.training.given import (
    allowed_differences,
    check_parts,
    restore_exports_by_callback,
    run_digest,
    run_folder_of,
    start_weights,
    take_peft,
)
from nemo_cosmos.training.lifecycle import environment_of, fresh_globals
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.matching import check_belonging
from nemo_cosmos.training.resilience.rollback import Rollbacks
from nemo_cosmos.training.resilience.skipped import BadStep
from nemo_cosmos.training.run_folder import FINISHED_FILE, exported_files, list_checkpoints
from nemo_cosmos.training.stepping import SteppedFit
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.training.weights.current import read_weights, replace_weights
from nemo_cosmos.training.weights.export import check_exportable, export_model

logger = logging.getLogger(__name__)

DIVERGED = re.compile(r"found (NaN|Inf) in local grad norm")
"""What Megatron-Core says of gradients that are not finite."""


class TrainingSession:
    """One rank's part of a run. Every rank of the run makes the same calls in the same order.

    A process has one session at a time: Megatron-Core keeps its process groups in module globals.
    Leaving the ``with`` block closes the session.

    Attributes:
        folder: the run's folder.
        trainer: the trainer; its ``max_steps`` is the length of the whole run.
    """

    def __init__(
        self,
        model: pl.LightningModule,
        data: pl.LightningDataModule,
        trainer: WorldTrainer,
        folder: Path,
        digest: str,
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self._model = model
        self._data = data
        self._digest = digest
        self._fit: SteppedFit | None = None
        self._rollbacks = Rollbacks(folder, trainer, data)
        self._globals = ExitStack()

    @classmethod
    def start(
        cls,
        model: pl.LightningModule,
        data: pl.LightningDataModule,
        trainer: pl.Trainer,
        log: nl.NeMoLogger | None = None,
        resume: nl.AutoResume | None = None,
        optim: nl.OptimizerModule | None = None,
        peft: LoRA | None = None,
    ) -> Self:
        """Set a run up, up to its first step; restore its newest checkpoint if it has one.

        Args:
            model: a NeMo Lightning module, such as ``DiffusionModel``.
            data: its data module.
            trainer: a :class:`WorldTrainer`, used for this session alone.
            log: the run's folder and loggers; :class:`RunLogger` with its defaults where None.
            resume: where to start from; by default the run's newest checkpoint. Its
                ``restore_config`` names weights for a run without one.
            optim: replaces the model's optimiser.
            peft: what is trained instead of all weights.

        Raises:
            ConfigError: arguments that do not fit each other, or a folder that cannot be written.
            CheckpointError: the checkpoint to resume from is damaged or of another model.
            StorageFullError: the disk has no room for a checkpoint.
        """
        check_parts(model, data, trainer, log, resume, optim)
        assert isinstance(trainer, WorldTrainer)
        log = log if log is not None else RunLogger(name="run")
        resume = resume if resume is not None else RunResume()
        folder = run_folder_of(log)
        check_trainers_machine(trainer)
        if isinstance(data, LatentDataModule) and isinstance(model, WorldModel):
            data.fit_controls(model.describe().controls)
        check_run(model, data, trainer)
        check_writable(folder)
        check_exportable(model, data)
        spec = spec_of(data)
        described = (one for one, _ in reversed(list_checkpoints(folder)) if is_described(one))
        meant = check_belonging(
            model,
            spec.folders,
            start_weights(resume),
            allowed_differences(resume),
            text_length=spec.num_text_tokens,
            checkpoint=next(described, None),
            encoders=encoders_of(trainer),
        )
        trainer.allowed_mismatch = tuple(meant)
        take_peft(model, peft, start_weights(resume))
        digest = run_digest(model, data, optim, resume, peft)
        session = cls(model, data, trainer, folder, digest)
        session._globals.enter_context(fresh_globals())
        session._globals.enter_context(environment_of(trainer))
        session._rollbacks.leave_out()
        with session._explained():
            resume = restore_exports_by_callback(resume, trainer)
            log.setup(trainer, resume_if_exists=resume.resume_if_exists)
            if optim is not None:
                optim.connect(model)
            resume.setup(trainer, model)
            session._fit = SteppedFit(trainer, model, data)
        return session

    @property
    def step(self) -> int:
        """Optimiser steps that the run has made, those of earlier sessions included."""
        return int(self.trainer.global_step)

    @property
    def is_done(self) -> bool:
        """Whether the run has made all its steps."""
        return self.step >= self.trainer.max_steps

    def advance(self, num_steps: int) -> int:
        """Train for some steps, at most to the trainer's ``max_steps``.

        Checkpoints, validation and curves happen as they would without a pause: ``advance(k)`` and
        ``advance(n - k)`` compute the same as ``advance(n)``, bit for bit.

        Args:
            num_steps: optimiser steps.

        Returns:
            the step reached; lower than asked for only at the end of the run or of its data.

        Raises:
            StoppedError: a signal stopped the run after it saved.
            Preempted: the machines were asked for (SIGUSR1); the run saved and is to be continued.
            NumericsError: training diverged.
            StorageFullError: the disk is full.
            ConfigError: the data module yields no batch.
        """
        fit = self._running()
        target = min(self.step + num_steps, self.trainer.max_steps)
        with self._explained(), self._watched():
            while self.step < target and not self.trainer.should_stop:
                try:
                    if not fit.step():
                        break
                    note_work()
                except BadStep as bad:
                    self._roll_back(bad)
            if self.step < target and self._stop() is not None:
                fit.end()  # saves
        if self.step < target and self._stop() is not None:
            self.close()
            self._raise_stopped()
        if self.step == 0 < target:
            self.close()
            raise ConfigError(
                "Training made no step: the data module yields no batch. Check data.path, and that "
                "it has at least one global batch of samples."
            )
        return self.step

    def weights(self) -> Iterator[TensorPart]:
        """Copy this rank's parts of the present weights, one after the other.

        No rank gets the whole model. Floating-point values are float32, also in mixed precision.
        """
        self._running()
        return read_weights(self.trainer)

    def replace(self, weights: Iterable[TensorPart]) -> None:
        """Put values in place of this rank's weights, from which the next step starts.

        The optimiser's float32 weights are replaced, too; its moments, the learning rate and an
        average of the weights (EMA) continue.

        Args:
            weights: parts as :meth:`weights` yields them, with other values.

        Raises:
            CheckpointError: a part is not one of this rank's; nothing has been changed.
        """
        self._running()
        replace_weights(self.trainer, weights)
        # A checkpoint of this very step was written before, with the weights of then.
        self._rollbacks.not_before = self.step + 1

    def save(self) -> None:
        """End training and write the last checkpoint; ``start`` resumes from it."""
        with self._explained():
            self._running().end()

    def finish(self) -> Path:
        """End training here: save, export the model, and mark the run as finished.

        Returns:
            the run's folder; the trained model is in ``export/`` below it.

        Raises:
            ConfigError: the model cannot be exported.
        """
        try:
            self.save()
            with clear_storage_errors(self.folder):
                if self.trainer.is_global_zero:
                    _remove_leftovers(self.folder)
                export_model(self.folder / EXPORT_FOLDER, self._model, self.trainer, self._data)
                self._mark_finished()
        finally:
            self.close()
        return self.folder

    def close(self) -> None:
        """Give the process back; nothing more is saved. Safe to call twice."""
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.abandon(NemoCosmosError(f"The session of '{self.folder}' was closed."))
        self._globals.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> SteppedFit:
        if self._fit is None:
            raise NemoCosmosError(
                f"The session of '{self.folder}' is closed. Start another: it resumes from the "
                "newest checkpoint."
            )
        return self._fit

    def _roll_back(self, bad: BadStep) -> None:
        """Return to the newest checkpoint, to go on without the batch that spoilt the run.

        Raises:
            NumericsError: there is none, the data cannot do without it, or the run has returned
                to that checkpoint as often as it may.
        """
        step = bad.step if bad.step is not None else self.step + 1
        back = self._rollbacks.decide(bad, step)
        if not back.checkpoint:
            raise NumericsError(self._divergence(bad.reason, step, back.obstacle)) from bad
        self._rollbacks.leave_out()
        self._running().rewind(back.checkpoint, bad)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Look out for a hang in the block alone: the caller's own work may take any time."""
        watches = [one for one in self.trainer.callbacks if isinstance(one, HangWatch)]
        for watch in watches:
            watch.resume(self.trainer)
        try:
            yield
        finally:
            for watch in watches:
                watch.pause()

    def _stop(self) -> StopOnSignal | None:
        """The callback that has stopped the run on a signal."""
        stops = [one for one in self.trainer.callbacks if isinstance(one, StopOnSignal)]
        return next((stop for stop in stops if stop.received), None)

    def _raise_stopped(self) -> NoReturn:
        stop, saved = self._stop(), list_checkpoints(self.folder)
        place = f"step {saved[-1][1] if saved else 0} is saved in '{self.folder}'"
        if stop is not None and stop.is_preempted:
            raise Preempted(
                f"Training stopped because its machines were asked for; {place}. The queue starts "
                "it again; by hand, run the same command again to continue."
            )
        raise StoppedError(
            f"Training stopped on a signal; {place}. Run the same command again to resume."
        )

    def _mark_finished(self) -> None:
        """Write the marker that a later call looks for, after everything else is in place."""
        if not self.trainer.is_global_zero:
            return
        content = {
            "step": self.step,
            "fingerprint": self._digest,
            "export": EXPORT_FOLDER,
            "files": exported_files(self.folder),
        }
        with atomic_path(self.folder / FINISHED_FILE) as path:
            path.write_text(json.dumps(content, indent=2), encoding="utf-8")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Close on an error, and say in words what a full disk or divergence looks like."""
        try:
            with clear_storage_errors(self.folder):
                yield
        except RuntimeError as error:
            found = DIVERGED.search(str(error))
            if found is None:
                self.close()
                raise
            message = self._divergence(f"gradients are {found[1]}", self.step + 1)
            self.close()
            raise NumericsError(message) from error
        except BaseException:
            self.close()
            raise

    def _divergence(self, sign: str, step: int, obstacle: str = "") -> str:
        """The message of a run that diverged.

        Args:
            sign: what is not finite.
            step: the step in which.
            obstacle: why the run does not return to a checkpoint by itself, as a sentence.
        """
        rates = {group["lr"] for one in self.trainer.optimizers for group in one.param_groups}
        saved = list_checkpoints(self.folder)
        newest = f"'{saved[-1][0].name}'" if saved else "none; the run starts from its beginning"
        return (
            f"Training diverged in step {step}: {sign} at a learning rate of "
            f"{max(rates, default=0.0):.3g}. {obstacle}{' ' if obstacle else ''}"
            f"The newest checkpoint in '{self.folder}' is {newest}. "
            "metrics.jsonl shows where the loss began to rise. Lower optim.config.lr, lengthen "
            "optim.lr_scheduler.warmup_steps or lower optim.config.clip_grad, delete checkpoints "
            "of steps after the rise, and run the command again."
        )


def _remove_leftovers(folder: Path) -> None:
    """Delete what an export that was killed left in the run's folder."""
    for leftover in folder.glob(".tmp-*"):
        clean_up(leftover)
