"""Deferred modules run late and otherwise as ever."""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stderr

import pytest
import torch

from nemo_cosmos.platform.patches import deferred
from nemo_cosmos.platform.patches.deferred import Deferral, is_deferred

FILES = {
    "__init__": "import sys\nsys.ran.append('heavy')\nfrom heavy.deep import Deep\nANSWER = 42\n",
    "deep": "import sys\nsys.ran.append('deep')\nclass Deep: pass\n",
    "light": "import sys\nsys.ran.append('light')\nclass Light: pass\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch) -> Callable[..., list[str]]:
    """Write a package ``heavy``, defer it, and return the list of modules whose code ran."""

    def write(deferral: Deferral, **files: str) -> list[str]:
        for name, text in (FILES | files).items():
            path = tmp_path / "heavy" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        monkeypatch.setitem(deferred.DEFERRED, "heavy", deferral)
        return ran

    ran: list[str] = []
    monkeypatch.setattr(sys, "ran", ran, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    deferred.defer_imports()
    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "heavy"]:
        del sys.modules[name]


def test_the_code_runs_when_an_attribute_is_read(package):
    ran = package(Deferral())
    import heavy

    assert ran == [] and is_deferred("heavy")
    assert heavy.ANSWER == 42 and ran == ["heavy", "deep"]
    assert not is_deferred("heavy") and "__getattr__" not in vars(heavy)
    with pytest.raises(AttributeError, match="module 'heavy' has no attribute 'QUESTION'"):
        _ = heavy.QUESTION


def test_a_part_runs_the_package_first_and_is_there_once(package):
    ran = package(Deferral())
    import heavy
    import heavy.deep
    import heavy.light

    assert ran == ["heavy", "deep", "light"]
    assert heavy.Deep is heavy.deep.Deep
    assert heavy.deep.__spec__.name == "heavy.deep" and heavy.deep.__spec__.loader
    assert pickle.loads(pickle.dumps(heavy.deep.Deep)) is heavy.Deep


def test_light_parts_and_names_leave_the_rest_alone(package):
    light = deferred._name_in("heavy.light", "Light")
    ran = package(Deferral(names={"Light": light}, parts=("light",)))
    from heavy import Light, light

    assert Light is light.Light and ran == ["light"] and is_deferred("heavy")
    from heavy import Deep

    assert ran == ["light", "heavy", "deep"]
    assert inspect.getsource(Deep) == "class Deep: pass\n"


def test_what_imports_each_other_begins_with_the_first_part(package):
    ran = package(
        Deferral(parts=("light", "other"), first="heavy.other"),
        light="import sys\nfrom heavy.other import late\nsys.ran.append('light')\nLight = 1\n",
        other="import sys\nlate = 1\nfrom heavy.light import Light\nsys.ran.append('other')\n",
    )
    from heavy.light import Light

    assert Light == 1 and ran == ["light", "other"] and is_deferred("heavy")


def test_the_code_runs_once_a_module_it_waits_for_is_there(package):
    ran = package(Deferral())
    import heavy

    deferred._run_waiting("heavy")(sys)
    assert ran == ["heavy", "deep"]
    deferred._run_waiting("heavy")(sys)
    assert ran == ["heavy", "deep"] and heavy.ANSWER == 42


def test_an_error_is_raised_at_each_use(package):
    package(Deferral(), __init__="raise ImportError('no library')\n")
    import heavy

    for _ in range(2):
        with pytest.raises(ImportError, match="no library"):
            _ = heavy.ANSWER
    with pytest.raises(ImportError, match="no library"):
        importlib.import_module("heavy.light")


def test_a_package_keeps_the_getattr_of_its_own(package):
    package(Deferral(), __init__="def __getattr__(name): return name.upper()\n")
    import heavy

    assert heavy.first == "FIRST" and heavy.second == "SECOND"


def test_threads_wait_for_the_code_and_run_it_once(package):
    slow = "import sys, time\nsys.ran.append('heavy')\ntime.sleep(0.2)\nANSWER = 42\n"
    ran = package(Deferral(), __init__=slow)
    import heavy

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(heavy.ANSWER)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert answers == [42] * 4 and ran == ["heavy"]


def test_a_program_that_wants_the_registrations_imports_at_once(package):
    ran = package(Deferral())
    import heavy  # noqa: F401

    deferred.import_at_once("heavy")
    assert ran == ["heavy", "deep"] and "heavy" not in deferred.DEFERRED


def test_fused_kernels_are_compiled_at_their_first_call(monkeypatch):
    compiled = []
    compile_eagerly = torch.compile

    def compile_and_count(function):
        compiled.append(function)
        return compile_eagerly(function, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_and_count)

    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    fused = deferred.fuse_at_first_call(double)
    assert compiled == [] and deferred.unfused(fused) is double
    assert fused(torch.ones(2)).tolist() == [2.0, 2.0] == fused(torch.ones(2)).tolist()
    assert compiled == [double]


LIBRARIES = """
import nemo_cosmos, sys, warnings
warnings.simplefilter("ignore")
from torchmetrics.collections import MetricCollection
import torch, wandb, torchmetrics
from nemo_cosmos.platform.patches.deferred import DEFERRED, is_deferred
from lightning.fabric.wrappers import OptimizedModule, is_wrapped
assert torchmetrics.MetricCollection is MetricCollection
from lightning.pytorch.core.module import Metric

model = torch.nn.Linear(2, 2)
assert not isinstance(model, OptimizedModule) and is_deferred("torch._dynamo")
compiled = torch.compile(model, backend="eager")
assert isinstance(compiled, OptimizedModule) and not is_deferred("torch._dynamo")
assert is_deferred("torchmetrics") and is_deferred("wandb")
from torchmetrics.text import BLEUScore
assert issubclass(BLEUScore, Metric) and torchmetrics.Metric is Metric
assert wandb.__version__ and not is_deferred("wandb")
from nemo.lightning.io import registry
from nemo.collections.common.tokenizers import AutoTokenizer
assert not is_deferred("nemo.lightning.io.registry") and not is_deferred("nemo.core")
assert hasattr(AutoTokenizer.__init__, "__wrapped__"), "NeMo saves what made it"
print("as ever")
"""


def test_the_libraries_work_as_ever():
    done = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, text=True)
    assert done.stdout.endswith("as ever\n"), done.stderr


def test_settings_of_a_deferred_package_can_be_imported_first():
    """Fake tensors import TorchDynamo's settings, a module that refuses attributes."""
    code = (
        "import nemo_cosmos, torch, torch._dynamo.config as c; assert c.__spec__.name == c.__name__"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_late_code_may_ask_for_the_file_of_captured_errors():
    captured = io.StringIO()
    with redirect_stderr(captured), deferred._errors_go_to_a_file():
        assert sys.stderr.fileno() == sys.__stderr__.fileno()
    with redirect_stderr(sys.__stderr__), deferred._errors_go_to_a_file():
        assert sys.stderr is sys.__stderr__
