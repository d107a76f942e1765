"""The heads of a world in a file of their own, beside its weights.

``heads.safetensors`` holds the heads and how often their guesses were right. Heads read what the
network's last layer gives: those of another network would guess at random, without a word. So the
file names the weights that they were trained on by their hash, and others are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nemo_cosmos.errors import CheckpointError, MissingFileError, NumericsError
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.options import MOST_HEADS
from nemo_cosmos.provenance.hashes import files_sha256
from nemo_cosmos.storage import atomic_path

HEADS_FILE = "heads.safetensors"
_FORMAT = "nemo_cosmos.heads"
_VERSION = "1"
_WEIGHTS = "model*.safetensors"
_NAMES = {"weight_KEE", "bias_KE", "acceptance_KR"}


@dataclass(frozen=True)
class SavedHeads:
    """Heads, and how good they are.

    Attributes:
        heads: the heads.
        acceptance: how often each guess was right, by head and rank, the frame before being first.
    """

    heads: Heads
    acceptance: list[list[float]]


def save_heads(folder: str | PathLike[str], saved: SavedHeads) -> Path:
    """Write the heads of a world into its folder, whole or not at all; returns the file.

    Args:
        folder: the world's folder, with the weights that they were trained on.
        saved: the heads.

    Raises:
        NumericsError: a weight is NaN or infinite.
        MissingFileError: the folder has no weights.
    """
    file = Path(folder) / HEADS_FILE
    state = {
        name: value.detach().cpu().contiguous() for name, value in saved.heads.named_parameters()
    }
    state["acceptance_KR"] = torch.tensor(saved.acceptance, dtype=torch.float32)
    _check_finite(state, f"the heads for '{file}'")
    metadata = {"format": _FORMAT, "version": _VERSION, "weights_sha256": _weights_of(file.parent)}
    with atomic_path(file) as temporary:
        save_file(state, temporary, metadata)
    return file


def load_heads(
    folder: str | PathLike[str], width: int, *, dtype: torch.dtype, device: torch.device
) -> SavedHeads:
    """Read the heads of a world, strictly.

    Args:
        folder: the world's folder.
        width: width of its network.
        dtype: precision to compute in.
        device: where to put them.

    Raises:
        MissingFileError: the world has no heads.
        CheckpointError: they are damaged, or another model's.
        NumericsError: a weight is NaN or infinite.
    """
    file = Path(folder) / HEADS_FILE
    if not file.is_file():
        raise MissingFileError(
            f"There is no '{file}': this world has no heads that guess ahead. Train them with "
            "'nemo-cosmos heads', or decode with --decoding jacobi, which needs none."
        )
    try:
        with safe_open(str(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"'{file}' is damaged: {error}. Copy it again.") from error
    if (metadata.get("format"), metadata.get("version")) != (_FORMAT, _VERSION):
        raise CheckpointError(
            f"'{file}' has the format '{metadata.get('format')}' and version "
            f"'{metadata.get('version')}', not '{_FORMAT}' and '{_VERSION}'. Train the heads again."
        )
    _check_shapes(state, width, file)
    _check_finite(state, f"'{file}'")
    if metadata.get("weights_sha256") != _weights_of(file.parent):
        raise CheckpointError(
            f"'{file}' was trained on other weights than those beside it, and would guess at "
            "random. Put the heads of this model there, or train them with 'nemo-cosmos heads'."
        )
    acceptance: list[list[float]] = state.pop("acceptance_KR").tolist()
    heads = Heads(len(state["weight_KEE"]), width, dtype=dtype)
    heads.load_state_dict(state)
    return SavedHeads(heads.to(device).eval().requires_grad_(False), acceptance)


def _check_shapes(state: dict[str, torch.Tensor], width: int, file: Path) -> None:
    found = {name: tuple(value.shape) for name, value in state.items()}
    num = (*found.get("weight_KEE", ()), 0)[0]
    ranks = (*found.get("acceptance_KR", ()), 0, 0)[1]
    wanted = {"weight_KEE": (num, width, width), "bias_KE": (num, width)}
    wanted["acceptance_KR"] = (num, ranks)
    if found.keys() != _NAMES or found != wanted or not 1 <= num <= MOST_HEADS or not ranks:
        raise CheckpointError(
            f"'{file}' holds tensors {found}, but a model of width {width} has heads "
            f"{{'weight_KEE': (1 to {MOST_HEADS}, {width}, {width}), ...}}. They are another "
            "model's: put the heads of this model there, or train them again."
        )


def _check_finite(state: dict[str, torch.Tensor], place: str) -> None:
    for name, value in state.items():
        if not value.isfinite().all():
            raise NumericsError(
                f"'{name}' of {place} holds NaN or infinity. Train with a smaller learning rate."
            )


def _weights_of(folder: Path) -> str:
    files = sorted(folder.glob(_WEIGHTS))
    if not files:
        raise MissingFileError(
            f"'{folder}' is no world folder: it has no {_WEIGHTS}. Name the folder of a model."
        )
    return files_sha256(files)
