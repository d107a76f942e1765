"""What is found on a machine, before anything is said of it.

Reading never fails: what is broken is a fact as well. :mod:`.findings` judges the facts, so that a
test can hand it those of a machine that it does not have.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nemo_cosmos.platform.dependencies import has

IMAGE_PYTHON = Path("/opt/venv/bin/python")
"""The interpreter of NVIDIA's NeMo images that has Megatron-Core; their 'python3' has not."""

PROBED = {
    "transformer-engine": "transformer_engine.pytorch",
    "nvidia-dali": "nvidia.dali",
    "flash-attn": "flash_attn",
}
"""Optional packages of a GPU and the modules that their users import."""
COMPILED = ("cv2", "scipy.spatial")
"""Modules compiled against NumPy that every installation has."""
STACK = ("megatron.core", "nemo.lightning")
"""What training cannot go without."""
SMI_TIMEOUT_S = 5.0
"""How long NVIDIA's tool may take; it hangs where a GPU or its driver does."""
_OPENED = os.R_OK | os.W_OK


class Gpu(NamedTuple):
    """A GPU that torch can use.

    Attributes:
        name: the driver's name for it.
        capability: CUDA compute capability.
        memory_gb: its memory.
    """

    name: str
    capability: tuple[int, int]
    memory_gb: float = 80.0

    @property
    def is_mig(self) -> bool:
        """Whether it is a part of a GPU (MIG), which cannot talk to other parts by NCCL."""
        return " MIG " in f"{self.name} "


class Package(NamedTuple):
    """An installed package.

    Attributes:
        version: its release; empty where its metadata is missing.
        error: what its import raised; empty where it works or was not tried.
    """

    version: str = ""
    error: str = ""


class Facts(NamedTuple):
    """A machine as it was found.

    Attributes:
        python: the interpreter.
        missing: modules of :data:`STACK` that it does not find.
        image_python: whether :data:`IMAGE_PYTHON` exists.
        container: NVIDIA's name and release of the container's image; empty outside of one.
        numpys: versions of NumPy on the path, the imported one first. A virtual environment may
            shadow the system's.
        mixed_numpys: versions that one folder holds, where it holds several.
        abi_errors: modules compiled against NumPy that do not import, with the reason.
        torch: torch's version; empty where it does not import.
        torch_error: what its import raised.
        torch_cuda: the CUDA that torch was built for; empty for a CPU build.
        cudnn: cuDNN's version.
        nccl: NCCL's version.
        archs: GPU architectures that torch has code for, such as ``sm_90``.
        gpus: GPUs that torch can use.
        cuda_error: why torch cannot use CUDA, in its own words.
        driver: version of NVIDIA's kernel driver; empty without one.
        installed: names of the GPUs that the driver lists, usable or not.
        smi_error: why NVIDIA's tool listed no GPU; empty where it did, or is not there.
        devices: device files of the driver.
        denied: those of them that this user may not open.
        mig: whether a GPU of the driver's list is set to be divided (MIG).
        hidden: whether ``CUDA_VISIBLE_DEVICES`` hides all GPUs.
        packages: optional packages that are installed, by distribution.
        encodes: whether the GPU encodes video; None where it was not tried.
    """

    python: str = "/usr/bin/python3"
    missing: tuple[str, ...] = ()
    image_python: bool = False
    container: str = ""
    numpys: tuple[str, ...] = ("2.4.0",)
    mixed_numpys: tuple[str, ...] = ()
    abi_errors: tuple[tuple[str, str], ...] = ()
    torch: str = "2.13.0"
    torch_error: str = ""
    torch_cuda: str = ""
    cudnn: str = ""
    nccl: str = ""
    archs: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    cuda_error: str = ""
    driver: str = ""
    installed: tuple[str, ...] = ()
    smi_error: str = ""
    devices: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    mig: bool = False
    hidden: bool = False
    packages: tuple[tuple[str, Package], ...] = ()
    encodes: bool | None = None

    @property
    def has_gpu(self) -> bool:
        """Whether the machine has an NVIDIA GPU, usable or not."""
        return bool(self.gpus or self.installed or self.driver or self.devices)

    def package(self, name: str) -> Package | None:
        """An optional package; None where it is not installed."""
        return dict(self.packages).get(name)


@cache
def read_facts(encodes: Callable[[], bool] | None = None) -> Facts:
    """Look at this machine, once a process.

    Args:
        encodes: returns whether the GPU encodes video, which takes an encoder to try.
    """
    hardware = {**_torch_facts(), **_driver_facts()}
    has_gpu = Facts(**hardware).has_gpu
    return Facts(
        **_python_facts(),
        **hardware,
        hidden=os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"),
        packages=tuple(
            (name, _package(name, module)) for name, module in PROBED.items() if _is_there(module)
        ),
        encodes=encodes() if encodes is not None and has_gpu else None,
    )


def read_python() -> Facts:
    """Look at the interpreter and its packages alone, without importing torch."""
    return Facts(**_python_facts())


def _python_facts() -> dict[str, Any]:
    product = os.environ.get("NVIDIA_PRODUCT_NAME", "")
    release = os.environ.get("NVIDIA_PYTORCH_VERSION", "")
    numpys = [numpys_in(Path(folder or ".")) for folder in dict.fromkeys(sys.path)]
    return {
        "python": sys.executable,
        "missing": tuple(name for name in STACK if not has(name)),
        "image_python": IMAGE_PYTHON.exists(),
        "container": f"{product or 'PyTorch'} {release}".strip() if product or release else "",
        "numpys": tuple(dict.fromkeys(version for folder in numpys for version in folder)),
        "mixed_numpys": next((folder for folder in numpys if len(folder) > 1), ()),
        "abi_errors": tuple((name, error) for name in COMPILED if (error := _import_error(name))),
    }


