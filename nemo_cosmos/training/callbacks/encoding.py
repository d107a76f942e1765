"""Codes that a training step makes of pixels, in place of those that ``tokenize`` keeps.

Keeping codes is cheaper: each clip is encoded once. Making them costs a pass of the tokenizer in
every step, and gives another window of every clip, also changed ones (``data.augment``).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import lightning.pytorch as pl

from nemo_cosmos.data.modules import VideoDataModule
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import WorldInfo
from nemo_cosmos.models.common.latents import LatentCodec
from nemo_cosmos.models.common.text import (
    REFERENCE_MAX_LENGTH,
    load_text_encoder,
    text_encoder_spec,
)
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import default_device


@runtime_checkable
class TrainsOnPixels(Protocol):
    """A model that takes pixels where it is given a tokenizer.

    Attributes:
        world: tokenizer, text encoder and video size for the export.
    """

    world: WorldInfo | None

    def encode_with(self, tokenizer: LatentCodec) -> None:
        """Make latents or codes with a tokenizer from now on.

        Raises:
            ConfigError: it is of another kind than the model needs.
        """
        ...


def encoders_of(trainer: pl.Trainer) -> list[str]:
    """Folders of the tokenizers that a trainer's callbacks encode with."""
    callbacks = [one for one in trainer.callbacks if isinstance(one, EncodeVideo)]
    return [callback.tokenizer for callback in callbacks if callback.tokenizer]


class EncodeVideo(pl.Callback):
    """Gives the model the tokenizer that makes its codes of the clips of a ``VideoDataModule``.

    The tokenizer stays as it is and is exported with the model. Where ranks share a video, each
    encodes it.

    Args:
        tokenizer: folder of the tokenizer, or of the run that trained it.
    """

    def __init__(self, tokenizer: str) -> None:
        self.tokenizer = tokenizer

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Load the tokenizer before anything is built.

        Raises:
            ConfigError: the model does not train on pixels, or the data hold none; or the model
                needs another kind of tokenizer.
            InputError, CheckpointError: the tokenizer cannot be loaded, or does not take clips of
                this length and size.
        """
        data = trainer.datamodule
        if not isinstance(pl_module, TrainsOnPixels) or not isinstance(data, VideoDataModule):
            raise ConfigError(
                f"{type(pl_module).__name__} with {type(data).__name__} makes no codes of pixels. "
                "Train an autoregressive model on a VideoDataModule (recipe ar_nano_video), or "
                "leave EncodeVideo out."
            )
        if not self.tokenizer:
            raise ConfigError(
                "No tokenizer is named, which makes codes of the clips. Set "
                "trainer.callbacks.EncodeVideo.tokenizer=FOLDER, a discrete tokenizer."
            )
        tokenizer = VideoTokenizer.from_folder(self.tokenizer).to(default_device())
        for num_frames in data.lengths:
            for height, width in data.sizes:
                tokenizer.config.check_video((1, 3, num_frames, height, width))
        pl_module.encode_with(tokenizer)
        if pl_module.world is None:
            pl_module.world = self._world(data, tokenizer)

    def _world(self, data: VideoDataModule, tokenizer: VideoTokenizer) -> WorldInfo:
        height, width = data.sizes[0]
        (example,) = data.examples(1)
        # Pixels come without captions; a prompt is for the guards alone.
        text = load_text_encoder(text_encoder_spec("embedded", REFERENCE_MAX_LENGTH))
        return WorldInfo(
            tokenizer=self.tokenizer,
            text_encoder=text.spec(),
            video={
                "num_frames": max(data.lengths),
                "fps": float(example["fps"]),
                "height": height,
                "width": width,
            },
            made_with={
                name: value for name, value in tokenizer.describe().items() if value is not None
            },
        )
