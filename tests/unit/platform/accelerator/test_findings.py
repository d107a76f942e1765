"""A machine is judged in words, by the facts that are found on it: of machines nobody has, too."""

from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform.accelerator import facts as facts_module
from nemo_cosmos.platform.accelerator import findings as findings_module
from nemo_cosmos.platform.accelerator.facts import (
    Facts,
    Gpu,
    Package,
    driver_version,
    numpys_in,
    opened_by_cuda,
)
from nemo_cosmos.platform.accelerator.findings import (
    Needs,
    check_machine,
    check_python,
    findings,
)
from nemo_cosmos.platform.hardware import FP8_CAPABILITIES
from nemo_cosmos.platform.machine import describe_machine

H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0))
GOOD = Facts(
    torch="2.10.0a0",
    torch_cuda="13.0",
    cudnn="9.18.1",
    nccl="2.28.9",
    archs=("sm_80", "sm_90", "sm_100", "compute_120"),
    gpus=(H100,),
    driver="580.95.05",
    installed=(H100.name,),
    devices=("/dev/nvidia0", "/dev/nvidiactl"),
    packages=(("transformer-engine", Package("2.12.0")), ("nvidia-dali", Package("2.0.0"))),
)
UNUSABLE = GOOD._replace(gpus=(), archs=(), nccl="")
BF16 = Needs(precision="bf16-mixed")
FP8 = Needs(precision="bf16-mixed", fp8_recipe="tensorwise")
UNDEFINED = "ImportError: transformer_engine_torch.so: undefined symbol: _ZN3c104cuda9SetDeviceEab"


def with_gpu(gpu: Gpu, **changed: object) -> Facts:
    return GOOD._replace(gpus=(gpu,), **changed)


