"""What a world-model folder records, and how training writes one.

::

    my_world/
      config.json          format, preset, network, process, text encoder, control, video
      model.safetensors    weights of the network and its control (the average, if EMA was on)
      tokenizer/           a tokenizer folder, copied, so that the world is complete

``nemo_cosmos.checkpoint.world.folder`` reads it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, Self

from safetensors.torch import save_file
from torch import Tensor, nn

from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError, NumericsError
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.storage import atomic_path, resolve_from_folder

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"
DATASET_FILE = "dataset.json"
FORMAT = "nemo_cosmos.diffusion"
VERSION = 1


class Savable(Protocol):
    """Anything that writes itself into a folder, as ``VideoTokenizer`` does."""

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the folder."""
        ...


@dataclass(frozen=True)
class WorldInfo:
    """What a world model takes over from the data that it is trained on.

    Attributes:
        tokenizer: folder of the tokenizer that made the latents.
        text_encoder: kind, path, max_length and dim of the encoder that made the embeddings.
        video: num_frames, fps, height and width of the clips, in pixels.
    """

    tokenizer: str
    text_encoder: Mapping[str, Any]
    video: Mapping[str, Any]

    @classmethod
    def from_dataset(cls, folder: str | PathLike[str], fps: float) -> Self:
        """Read it from the ``dataset.json`` that ``nemo-cosmos tokenize`` writes.

        Args:
            folder: tokenised data.
            fps: frame rate of the clips.

        Raises:
            ConfigError: the file is not there or does not say it.
        """
        file = Path(folder) / DATASET_FILE
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            height, width = data["window"]["size"]
            return cls(
                tokenizer=resolve_from_folder(data["tokenizer"], folder),
                text_encoder=dict(data["text_encoder"]),
                video={
                    "num_frames": int(data["window"]["window_frames"]),
                    "fps": fps,
                    "height": int(height),
                    "width": int(width),
                },
            )
        except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"'{file}' does not say which tokenizer, text encoder and window the latents are "
                f"of ({type(error).__name__}: {error}), so the trained model cannot be exported. "
                "Tokenize the data again, or give the model world=WorldInfo(...)."
            ) from error


@dataclass(frozen=True)
class WorldConfig:
    """What ``config.json`` records: all that generation needs to know besides the weights.

    Attributes:
        network: architecture, as :meth:`DiTConfig.architecture` gives it.
        process: of the diffusion process.
        text_encoder: what ``load_text_encoder`` takes: kind, path, max_length, dim.
        video: what the model was trained on: num_frames, fps, height, width.
        preset: name of the preset that it was made from, for provenance.
        control: name of the registered control; None without one.
        control_options: what the control is built with.
    """

    network: Mapping[str, Any]
    process: DiffusionConfig
    text_encoder: Mapping[str, Any]
    video: Mapping[str, Any]
    preset: str | None = None
    control: str | None = None
    control_options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "preset": self.preset,
            "network": dict(self.network),
            "process": self.process.to_dict(),
            "text_encoder": dict(self.text_encoder),
            "control": self.control,
            "control_options": dict(self.control_options),
            "video": dict(self.video),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from the content of ``config.json``.

        Raises:
            CheckpointError: it is of another format or version, or lacks an entry.
        """
        found = (data.get("format"), data.get("version"))
        if found != (FORMAT, VERSION):
            raise CheckpointError(
                f"The configuration is of format '{found[0]}' version {found[1]}; expected "
                f"'{FORMAT}' version {VERSION}. It is not a diffusion world model of this release."
            )
        missing = [
            name for name in ("network", "process", "text_encoder", "video") if name not in data
        ]
        if missing:
            raise CheckpointError(
                f"The configuration lacks {', '.join(missing)}. The folder is incomplete; export "
                "or copy it again."
            )
        return cls(
            network=data["network"],
            process=DiffusionConfig.from_dict(data["process"]),
            text_encoder=data["text_encoder"],
            video=data["video"],
            preset=data.get("preset"),
            control=data.get("control"),
            control_options=data.get("control_options") or {},
        )


def save_world(
    path: str | PathLike[str],
    net: nn.Module | Mapping[str, Tensor],
    config: WorldConfig,
    tokenizer: Savable | str | PathLike[str],
) -> None:
    """Write a world-model folder, whole or not at all.

    Args:
        path: the folder; what is there is replaced.
        net: the network, with its control if it has one; or its tensors by name.
        config: what the network is made of.
        tokenizer: the tokenizer, or the folder of one, which is copied.

    Raises:
        NumericsError: a weight is NaN or infinite.
        MissingFileError: there is no tokenizer folder.
        StorageFullError: no space left; what was at ``path`` is intact.
    """
    tensors = named_tensors(net) if isinstance(net, nn.Module) else net
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    check_finite(state.items(), f"the weights for '{path}'")
    with atomic_path(path) as temporary:
        temporary.mkdir()
        text = json.dumps(config.to_dict(), indent=2) + "\n"
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")
        save_file(state, temporary / WEIGHTS_FILE)
        if isinstance(tokenizer, str | PathLike):
            shutil.copytree(_tokenizer_folder(tokenizer), temporary / TOKENIZER_FOLDER)
        else:
            tokenizer.save(temporary / TOKENIZER_FOLDER)


def named_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, without the bookkeeping of other libraries."""
    return {
        name: value
        for name, value in net.state_dict().items()
        if isinstance(value, Tensor) and not name.endswith("_extra_state")
    }


def check_finite(tensors: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        NumericsError: names the first tensor that holds them.
    """
    for name, value in tensors:
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NumericsError(
                f"NaN or infinity in '{name}' of {where}. The training diverged or the file is "
                "damaged; go back to an earlier checkpoint, with a lower learning rate if needed."
            )


def _tokenizer_folder(path: str | PathLike[str]) -> Path:
    folder = Path(path)
    if not (folder / CONFIG_FILE).is_file():
        raise MissingFileError(
            f"'{folder}' is not a tokenizer folder: it has no {CONFIG_FILE}. The latents were made "
            "with it, and the world model needs it to decode; put it back, or give the model "
            "world=WorldInfo(...) with its new place."
        )
    return folder
