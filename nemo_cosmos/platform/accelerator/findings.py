"""What a machine can do, in words: for ``nemo-cosmos status --machine`` and before a first step.

Both take their sentences from :func:`findings`, so that a run stops with what the report says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform.accelerator.facts import IMAGE_PYTHON, Facts, read_facts, read_python
from nemo_cosmos.platform.hardware import BF16_CAPABILITY, FP8_CAPABILITIES, fp8_problem

logger = logging.getLogger(__name__)

OLDEST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""Major release of CUDA -> first branch of the driver that runs all its minor releases."""

PYTHON, NUMPY, TORCH, GPU, BF16 = "Python", "NumPy", "torch", "GPU", "bfloat16"
ENGINE, FLASH, NCCL = "Transformer Engine", "flash attention", "several GPUs"
NVDEC, NVENC = "decoding on the GPU", "encoding on the GPU"

ALWAYS = (PYTHON, NUMPY, TORCH, ENGINE)
"""What no run can do without. A Transformer Engine that is installed is imported by Megatron."""


class Finding(NamedTuple):
    """What was found of one thing.

    Attributes:
        name: what it is.
        works: whether it can be used; None where the machine has no use for it.
        text: what was found; of what does not work, the reason and the remedy.
    """

    name: str
    works: bool | None
    text: str


class Needs(NamedTuple):
    """What a training run needs of its machine.

    Attributes:
        precision: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        fp8_recipe: how FP8 is scaled; None without FP8.
        num_devices: ranks on this machine.
    """

    precision: str = "32"
    fp8_recipe: str | None = None
    num_devices: int = 1


def check_machine(needs: Needs, facts: Facts | None = None) -> str:
    """Require of the machine what a run needs, and say what it found.

    A GPU that cannot be used stops a run in 16 bits, which was meant for it; one in float32 goes on
    beside the warning, on the CPU.

    Args:
        needs: what the run needs.
        facts: the machine; by default this one.

    Raises:
        ConfigError: something is missing; in the words of ``status --machine``.
    """
    facts = facts if facts is not None else read_facts()
    found = {each.name: each for each in findings(facts)}
    is_half = needs.precision.startswith(("bf16", "16")) or needs.fp8_recipe is not None
    wanted = list(ALWAYS)
    if facts.has_gpu and not facts.hidden:
        if is_half:
            wanted.append(GPU)
        elif found[GPU].works is False:
            logger.warning("%s This run goes on without it.", found[GPU].text)
        if needs.precision.startswith("bf16") and facts.gpus:
            wanted.append(BF16)
        if needs.num_devices > 1 and facts.gpus:
            wanted.append(NCCL)
    if needs.fp8_recipe is not None:
        wanted += [ENGINE, fp8_name(needs.fp8_recipe)]
    for name in wanted:
        finding = found.get(name)
        if finding is not None and finding.works is False:
            raise ConfigError(finding.text)
    return found[GPU].text


def check_python(facts: Facts | None = None) -> None:
    """Require an interpreter that has the stack, before anything of it is imported.

    Raises:
        ConfigError: Megatron-Core, NeMo or a NumPy that fits them is missing; in the words of
            ``status --machine``.
    """
    facts = facts if facts is not None else read_python()
    for finding in (_python(facts), _numpy(facts)):
        if finding.works is False:
            raise ConfigError(finding.text)


def findings(facts: Facts) -> list[Finding]:
    """Judge a machine.

    Args:
        facts: what was found of it.
    """
    return [
        _python(facts),
        _numpy(facts),
        _torch(facts),
        _gpu(facts),
        _bfloat16(facts),
        *_fp8(facts),
        _engine(facts),
        _flash(facts),
        _several(facts),
        _decoding(facts),
        _encoding(facts),
    ]


def fp8_name(recipe: str) -> str:
    """The name of the finding of an FP8 recipe."""
    return f"FP8 {recipe}"


