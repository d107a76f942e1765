"""Sample videos during training: what the model makes of a prompt, every so many steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.run_folder import current_run

# The function gets the Lightning module in evaluation mode and returns name -> uint8 (T, H, W, 3).
Sampler = Callable[[Any], dict[str, np.ndarray]]


class SampleVideos(pl.Callback, IOMixin):
    """Call a function every N steps and keep the videos it returns.

    The function is injected, so that training does not know inference. It runs on every rank, since
    several may hold one network (``models.diffusion.parallel_sampling`` samples on all of them),
    with the EMA weights, where training has an :class:`EMA`, and without gradients. The first rank
    keeps the videos.

    Hooks:

    - ``on_fit_start``: refuse virtual pipeline stages, between which a network cannot sample.
    - ``on_train_batch_end``: sample; write ``<run>/samples/step=000100/<name>.mp4`` and the same to
      TensorBoard.

    Args:
        sampler: gets the Lightning module, returns videos by name, uint8 (T, H, W, 3).
        every_n_steps: how often.
        fps: frame rate of the mp4 files, Hz.
    """

    def __init__(self, sampler: Sampler, every_n_steps: int = 500, fps: float = 8.0) -> None:
        self.sampler = sampler
        self.every_n_steps = every_n_steps
        self.fps = fps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a pipeline with virtual stages.

        Raises:
            ConfigError: there is one.
        """
        stages = getattr(trainer.strategy, "virtual_pipeline_model_parallel_size", None)
        if stages is not None:
            raise ConfigError(
                f"Sample videos cannot be made with {stages} virtual stages of a pipeline. Take "
                "SampleVideos out, or set "
                "trainer.strategy.virtual_pipeline_model_parallel_size=null."
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Sample at multiples of ``every_n_steps`` and at the last step."""
        step = trainer.global_step
        if step % self.every_n_steps and step != trainer.max_steps:
            return
        for name, frames_THWC in self._sample(trainer, pl_module).items():
            if trainer.is_global_zero:
                self._keep(trainer, name, frames_THWC, step)

    def _sample(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, np.ndarray]:
        import torch

        ema = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)
        # Sampling draws noise; training must go on as if it had not.
        with torch.random.fork_rng(), torch.no_grad():
            pl_module.eval()
            try:
                if ema is None:
                    return self.sampler(pl_module)
                with ema.applied():
                    return self.sampler(pl_module)
            finally:
                pl_module.train()

    def _keep(self, trainer: pl.Trainer, name: str, frames_THWC: np.ndarray, step: int) -> None:
        import torch

        from nemo_cosmos.video import Video, encode_video

        path = current_run() / "samples" / f"step={step:06d}" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_video(path, Video(frames_THWC, fps=self.fps))
        video_BTCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)[None]
        for logger in trainer.loggers:
            if hasattr(logger.experiment, "add_video"):
                logger.experiment.add_video(f"samples/{name}", video_BTCHW, step, fps=self.fps)