def numpys_in(folder: Path) -> tuple[str, ...]:
    """Return the versions of NumPy that are installed in a folder of the path."""
    return tuple(
        info.name.removeprefix("numpy-").removesuffix(".dist-info")
        for info in sorted(folder.glob("numpy-*.dist-info"))
    )


def _torch_facts() -> dict[str, Any]:
    """What torch is, and which GPUs it can use."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken library raises anything
        return {"torch": "", "torch_error": _words(error)}
    facts: dict[str, Any] = {
        "torch": str(torch.__version__),
        "torch_cuda": torch.version.cuda or "",
    }
    if not torch.version.cuda:
        return facts
    cudnn = torch.backends.cudnn.version()
    facts["cudnn"] = "" if cudnn is None else _dotted(cudnn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver that is too old warns; it is a fact below
        usable = torch.cuda.is_available()
    if not usable:
        try:
            torch.cuda.init()
        except Exception as error:  # noqa: BLE001 - the reason is the fact
            facts["cuda_error"] = _words(error)
        return facts
    facts["archs"] = tuple(torch.cuda.get_arch_list())
    facts["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    properties = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    facts["gpus"] = tuple(
        Gpu(each.name, (each.major, each.minor), round(each.total_memory / 1e9, 1))
        for each in properties
    )
    return facts


def _driver_facts() -> dict[str, Any]:
    """What the driver says of itself and its GPUs, whether torch can use them or not."""
    nodes = [path for path in sorted(Path("/dev").glob("nvidia*")) if not path.is_dir()]
    nodes += [path for path in (Path("/dev/dxg"),) if path.exists() and shutil.which("nvidia-smi")]
    facts: dict[str, Any] = {
        "devices": tuple(map(str, nodes)),
        "denied": tuple(path for path in opened_by_cuda(nodes) if not os.access(path, _OPENED)),
    }
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
        facts["driver"] = driver_version(text)
    except OSError:
        pass
    if not shutil.which("nvidia-smi"):
        return facts
    rows, problem = _run("nvidia-smi", "--query-gpu=name,driver_version,mig.mode.current")
    table = [[cell.strip() for cell in row.split(",")] for row in rows]
    table = [row for row in table if len(row) == 3]
    if table:
        facts["installed"] = tuple(row[0] for row in table)
        facts["driver"] = facts.get("driver") or table[0][1]
        facts["mig"] = any(row[2] == "Enabled" for row in table)
    elif not problem:
        problem = _line(f"nvidia-smi lists no GPU: {' '.join(rows)}").rstrip(":")
    facts["smi_error"] = problem
    return facts


def opened_by_cuda(nodes: Iterable[Path]) -> list[str]:
    """Return those of the driver's device files that CUDA opens; others may be closed to users."""
    return [str(path) for path in nodes if re.fullmatch(r"nvidia(\d+|ctl|-uvm)|dxg", path.name)]


def driver_version(text: str) -> str:
    """Return the release in the text of ``/proc/driver/nvidia/version``; empty without one."""
    found = re.search(r"Kernel Module.*?\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found.group(1) if found else ""


def _run(program: str, *arguments: str) -> tuple[list[str], str]:
    """Lines of a table that NVIDIA's tool prints, and why there are none where it fails."""
    command = [program, *arguments, "--format=csv,noheader"]
    try:
        # A wrapper or a driver that is broken may print anything, not text alone.
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return [], f"{program} does not start: {_words(error)}"
    try:
        printed, _ = process.communicate(timeout=SMI_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _abandon(process)
        return [], f"{program} did not answer in {SMI_TIMEOUT_S:g} s"
    if process.returncode:
        words = _line(printed) or "it printed nothing"
        return [], f"{program} failed with exit code {process.returncode}: {words}"
    return printed.splitlines(), ""


def _abandon(process: subprocess.Popen[str]) -> None:
    """Kill a process with its children, and go on where the kernel does not let it die."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that waits for a broken driver survives its own end: 'subprocess.run' would wait.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    if process.stdout is not None:
        process.stdout.close()


def _is_there(module: str) -> bool:
    # The parent of 'transformer_engine.pytorch' would be imported, which may raise anything.
    return has("nvidia.dali" if module == "nvidia.dali" else module.split(".")[0])


def _package(distribution: str, module: str) -> Package:
    """An installed package, and whether it imports."""
    found = [
        each
        for each in importlib.metadata.distributions()
        if (each.metadata["Name"] or "").lower().replace("_", "-").startswith(distribution)
    ]
    return Package(found[0].version if found else "", _import_error(module))


def _import_error(module: str) -> str:
    """What a module's import raises; empty where it works or the module is absent."""
    if not _is_there(module):
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken library raises anything
        return _words(error)
    return ""


def _words(error: Exception) -> str:
    return _line(f"{type(error).__name__}: {error}")


def _line(text: str) -> str:
    """One line of at most 300 characters."""
    return " ".join(text.split())[:300]


def _dotted(version: int) -> str:
    """CuDNN's number as ``9.18.1``."""
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