def _python(facts: Facts) -> Finding:
    if not facts.missing:
        return Finding(PYTHON, True, facts.python)
    what = f"{facts.python} does not find {' and '.join(facts.missing)}"
    if facts.image_python and facts.python != str(IMAGE_PYTHON):
        fix = f"In this image they are in /opt/venv: run '{IMAGE_PYTHON} -m nemo_cosmos'"
    elif facts.container and not facts.image_python:
        fix = (
            f"This container ({facts.container}) has no /opt/venv, where NVIDIA's NeMo images keep "
            "them. Use the image that our Dockerfile builds, or install them as docs/install.md "
            "says under 'Without the NeMo image'"
        )
    else:
        fix = "Install them with: pip install --constraint constraints.txt nemo-cosmos"
    return Finding(PYTHON, False, f"{what}. {fix}.")


def _numpy(facts: Facts) -> Finding:
    if facts.mixed_numpys:
        text = (
            f"{facts.python} has several versions of NumPy in one folder: "
            f"{', '.join(facts.mixed_numpys)}. What was compiled for one fails with the other. Run "
            "'pip uninstall numpy' until none is left, then install the one of constraints.txt."
        )
        return Finding(NUMPY, False, text)
    if facts.abi_errors:
        module, reason = facts.abi_errors[0]
        used, *shadowed = facts.numpys or ("(none)",)
        beside = f" ({', '.join(shadowed)} is on the path as well)" if shadowed else ""
        text = (
            f"{module} does not import with NumPy {used}{beside}: {reason} Reinstall both in the "
            "versions of constraints.txt: pip install --no-deps --force-reinstall. In NVIDIA's "
            "images keep their NumPy, and install only what docker/gpu-extra.txt lists."
        )
        return Finding(NUMPY, False, text)
    return Finding(NUMPY, True, ", ".join(facts.numpys))


def _torch(facts: Facts) -> Finding:
    if not facts.torch:
        text = (
            f"torch does not import: {facts.torch_error} Install it again: pip install "
            "torch==2.13.0 (in NVIDIA's images never; start from a fresh container)."
        )
        return Finding(TORCH, False, text)
    if not facts.torch_cuda:
        return Finding(TORCH, True, f"{facts.torch}, built for the CPU")
    parts = [f"{facts.torch}, built for CUDA {facts.torch_cuda}"]
    parts += [f"cuDNN {facts.cudnn}"] if facts.cudnn else []
    parts += [f"NCCL {facts.nccl}"] if facts.nccl else []
    return Finding(TORCH, True, ", ".join(parts))


def _gpu(facts: Facts) -> Finding:
    if facts.hidden:
        return Finding(GPU, None, "CUDA_VISIBLE_DEVICES hides all GPUs: this process has a CPU.")
    if not facts.has_gpu and facts.smi_error:
        text = (
            f"No NVIDIA GPU was found, and {_sentence(facts.smi_error)} Everything runs on the "
            "CPU. If the machine has a GPU, run nvidia-smi by hand and mend its driver first."
        )
        return Finding(GPU, False, text)
    if not facts.has_gpu:
        return Finding(GPU, None, "There is no NVIDIA GPU: everything runs on the CPU.")
    if facts.gpus:
        return _usable(facts)
    return Finding(
        GPU, False, f"{next(_reasons(facts))} To use the CPU, set CUDA_VISIBLE_DEVICES=."
    )


def _usable(facts: Facts) -> Finding:
    """A GPU that torch sees, for which it may have no code."""
    gpu = facts.gpus[0]
    least = min((_arch(name) for name in facts.archs), default=(0, 0))
    if gpu.capability < least:
        text = (
            f"{gpu.name} has compute capability {_dotted(gpu.capability)}, and torch "
            f"{facts.torch} has code from {_dotted(least)} on. Install a torch that was built for "
            "it (an older CUDA), or use another GPU."
        )
        return Finding(GPU, False, text)
    count = f"{len(facts.gpus)} x " if len(facts.gpus) > 1 else ""
    driver = f", driver {facts.driver}" if facts.driver else ""
    capability = _dotted(gpu.capability)
    text = f"{count}{gpu.name}, {gpu.memory_gb} GB, compute capability {capability}{driver}"
    if facts.smi_error:
        text += f". torch can use it, but {facts.smi_error}"
    return Finding(GPU, True, text)


