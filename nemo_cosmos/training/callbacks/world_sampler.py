"""Videos that a world model makes while it trains, beside those that it should have made.

Shape suffixes: B batch, C channels, T frames, H height, W width, L text tokens, D text channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import numpy as np
import torch

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import ModelDescription, WorldModel, get_family
from nemo_cosmos.models.common.generator import Shot, from_first_rank
from nemo_cosmos.models.common.latents import decode_views
from nemo_cosmos.models.common.megatron.module import bare_network
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import default_device, on_first_process
from nemo_cosmos.training.callbacks.ema import averaged_weights
from nemo_cosmos.training.weights.export import find_tokenizer
from nemo_cosmos.video import Video, tensor_to_frames

Sampler = Callable[[pl.LightningModule], dict[str, Video]]
"""Makes videos by name of a Lightning module in evaluation mode; every rank calls it."""

BATCH_KEYS = frozenset(
    {"key", "latent", "codes", "fps", "num_frames", "image_size", "padding_mask"}
)


@runtime_checkable
class ExampleData(Protocol):
    """A data module that shows some of its samples."""

    def examples(self, num_samples: int) -> list[dict[str, object]]:
        """Return the first videos as they are batched, without the batch dimension."""
        ...


@contextmanager
def set_for_sampling(trainer: pl.Trainer, model: pl.LightningModule) -> Iterator[None]:
    """Evaluate with the averaged weights, where there are any; training continues unchanged.

    Args:
        trainer: the trainer.
        model: the model in training.
    """
    # Sampling draws noise; training must continue as if it had not.
    with torch.random.fork_rng(), torch.no_grad():
        model.eval()
        try:
            with averaged_weights(trainer):
                yield
        finally:
            model.train()


class WorldSampler:
    """Samples what the training data describe, through the generator of the model's family.

    A sample takes the text embedding, the size, the controls and, where the model continues video,
    the first frames of a video in the data: no text encoder is loaded. The left half of each
    video is the data's, the right half the model's.

    Args:
        num_videos: number of videos; the first of the validation data, or of the training data.
        seed: seed of their noise, the same at every step, so that progress shows.
        options: the family's own choices by name, such as ``{"steps": 10}``; its defaults where
            None.
    """

    def __init__(
        self, num_videos: int = 1, seed: int = 1, options: Mapping[str, Any] | None = None
    ) -> None:
        self.num_videos = num_videos
        self.seed = seed
        self.options = dict(options or {})

    def __call__(self, model: pl.LightningModule) -> dict[str, Video]:
        """Make the videos.

        Raises:
            ConfigError: the model is no world model, or its data show no videos.
            InputError, CheckpointError: the data's tokenizer cannot be loaded.
            NumericsError: a video is NaN or infinite.
        """
        maker = ExampleMaker(model, self.seed, self.options)
        return {
            _file_name(number, example): _side_by_side(maker, example)
            for number, example in enumerate(maker.examples(self.num_videos))
        }


class ExampleMaker:
    """Makes the videos of examples in the training data with the network as it is now.

    Args:
        model: the model in training.
        seed: seed of the noise.
        options: the family's own choices by name.

    Raises:
        ConfigError: the model is no world model, or its data show no videos.
        InputError, CheckpointError: the data's tokenizer cannot be loaded.
    """

    def __init__(self, model: pl.LightningModule, seed: int, options: Mapping[str, Any]) -> None:
        data, network = model.trainer.datamodule, bare_network(model)
        if not isinstance(model, WorldModel) or not isinstance(data, ExampleData):
            raise ConfigError(
                f"{type(model).__name__} with {type(data).__name__} cannot make sample videos: a "
                "model needs a method 'describe()', its data a method 'examples(num_samples)'."
            )
        self.described: ModelDescription = model.describe()
        self._seed, self._options, self._data = seed, options, data
        self._tokenizer = VideoTokenizer.from_folder(find_tokenizer(model, data)).to(
            default_device()
        )
        self._generator = get_family(self.described.family).make_generator(
            network, self.described.settings, self._tokenizer
        )

    def examples(self, num_examples: int) -> list[dict[str, Any]]:
        """Return the first videos of the validation data, or of the training data."""
        # Data-parallel ranks read different shares of the data, but one network may be spread over
        # all of them: they sample the same.
        return on_first_process(lambda: self._data.examples(num_examples))

    def truth(self, example: Mapping[str, Any]) -> np.ndarray:
        """The example's own video as its tokenizer shows it, uint8 ``(T,H,W,3)``.

        What several cameras see stands side by side.
        """
        return _abreast(self._decoded(example), views_of(example))

    def video(
        self, example: Mapping[str, Any], controls: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """What the model makes of an example, uint8 ``(T,H,W,3)``; see :meth:`truth`.

        Args:
            example: the example, which gives text, size and the first frames.
            controls: arrays by batch key; by default the example's own.

        Raises:
            NumericsError: the video is NaN or infinite.
        """
        truth_BCTHW = self._decoded(example)
        views = views_of(example)
        by_view = truth_BCTHW.chunk(len(views), dim=2)
        num_frames, height, width = by_view[0].shape[2:]
        legal = self._generator.legal_given(num_frames)
        text_BLD = example["t5_text_embeddings"][None]
        given = tuple(view[:, :, : legal[0]] if legal else None for view in by_view)
        made_BCTHW = self._generator.generate(
            Shot(
                text_BLD=text_BLD,
                negative_text_BLD=torch.zeros_like(text_BLD),
                num_frames=num_frames,
                height=height,
                width=width,
                fps=float(example["fps"]),
                seed=self._seed,
                options=self._generator.options_class(**self._options),
                given_BCTHW=given[0] if len(views) == 1 else None,
                views=views,
                given_by_view=() if len(views) == 1 else given,
                controls=dict(controls_of(example) if controls is None else controls),
            )
        )
        return _abreast(made_BCTHW, views)

    def _decoded(self, example: Mapping[str, Any]) -> torch.Tensor:
        latents = content_of(example)[None].to(default_device())
        num_views = len(views_of(example))
        return from_first_rank(lambda: decode_views(self._tokenizer, latents, num_views))


def content_of(example: Mapping[str, Any]) -> torch.Tensor:
    """The example's latent (C,T,H,W), or the codes (T,H,W) of a discrete tokenizer."""
    content: torch.Tensor = example["codes"] if "codes" in example else example["latent"]
    return content


