"""Read the tensors of a TorchScript file without running the program in it.

The file is a zip archive with a pickle of the module tree and one member for each tensor's bytes.
``torch.jit.load`` would compile the program beside them; here a pickle reader that knows tensors
and attributes alone builds the tree, and nothing is called.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_cosmos.errors import AssetError

if TYPE_CHECKING:
    from torch import Tensor

_FLOAT32 = np.dtype("<f4")


def read_torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """All float32 parameters and buffers by the name of their place in the module tree.

    Args:
        path: what ``torch.jit.save`` wrote.

    Raises:
        AssetError: it is damaged, or contains anything but modules, numbers and float32 tensors.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(member) as handle:
                root = _ModuleReader(handle, archive, member.removesuffix("data.pkl")).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
        raise AssetError(
            f"'{path}' is no TorchScript file, or is damaged ({error}). Delete it; it is then "
            "fetched again."
        ) from error
    return {name: torch.from_numpy(array.copy()) for name, array in _arrays(root, "")}


class _Module:
    """Attributes of a module; its code is not read."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _arrays(module: _Module, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in vars(module).items():
        if isinstance(value, _Module):
            yield from _arrays(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value


def _tensor(
    storage_N: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> np.ndarray:
    """A tensor from its storage; one that is not stored row by row is refused."""
    wanted = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if strides != wanted:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} has strides {strides}")
    return storage_N[offset : offset + math.prod(shape)].reshape(shape)


_ALLOWED_GLOBALS: dict[tuple[str, str], object] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.jit._pickle", "build_intlist"): list,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "FloatStorage"): _FLOAT32,
}


class _ModuleReader(pickle.Unpickler):
    """Builds modules as bare attributes, and tensors from the archive; refuses every other name."""

    def __init__(self, handle: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(handle)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> object:
        """The object of a global name in the pickle, if it is a module or part of a tensor."""
        if module.split(".", 1)[0] == "__torch__":
            return _Module
        if (module, name) not in _ALLOWED_GLOBALS:
            raise AssetError(
                f"The TorchScript file asks for '{module}.{name}', which is neither a module nor "
                "part of a float32 tensor. It was not opened further; fetch the pinned package "
                "again."
            )
        return _ALLOWED_GLOBALS[module, name]

    def persistent_load(self, pid: tuple[str, np.dtype, str, str, int]) -> np.ndarray:
        """The bytes of a tensor: ("storage", type, member, device, length)."""
        _, dtype, member, _, length = pid
        return np.frombuffer(self._archive.read(f"{self._folder}data/{member}"), dtype, length)