def _reasons(facts: Facts) -> Iterator[str]:
    """Why torch cannot use the GPU that is there; the likeliest first."""
    name = facts.installed[0] if facts.installed else "The NVIDIA GPU"
    if facts.torch and not facts.torch_cuda:
        yield (
            f"{name} cannot be used: torch {facts.torch} is built for the CPU. Install the CUDA "
            "build in its place: pip install --force-reinstall --no-deps torch==2.13.0, then pip "
            "install torch==2.13.0 for the packages that it needs."
        )
    if facts.denied:
        yield (
            f"{name} cannot be used: this user may not open {', '.join(facts.denied)}. Join the "
            "group that owns the files (ls -l /dev/nvidia*; often 'video' or 'render'), or start "
            "the container with --gpus all."
        )
    needed = int(facts.torch_cuda.split(".")[0] or 0) if facts.torch_cuda else 0
    oldest = OLDEST_DRIVERS.get(needed)
    branch = int(facts.driver.split(".")[0]) if facts.driver else None
    if oldest and branch is not None and branch < oldest:
        yield (
            f"{name} cannot be used: driver {facts.driver} is too old for torch {facts.torch}, "
            f"which is built for CUDA {facts.torch_cuda} and needs R{oldest} or later. Update the "
            "driver of the host, or install a torch that was built for an older CUDA."
        )
    if not facts.devices:
        yield (
            f"{name} cannot be used: there is no /dev/nvidia* in here. Start the container with "
            "--gpus all (NVIDIA Container Toolkit), or the job with a GPU (sbatch --gres=gpu:1)."
        )
    if facts.mig:
        yield (
            f"{name} is set to be divided (MIG), and torch finds no part of it. Make one "
            "(nvidia-smi mig -cgi PROFILE -C), name an existing one in CUDA_VISIBLE_DEVICES "
            "(nvidia-smi -L lists them), or switch MIG off (nvidia-smi -mig 0)."
        )
    tool = f"{_sentence(facts.smi_error)} " if facts.smi_error else ""
    reason = _sentence(facts.cuda_error or "torch finds no CUDA device")
    yield (
        f"{name} cannot be used: {reason} {tool}Check that "
        "nvidia-smi works, and that CUDA_VISIBLE_DEVICES names a GPU that exists."
    )


def _bfloat16(facts: Facts) -> Finding:
    if not facts.gpus:
        return Finding(BF16, None, "on the CPU, slowly")
    gpu = facts.gpus[0]
    if gpu.capability < BF16_CAPABILITY:
        text = (
            f"bfloat16 needs a GPU of compute capability {_dotted(BF16_CAPABILITY)}, and "
            f"{gpu.name} has {_dotted(gpu.capability)}. Train with trainer.precision=16-mixed, or "
            "32."
        )
        return Finding(BF16, False, text)
    return Finding(BF16, True, "yes")


def _fp8(facts: Facts) -> Iterator[Finding]:
    """One finding a recipe."""
    capability = facts.gpus[0].capability if facts.gpus else None
    for recipe in FP8_CAPABILITIES:
        problem = fp8_problem(recipe, capability)
        engine = facts.package("transformer-engine")
        if not problem and engine is None:
            problem = (
                "FP8 needs Transformer Engine, which is not installed. The image of our Dockerfile "
                "has it; docs/install.md says how to build it elsewhere."
            )
        works = None if capability is None else not problem
        yield Finding(fp8_name(recipe), works, problem or "yes")