#: name -> (the machine, what a run needs of it, what is said, what is advised)
BAD = {
    "no FP8 below 8.9": (
        with_gpu(Gpu("NVIDIA A100-SXM4-80GB", (8, 0))), FP8,
        "'tensorwise' needs a GPU of compute capability 8.9, and this one has 8.0",
        "Train without FP8",
    ),
    "blocks of 128 on Ada": (
        with_gpu(Gpu("NVIDIA L40S", (8, 9))), Needs("bf16-mixed", "blockwise"),
        "'blockwise' needs a GPU of compute capability 9.0", "Use 'tensorwise'",
    ),
    "no FP8 without Transformer Engine": (
        GOOD._replace(packages=()), FP8, "FP8 needs Transformer Engine", "docs/install.md",
    ),
    "no bfloat16 below 8.0": (
        with_gpu(Gpu("Tesla T4", (7, 5)), archs=("sm_75", "sm_80")), BF16,
        "bfloat16 needs a GPU of compute capability 8.0, and Tesla T4 has 7.5",
        "trainer.precision=16-mixed",
    ),
    "a GPU that torch has no code for": (
        with_gpu(Gpu("Tesla V100-SXM2-32GB", (7, 0)), archs=("sm_75", "sm_80", "sm_90a")), BF16,
        "compute capability 7.0, and torch 2.10.0a0 has code from 7.5 on", "an older CUDA",
    ),
    "a driver too old": (
        UNUSABLE._replace(driver="550.54.15", cuda_error="RuntimeError: driver is too old"), BF16,
        "driver 550.54.15 is too old for torch 2.10.0a0, which is built for CUDA 13.0 and needs "
        "R580",
        "Update the driver",
    ),
    "a CPU build of torch": (
        UNUSABLE._replace(torch="2.13.0+cpu", torch_cuda=""), BF16,
        "torch 2.13.0+cpu is built for the CPU", "--force-reinstall --no-deps torch==2.13.0",
    ),
    "no permission": (
        UNUSABLE._replace(denied=("/dev/nvidia0", "/dev/nvidiactl")), BF16,
        "this user may not open /dev/nvidia0, /dev/nvidiactl", "Join the group",
    ),
    "a container without its GPUs": (
        UNUSABLE._replace(devices=()), BF16, "there is no /dev/nvidia* in here", "--gpus all",
    ),
    "MIG without a part": (
        UNUSABLE._replace(mig=True), BF16, "set to be divided (MIG)", "nvidia-smi mig -cgi",
    ),
    "another reason": (
        UNUSABLE._replace(cuda_error="RuntimeError: CUDA error: system not yet initialized"), BF16,
        "CUDA error: system not yet initialized", "Check that nvidia-smi works",
    ),
    "parts of a GPU do not talk": (
        with_gpu(Gpu("NVIDIA H100 80GB HBM3 MIG 3g.40gb", (9, 0))), Needs("32", None, 2),
        "NCCL does not connect parts", "trainer.devices=1",
    ),
    "Transformer Engine compiled for another torch": (
        GOOD._replace(packages=(("transformer-engine", Package("2.9.0", UNDEFINED)),)), Needs(),
        "undefined symbol: _ZN3c104cuda9SetDeviceEab It was compiled for another torch than 2.10",
        "--no-build-isolation",
    ),
    "Transformer Engine half installed": (
        GOOD._replace(packages=(("transformer-engine", Package("2.9.0", "OSError: no cudnn")),)),
        BF16, "Transformer Engine 2.9.0 does not import: OSError: no cudnn", "docs/install.md",
    ),
    "Transformer Engine on a CPU": (
        Facts(packages=(("transformer-engine", Package("2.9.0", "OSError: libcuda.so.1")),)),
        Needs(), "Megatron-Core cannot be imported beside it on a CPU", "pip uninstall",
    ),
    "two NumPy in one folder": (
        GOOD._replace(mixed_numpys=("1.26.4", "2.4.6")), Needs(),
        "several versions of NumPy in one folder: 1.26.4, 2.4.6", "pip uninstall numpy",
    ),
    "a module compiled for another NumPy": (
        GOOD._replace(
            numpys=("2.4.6", "1.26.4"),
            abi_errors=(("cv2", "ImportError: numpy.core.multiarray failed to import"),),
        ), Needs(),
        "cv2 does not import with NumPy 2.4.6 (1.26.4 is on the path as well): ImportError",
        "docker/gpu-extra.txt",
    ),
    "the other Python of the image": (
        GOOD._replace(missing=("megatron.core",), image_python=True), Needs(),
        "/usr/bin/python3 does not find megatron.core",
        "'/opt/venv/bin/python -m nemo_cosmos'",
    ),
    "a container without /opt/venv": (
        GOOD._replace(missing=("megatron.core", "nemo.lightning"), container="PyTorch 25.11"),
        Needs(), "This container (PyTorch 25.11) has no /opt/venv", "Without the NeMo image",
    ),
    "no stack at all": (
        Facts(missing=("nemo.lightning",)), Needs(), "does not find nemo.lightning", "constraints",
    ),
    "torch that does not import": (
        Facts(torch="", torch_error="ImportError: libcudart.so.13: cannot open"), Needs(),
        "torch does not import: ImportError: libcudart.so.13", "Install it again",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_training_stops_with_what_the_report_says(name: str) -> None:
    machine, needs, said, advised = BAD[name]
    report = [each["text"] for each in describe_machine(facts=machine)["findings"]]
    with pytest.raises(ConfigError) as stopped:
        check_machine(needs, machine)
    words = str(stopped.value)
    assert said in words and advised in words
    assert words in report
    assert "\n" not in words and words.endswith(".")


def test_a_good_machine_trains_in_everything_that_it_has() -> None:
    assert "NVIDIA H100" in check_machine(Needs("bf16-mixed", "blockwise", 8), GOOD)
    judged = {each.name: each for each in findings(GOOD._replace(encodes=True))}
    failing = [name for name, each in judged.items() if each.works is False]
    assert failing == ["FP8 mxfp8"]
    assert judged["GPU"].text.endswith("driver 580.95.05")
    assert judged["torch"].text == "2.10.0a0, built for CUDA 13.0, cuDNN 9.18.1, NCCL 2.28.9"


@pytest.mark.parametrize("needs", [Needs(), BF16, Needs("16-mixed", None, 2)])
def test_a_machine_without_gpu_trains_on_the_cpu(needs: Needs) -> None:
    assert "on the CPU" in check_machine(needs, Facts())


def test_float32_goes_on_beside_a_gpu_that_cannot_be_used(caplog) -> None:
    machine, _, said, _ = BAD["a CPU build of torch"]
    with caplog.at_level(logging.WARNING):
        check_machine(Needs(), machine)
    assert said in caplog.text and "goes on without it" in caplog.text


def test_hidden_gpus_are_nobodys_business() -> None:
    assert "hides all GPUs" in check_machine(BF16, UNUSABLE._replace(hidden=True))


def test_a_numpy_that_a_virtual_environment_shadows_is_none_too_many() -> None:
    check_machine(Needs(), GOOD._replace(numpys=("1.26.4", "2.1.0")))


def test_a_gpu_with_code_for_a_later_architecture_in_the_build_is_usable() -> None:
    newest = Gpu("NVIDIA RTX PRO 6000", (12, 0))
    assert "RTX PRO" in check_machine(BF16, with_gpu(newest))


def test_what_is_optional_does_not_stop_a_run() -> None:
    broken = GOOD._replace(
        packages=(("nvidia-dali", Package("2.0.0", "OSError: libnvcuvid.so.1")),), encodes=False
    )
    check_machine(BF16, broken)
    texts = {each.name: each for each in findings(broken)}
    assert texts["decoding on the GPU"].works is False
    assert "libnvcuvid" in texts["decoding on the GPU"].text
    assert "x264" in texts["encoding on the GPU"].text


def test_every_fp8_recipe_has_a_finding() -> None:
    names = {each.name for each in findings(GOOD)}
    assert {f"FP8 {recipe}" for recipe in FP8_CAPABILITIES} <= names


def test_the_interpreter_is_judged_before_anything_is_imported() -> None:
    for name in ("the other Python of the image", "two NumPy in one folder", "no stack at all"):
        machine, _, said, _ = BAD[name]
        with pytest.raises(ConfigError) as stopped:
            check_python(machine)
        assert said in str(stopped.value)
    check_python()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5", "550.54.15"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build",
            "580.159.03",
        ),
        ("GCC version: 12.2.0", ""),
    ],
)
def test_the_drivers_version_is_read(text: str, version: str) -> None:
    assert driver_version(text) == version


