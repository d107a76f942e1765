"""Read weights that come as PyTorch pickles, without running what is inside."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import GuardrailError

_COUNTER = "num_batches_tracked"


def read_state(path: Path, what: str) -> dict[str, Any]:
    """Read a dictionary of tensors from safetensors or from a ``.pt``/``.pth`` of tensors alone.

    The names may stand below one key (``model``, ``state_dict``) and may begin with ``module.``,
    as wrappers for several devices write them.

    Args:
        path: the file.
        what: the model it should hold, for the message.

    Raises:
        GuardrailError: it is missing, damaged, holds code, or holds no tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # of pickles that are not torch's
                state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise _unreadable(path, what, f"{type(error).__name__}: {error}") from error
    except pickle.UnpicklingError as error:
        reason = "it is no PyTorch file, or holds more than tensors, which could run code"
        raise _unreadable(path, what, reason) from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise _unreadable(path, what, "it holds no dictionary of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_exactly(net: Any, state: dict[str, Any], path: Path, what: str) -> None:
    """Load weights into a network whose names and shapes they must match, all finite.

    Raises:
        GuardrailError: they do not.
    """
    import torch

    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    # Old checkpoints lack the counters of batch normalisation, which nothing here reads.
    wanted = {n: s for n, s in wanted.items() if n in given or not n.endswith(_COUNTER)}
    if wanted != given:
        odd = sorted({*wanted.items()} ^ {*given.items()})
        raise _unreadable(path, what, f"{len(odd)} names or shapes differ, first {odd[0]}")
    bad = [n for n, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise _unreadable(path, what, f"'{bad[0]}' holds NaN or infinite values")
    net.load_state_dict(state, strict=False)


def _unreadable(path: Path, what: str, reason: str) -> GuardrailError:
    return GuardrailError(
        f"'{path}' does not hold the weights of {what}: {reason}. Fetch the file again from where "
        "the model is published."
    )
