"""Sample videos during training: what the model makes of a prompt, every so many steps."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from nemo.lightning.io.mixin import IOMixin
from PIL import Image

from nemo_cosmos.training.callbacks.sampling import SamplingCallback
from nemo_cosmos.training.callbacks.world_sampler import Sampler, WorldSampler, set_for_sampling
from nemo_cosmos.training.run_folder import SAMPLES_FOLDER, current_run
from nemo_cosmos.video import Video, encode_video

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class SampleVideos(SamplingCallback, IOMixin):
    """Call a function every N steps and keep the videos it returns.

    The function runs on every rank, since several may hold one network, with the EMA weights, where
    training has an :class:`EMA`, and without gradients. The first rank keeps the videos. Training
    continues as if nothing had been sampled. What cannot be sampled is a warning, not the end of
    the run.

    The videos are ``<run>/samples/step=000100/<name>.mp4``, and the same in TensorBoard. The hooks
    are those of :class:`SamplingCallback`.

    Args:
        sampler: gets the Lightning module in evaluation mode, returns videos by name; by default a
            :class:`WorldSampler`.
        every_n_steps: how often; also after the last step. 0 turns sampling off.
    """

    samples_last_step = True
    without = "Training makes no sample videos"

    def __init__(self, sampler: Sampler | None = None, every_n_steps: int = 500) -> None:
        super().__init__(every_n_steps)
        self.sampler = sampler if sampler is not None else WorldSampler()

    def sample(self, trainer: pl.Trainer, model: pl.LightningModule) -> dict[str, Video]:
        """Call the function."""
        with set_for_sampling(trainer, model):
            return self.sampler(model)

    def keep(self, trainer: pl.Trainer, model: pl.LightningModule, sampled: Any) -> None:
        """Write the videos on the first rank."""
        for name, video in sampled.items():
            if trainer.is_global_zero:
                _keep(trainer, name, video, trainer.global_step)


def _keep(trainer: pl.Trainer, name: str, video: Video, step: int) -> None:
    """Write a video into the run's folder and to TensorBoard."""
    path = current_run() / SAMPLES_FOLDER / f"step={step:06d}" / f"{name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_video(path, video)
    for run_logger in trainer.loggers:
        if isinstance(run_logger, TensorBoardLogger):
            _add_animation(run_logger.experiment, f"samples/{name}", video, step)


def _add_animation(writer: SummaryWriter, tag: str, video: Video, step: int) -> None:
    """Show a video among TensorBoard's images; ``add_video`` needs a package for the same GIF."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # seconds, and not every run logs

    frames = [Image.fromarray(frame_HWC) for frame_HWC in video.frames_THWC]
    content = io.BytesIO()
    duration_ms = round(1000 / video.fps)
    frames[0].save(
        content, "GIF", save_all=True, append_images=frames[1:], duration=duration_ms, loop=0
    )
    image = Summary.Image(
        height=video.frames_THWC.shape[1],
        width=video.frames_THWC.shape[2],
        colorspace=3,
        encoded_image_string=content.getvalue(),
    )
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)