def test_device_files_that_cuda_does_not_open_are_nobodys_fault() -> None:
    names = ("nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
    opened = opened_by_cuda(Path("/dev") / name for name in names)
    assert opened == ["/dev/nvidia0", "/dev/nvidia12", "/dev/nvidiactl", "/dev/nvidia-uvm"]


def test_the_numpys_of_a_folder(tmp_path: Path) -> None:
    for name in ("numpy-2.4.6.dist-info", "numpy-1.26.4.dist-info", "numpydoc-1.0.dist-info"):
        (tmp_path / name).mkdir()
    assert numpys_in(tmp_path) == ("1.26.4", "2.4.6")
    assert numpys_in(tmp_path / "nowhere") == ()


def test_this_machine_is_read_whatever_a_package_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "transformer_engine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "pytorch.py").write_text("raise OSError('undefined symbol: _ZN2at')\n")
    info = tmp_path / "transformer_engine-2.9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: transformer-engine\nVersion: 2.9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        found = facts_module.read_facts.__wrapped__()
    finally:
        for name in [name for name in sys.modules if name.startswith("transformer_engine")]:
            del sys.modules[name]
    engine = found.package("transformer-engine")
    assert engine == Package("2.9.0", "OSError: undefined symbol: _ZN2at")
    assert found.torch and found.numpys and not found.missing


def test_a_run_asks_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from nemo_cosmos.training.checks import check_trainers_machine

    machine, _, said, _ = BAD["no bfloat16 below 8.0"]
    monkeypatch.setattr(findings_module, "read_facts", lambda: machine)
    trainer = types.SimpleNamespace(
        precision="bf16-mixed", precision_plugin=object(), num_devices=1
    )
    with pytest.raises(ConfigError) as stopped:
        check_trainers_machine(trainer)
    assert said in str(stopped.value)


def test_the_report_is_plain_data() -> None:
    assert json.loads(json.dumps(describe_machine(facts=GOOD)))["gpu"]["cuda"] == "13.0"
