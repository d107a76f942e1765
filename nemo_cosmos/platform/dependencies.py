"""Optional packages: whether they are installed, and a clear error when they are not."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from nemo_cosmos.errors import MissingDependencyError

# import name -> (its purpose, how to install it)
_OPTIONAL: dict[str, tuple[str, str]] = {
    "transformer_engine": (
        "FP8 and fused layers on NVIDIA GPUs",
        "pip install --no-build-isolation 'nemo-cosmos[gpu]', after torch, on a machine with CUDA "
        "and its compiler (the package does not work without); the image of our Dockerfile has it",
    ),
    "nvidia.dali": ("GPU video decoding", "pip install 'nemo-cosmos[gpu]'"),
    "apex": (
        "fused optimisers without Transformer Engine",
        "build NVIDIA's Apex from https://github.com/NVIDIA/apex (the package of that name on the "
        "index is another project)",
    ),
    "flash_attn": ("flash attention kernels", "pip install flash-attn on a machine with CUDA"),
    "ray": ("distributed curation", "pip install 'nemo-cosmos[curation]'"),
    "scenedetect": (
        "the PySceneDetect detector of shots",
        "pip install --no-deps scenedetect==0.7.2 (with its dependencies it would bring a second "
        "OpenCV, and two clash)",
    ),
    "pyarrow": ("reading Parquet tables", "pip install 'nemo-cosmos[curation]'"),
    "pymongo": ("a catalogue in MongoDB", "pip install 'nemo-cosmos[mongo]'"),
    "pycolmap": ("finding a camera's path in a video", "pip install 'nemo-cosmos[eval]'"),
    "mujoco": ("the robot simulator", "pip install 'nemo-cosmos[sim]'"),
    "wandb": ("logging to Weights & Biases", "pip install wandb"),
}


def has(module: str) -> bool:
    """Whether ``module`` is installed; does not import it.

    Args:
        module: an import name such as ``"transformer_engine"`` or ``"nvidia.dali"``.
    """
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package of a dotted name is absent
        return False


def require(module: str, purpose: str | None = None) -> ModuleType:
    """Import an optional package.

    Args:
        module: its import name.
        purpose: the purpose that the message names.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: it is not installed; the message names the command that installs it.
    """
    if not has(module):
        use, remedy = _OPTIONAL.get(module, ("this feature", f"pip install {module}"))
        raise MissingDependencyError(
            f"The package '{module}' is not installed, but {purpose or use} needs it. "
            f"Install it with: {remedy}."
        )
    return importlib.import_module(module)