def views_of(example: Mapping[str, Any]) -> Views:
    """The names of the example's cameras."""
    return tuple(example.get("views") or DEFAULT_VIEWS)


def _abreast(video_BCTHW: torch.Tensor, views: Views) -> np.ndarray:
    """The first video as uint8 frames, its views from left to right."""
    by_view = video_BCTHW[0].chunk(len(views), dim=1)
    return tensor_to_frames(torch.cat(by_view, dim=3))


def _side_by_side(maker: ExampleMaker, example: Mapping[str, Any]) -> Video:
    """The example and what the model makes of it; below it, where there are several views."""
    axis = 2 if len(views_of(example)) == 1 else 1
    pair_THWC = np.concatenate([maker.truth(example), maker.video(example)], axis=axis)
    return Video(pair_THWC, fps=float(example["fps"]))


def _file_name(number: int, example: Mapping[str, object]) -> str:
    """A number and the sample's key, without its place in the order."""
    key = str(example["key"]).rpartition("@")[0] or str(example["key"])
    return f"{number}_{key}".replace("/", "_")


def controls_of(example: Mapping[str, object]) -> dict[str, np.ndarray]:
    """The arrays of controls in an example: whatever is neither latent nor text nor their size."""
    return {
        name: value.numpy()
        for name, value in example.items()
        if isinstance(value, torch.Tensor)
        and name not in BATCH_KEYS
        and not name.startswith("t5_text")
    }
