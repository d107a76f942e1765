"""Networks that turn frames into features: the embedded one, or any of ``transformers``.

Shape suffixes: T frames, H height, W width, D features.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.perception import EMBEDDED
from nemo_cosmos.perception.efficientnet_lite import (
    IMAGE_SIZE,
    efficientnet_lite0_version,
    load_efficientnet_lite0,
    normalise_images,
)
from nemo_cosmos.platform import by_device, default_device, one_thread

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

#: Frames that a network sees at once, on a CPU and on a GPU.
FRAMES_PER_CALL = (8, 256)
#: The same of EfficientNet-lite0: its layers are wide for the work in them, so on a CPU more than
#: one frame leaves the cache between them and takes twice the core seconds, for the same bits.
EFFICIENTNET_FRAMES_PER_CALL = (1, 256)


class FrameEncoder(Protocol):
    """Turns frames into features."""

    @property
    def name(self) -> str:
        """The network's name, kept with every vector; those of two names are never compared."""
        ...

    @property
    def version(self) -> str:
        """The exact weights, such as the package and checksum that they come from."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the frames that it takes."""
        ...

    def encode(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB frames to features ``(T, D)``, not normalised."""
        ...


class EfficientNetEncoder:
    """EfficientNet-lite0 trained on ImageNet: 1280 features; a package carries the weights.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """

    name = EMBEDDED
    image_size = IMAGE_SIZE

    def __init__(self) -> None:
        self._device = default_device()
        self._network = load_efficientnet_lite0().to(self._device)
        self.version = efficientnet_lite0_version()

    def encode(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``(T, 1280)``."""
        return _in_parts(self._encode, frames_THWC, EFFICIENTNET_FRAMES_PER_CALL)

    def _encode(self, frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
        images = normalise_images(torch.from_numpy(frames_THWC).to(self._device))
        features: torch.Tensor = self._network(images)
        return features

    def classify(self, features_D: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of the 1000 ImageNet classes of one image, or mean logits of mean features."""
        with torch.inference_mode():
            logits = self._network.classifier(torch.from_numpy(features_D).to(self._device))
        return np.asarray(logits.cpu().numpy(), dtype=np.float32)


class TransformersEncoder:
    """A vision model of ``transformers`` in a folder: CLIP, SigLIP, DINOv2, ViT and the like.

    The features are the image embedding of a model that has one (CLIP), else its pooled output,
    else the mean over its patches. Only safetensors are read, and no code of the folder runs.

    Args:
        folder: a folder that ``save_pretrained`` wrote, with ``preprocessor_config.json``.

    Raises:
        ConfigError: there is no such folder, or no vision model in it.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        self._device = default_device()
        self._processor, self._network = _load_vision_model(folder)
        self._network.to(self._device).eval()
        self.image_size = _image_size(self._processor)
        self._folder = folder

    @functools.cached_property
    def version(self) -> str:
        """Checksum of the weights; taken when first asked for, because files are large."""
        return _folder_version(self._folder)

    def encode(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``(T, D)`` of the model."""
        return _in_parts(self._encode, frames_THWC, FRAMES_PER_CALL)

    def _encode(self, frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
        inputs = self._processor(images=list(frames_THWC), return_tensors="pt")
        output = self._network(pixel_values=inputs["pixel_values"].to(self._device))
        features: torch.Tensor | None = getattr(output, "image_embeds", None)
        if features is None:
            features = getattr(output, "pooler_output", None)
        if features is None:
            features = output.last_hidden_state.mean(dim=1)
        return features


def _in_parts(
    encode: Callable[[NDArray[np.uint8]], torch.Tensor],
    frames_THWC: NDArray[np.uint8],
    frames_per_call: tuple[int, int],
) -> NDArray[np.float32]:
    """Features of all frames, a batch at a time that suits the device.

    One thread computes them, so that the bits do not depend on the number of cores.
    """
    count = by_device(*frames_per_call)
    with torch.inference_mode(), one_thread():
        parts = [
            encode(frames_THWC[first : first + count]).float().cpu()
            for first in range(0, len(frames_THWC), count)
        ]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


@functools.lru_cache(maxsize=2)
def load_encoder(model: str) -> FrameEncoder:
    """The encoder of that name, loaded once in each process.

    Args:
        model: ``efficientnet-lite0``, or a folder with a vision model of ``transformers``.

    Raises:
        AssetError: the embedded weights are unavailable.
        ConfigError: there is no such folder, or no vision model in it.
    """
    return EfficientNetEncoder() if model == EMBEDDED else TransformersEncoder(Path(model))


def pool(features_TD: NDArray[np.float32], where: str) -> tuple[NDArray[np.float32], float]:
    """The mean of the frames' features, scaled to length one, and its length before.

    Args:
        features_TD: the features of each frame.
        where: what they are features of, for the message.

    Raises:
        NumericsError: a feature is NaN or infinite, or all are zero.
    """
    mean_D = features_TD.mean(axis=0, dtype=np.float32)
    norm = float(np.linalg.norm(mean_D))
    if not np.isfinite(norm) or norm == 0:
        raise NumericsError(
            f"The embedding of {where} is {'zero' if norm == 0 else 'not finite'}; expected finite "
            "features. The weights of the embedding model are damaged; fetch them again."
        )
    return mean_D / np.float32(norm), norm


def _load_vision_model(folder: Path) -> tuple[BaseImageProcessor, PreTrainedModel]:
    """Processor and network of a folder, without its text half where it has one."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        CLIPVisionModelWithProjection,
        SiglipVisionModel,
    )

    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"'{folder}' contains no vision model: it has no config.json. Name '{EMBEDDED}', or a "
            "folder that 'save_pretrained' of transformers wrote, such as that of "
            "openai/clip-vit-large-patch14."
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        kind = AutoConfig.from_pretrained(folder, **options).model_type
        two_towers = {
            "clip": CLIPVisionModelWithProjection,
            "clip_vision_model": CLIPVisionModelWithProjection,
            "siglip": SiglipVisionModel,
            "siglip_vision_model": SiglipVisionModel,
        }
        chosen = two_towers.get(kind, AutoModel)
        network = chosen.from_pretrained(folder, use_safetensors=True, **options)
        # The slow processor alone works without torchvision.
        processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(
            folder, use_fast=False, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The vision model in '{folder}' cannot be loaded: {error}. Expected config.json, "
            "preprocessor_config.json and model.safetensors of a model with images as its input."
        ) from error
    return processor, network


def _folder_version(folder: Path) -> str:
    """Checksum over the folder's safetensors files."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return f"{folder.resolve().name} sha256:{digest.hexdigest()[:12]}"


def _image_size(processor: BaseImageProcessor) -> tuple[int, int]:
    """The size to which the processor brings pictures, so that frames are decoded no larger."""
    for size in (getattr(processor, "crop_size", None), getattr(processor, "size", None)):
        if size and "height" in size:
            return int(size["height"]), int(size["width"])
        if size and "shortest_edge" in size:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    return IMAGE_SIZE