def _engine(facts: Facts) -> Finding:
    engine = facts.package("transformer-engine")
    if engine is None:
        text = "not installed: the 'local' layers run in its place, without FP8"
        return Finding(ENGINE, None, text)
    if not engine.error:
        return Finding(ENGINE, True, engine.version)
    what = f"Transformer Engine {engine.version} does not import: {engine.error}"
    if not facts.gpus:
        fix = "Megatron-Core cannot be imported beside it on a CPU. Remove it: pip uninstall " + (
            "transformer-engine transformer-engine-torch transformer-engine-cu13"
        )
    elif re.search(r"undefined symbol|symbol not found|_ZN", engine.error):
        fix = (
            f"It was compiled for another torch than {facts.torch}. Compile it for this one: pip "
            "install --no-build-isolation --no-cache-dir --force-reinstall --no-deps "
            "transformer-engine-torch (needs nvcc and cuDNN's headers), or use the image of our "
            "Dockerfile"
        )
    else:
        fix = "Install it again as docs/install.md says, or use the image of our Dockerfile"
    return Finding(ENGINE, False, f"{what} {fix}.")


def _flash(facts: Facts) -> Finding:
    if not facts.gpus:
        return Finding(FLASH, None, "needs a GPU")
    if facts.gpus[0].capability < BF16_CAPABILITY:
        text = (
            "The kernels need compute capability 8.0; attention keeps all scores in memory. Use "
            "shorter videos, or a GPU from Ampere on."
        )
        return Finding(FLASH, False, text)
    engine = facts.package("transformer-engine")
    by = "cuDNN's, by Transformer Engine" if engine and not engine.error else "torch's own"
    return Finding(FLASH, True, f"yes, {by}, in 16 bits")


def _several(facts: Facts) -> Finding:
    if not facts.gpus:
        return Finding(NCCL, None, "needs GPUs")
    if any(gpu.is_mig for gpu in facts.gpus):
        text = (
            f"{facts.gpus[0].name} is a part of a GPU (MIG), and NCCL does not connect parts. "
            "Train with trainer.devices=1, or switch MIG off (nvidia-smi -mig 0)."
        )
        return Finding(NCCL, False, text)
    if not facts.nccl:
        text = "torch was built without NCCL. Train with trainer.devices=1, or install another."
        return Finding(NCCL, False, text)
    return Finding(NCCL, True, f"yes, by NCCL {facts.nccl}")


def _decoding(facts: Facts) -> Finding:
    dali = facts.package("nvidia-dali")
    if dali is not None and dali.error:
        text = f"DALI {dali.version} does not import: {dali.error} PyAV decodes in its place."
        return Finding(NVDEC, False, text)
    if not facts.gpus:
        return Finding(NVDEC, None, "needs a GPU; PyAV decodes on the CPU")
    if dali is None:
        text = (
            "DALI is not installed: PyAV decodes on the CPU. Install it with: pip install "
            "--no-deps nvidia-dali-cuda130==2.0.0."
        )
        return Finding(NVDEC, False, text)
    return Finding(NVDEC, True, f"yes, by DALI {dali.version}")


def _encoding(facts: Facts) -> Finding:
    if not facts.gpus:
        return Finding(NVENC, None, "needs a GPU; x264 encodes on the CPU")
    if not facts.encodes:
        text = "This GPU or driver has no NVENC (A100, H100 and H200 have none): x264 encodes."
        return Finding(NVENC, False, text)
    return Finding(NVENC, True, "yes, h264_nvenc")


def _sentence(words: str) -> str:
    """Another program's words with a full stop."""
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _arch(name: str) -> tuple[int, int]:
    """``sm_90a`` or ``compute_120`` as a compute capability."""
    digits = re.sub(r"\D", "", name) or "0"
    return int(digits[:-1] or 0), int(digits[-1])


def _dotted(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"
