"""Heavy modules that others import for a flag or one class: their code runs at first use.

Lightning imports all of torchmetrics for one base class, and TorchDynamo for an instance check.
NeMo imports ModelOpt, and with it diffusers, PEFT and datasets, to know whether it is installed.
Megatron-Core imports wandb for a type hint. That was most of what a command computed before its
own first line.

A deferred module is found and entered in ``sys.modules`` as ever, but its code runs when an
attribute of it is first read or a part of it imported. What runs, and in which order, stays the
same; a module that nobody uses never runs. An error in its code is raised at that first use.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import accumulate
from types import ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class Deferral(NamedTuple):
    """What is available of a module before its code has run, and when that runs at the latest.

    Attributes:
        names: attributes, each with a function that returns it.
        parts: submodules that need nothing of the package's ``__init__``.
        first: the part that is imported before any other, where they import each other.
        after: names of modules; the code runs once one of them is imported.
    """

    names: Mapping[str, Callable[[], object]] = {}
    parts: tuple[str, ...] = ()
    first: str = ""
    after: frozenset[str] = frozenset()


def _name_in(module: str, name: str) -> Callable[[], object]:
    return lambda: getattr(importlib.import_module(module), name)


class _CompiledModule(type):
    """The type of :class:`OptimizedModule`: until TorchDynamo is loaded, nothing is compiled."""

    def __instancecheck__(cls, instance: object) -> bool:
        loaded = sys.modules.get("torch._dynamo.eval_frame")
        return loaded is not None and isinstance(instance, loaded.OptimizedModule)


class OptimizedModule(metaclass=_CompiledModule):
    """Stands for ``torch._dynamo.OptimizedModule`` in the instance checks of Lightning."""


DEFERRED: dict[str, Deferral] = {
    "modelopt.torch": Deferral(parts=("opt",)),
    "modelopt.torch.opt": Deferral(),
    "nemo.collections.common": Deferral(parts=("callbacks",)),
    "nemo.collections.llm": Deferral(parts=("fn",)),
    "nemo.core": Deferral(parts=("config", "optim")),
    # Lets NeMo save the tokenizers of language models, and imports them all to that end.
    "nemo.lightning.io.registry": Deferral(
        after=frozenset(
            {
                "nemo.collections.common.tokenizers",
                "transformers.models.auto.tokenization_auto",
                "transformers.models.llama.tokenization_llama",
                "transformers.models.llama.tokenization_llama_fast",
            }
        )
    ),
    "torch._dynamo": Deferral(names={"OptimizedModule": lambda: OptimizedModule}),
    "torchmetrics": Deferral(
        names={
            "Metric": _name_in("torchmetrics.metric", "Metric"),
            "MetricCollection": _name_in("torchmetrics.collections", "MetricCollection"),
            "__version__": _name_in("torchmetrics.__about__", "__version__"),
            "_logger": lambda: logging.getLogger("torchmetrics"),
        },
        parts=("__about__", "collections", "metric", "utilities"),
        first="torchmetrics.utilities",
    ),
    "wandb": Deferral(),
}
_bootstrap: Any = importlib.import_module("importlib._bootstrap")
# Attributes that the interpreter and test tools look for in every module there is.
_PROBED = frozenset({"__file__", "__path__", "__warningregistry__", "__wrapped__"})


def defer_imports() -> None:
    """Defer the packages above, and Megatron-Core's calls of ``torch.compile``, in this process.

    Calling it again is free. What has been imported already stays as it is.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def import_at_once(name: str) -> None:
    """Undo the deferral of a module, for programs that import it for what its code registers.

    Args:
        name: the module's name.
    """
    if code := _code_of(name):
        code.run()
    DEFERRED.pop(name, None)


def is_deferred(name: str) -> bool:
    """Whether a module is in ``sys.modules`` and its code has not run yet."""
    return _code_of(name) is not None


class _Finder(MetaPathFinder):
    """Finds modules where they are found without it, and sees when their code runs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None for a module that is none of ours, so that the next finder is asked."""
        known = fullname in sys.modules
        _run_before(fullname)
        if fullname in sys.modules and not known:  # what ran has imported it
            return _spec_of_imported(sys.modules[fullname])
        if fullname in DEFERRED and not DEFERRED[fullname].after & sys.modules.keys():
            return self._find(fullname, path, target, _enter_code)
        if fullname in _AFTERWARDS:
            return self._find(fullname, path, target, _run_with_what_follows)
        return None

    def _find(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None,
        execute: Callable[[ModuleType, Loader], None],
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self or (spec := finder.find_spec(name, path, target)) is None:
                continue
            if spec.loader is not None:
                spec.loader = _Loader(spec.loader, execute)
            return spec
        return None


class _Loader(Loader):
    """Hands a new module and its true loader to a function instead of running its code."""

    def __init__(self, loader: Loader, execute: Callable[[ModuleType, Loader], None]) -> None:
        self._loader, self._execute = loader, execute

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its true loader back, which tools ask for sources, and go on."""
        assert module.__spec__ is not None, "importlib sets it"
        module.__spec__.loader = module.__loader__ = self._loader
        self._execute(module, self._loader)


class _Imported(Loader):
    """Returns a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return it instead of a second one."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Give it its own spec back; its code has run."""
        vars(module)["__spec__"] = self._spec


def _spec_of_imported(module: ModuleType) -> ModuleSpec:
    """A spec that loads what is there.

    importlib takes the module's own spec where it finds one, and would run its code again.
    """
    spec = ModuleSpec(module.__name__, _Imported(module))
    vars(module)["__spec__"] = spec  # torch's modules of settings refuse an attribute
    return spec


class _Code:
    """The code of a deferred module, to be run once; its ``__getattr__`` until then."""

    def __init__(self, module: ModuleType, loader: Loader) -> None:
        self._module, self._loader = module, loader
        self._thread: int | None = None  # the one that runs it

    def __call__(self, name: str) -> object:
        """Return an attribute that the module does not have yet."""
        home = self._module.__name__
        if self._thread is None and name not in _PROBED:
            names, parts, *_ = DEFERRED[home]
            if name in names:
                return names[name]()
            if name in parts:
                return importlib.import_module(f"{home}.{name}")
        if self._thread != threading.get_ident() and name not in _PROBED:
            self.run()
            if not is_deferred(home):
                return getattr(self._module, name)
        raise AttributeError(f"module '{home}' has no attribute '{name}'", name=name)

    def run(self) -> None:
        """Run the code of the deferred packages around the module, then its own.

        Does nothing where it has run, or is running further up in this thread.
        """
        name = self._module.__name__
        for package in _packages_of(name):
            if code := _code_of(package):
                code.run()
        # importlib's own lock: two threads that import parts of each other's modules do not wait
        # for ever, as they would with another.
        with suppress(_bootstrap._DeadlockError), _bootstrap._ModuleLockManager(name):
            if self._thread is not None or not is_deferred(name):
                return
            self._thread = threading.get_ident()
            try:
                with _errors_go_to_a_file():
                    self._loader.exec_module(self._module)
            finally:
                self._thread = None
            if is_deferred(name):  # unless the code brought its own __getattr__
                del self._module.__getattr__


@contextmanager
def _errors_go_to_a_file() -> Iterator[None]:
    """Let code run that needs the number of the error stream's file.

    Megatron-Core's inference enables Python's fault handler when it is imported, and a stream that
    is captured in memory has no number. Where the code runs late, nobody expects that there.
    """
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        with redirect_stderr(sys.__stderr__):
            yield
    else:
        yield


def _enter_code(module: ModuleType, loader: Loader) -> None:
    module.__getattr__ = _Code(module, loader)  # type: ignore[method-assign]


def _code_of(name: str) -> _Code | None:
    """The code of a deferred module that has not run to its end."""
    code = vars(sys.modules[name]).get("__getattr__") if name in sys.modules else None
    return code if isinstance(code, _Code) else None


def _packages_of(name: str) -> Iterator[str]:
    """The packages that a module lies in, from the outermost inwards."""
    return accumulate(name.split(".")[:-1], lambda outer, inner: f"{outer}.{inner}")


def _run_before(name: str) -> None:
    """Run what must have run when a module is imported."""
    for package in _packages_of(name):
        if (code := _code_of(package)) is None:
            continue
        deferral = DEFERRED[package]
        if name.removeprefix(f"{package}.").partition(".")[0] not in deferral.parts:
            code.run()
        elif deferral.first not in ("", name) and deferral.first not in sys.modules:
            importlib.import_module(deferral.first)


def _compile_at_first_call(jit: Any) -> None:
    """Let Megatron-Core's small fused kernels meet ``torch.compile`` when they are called.

    It compiles them only then anyway, but imports TorchDynamo and Inductor when it is handed a
    function.
    """
    import torch

    if jit.jit_fuser is torch.compile:
        jit.jit_fuser = fuse_at_first_call


_UNFUSED: WeakKeyDictionary[Callable[..., Any], Callable[..., Any]] = WeakKeyDictionary()


def fuse_at_first_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that compiles ``function`` when it is first called.

    Args:
        function: a function of tensors, which :func:`unfused` gives back.
    """
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def fused(*args: Any, **kwargs: Any) -> Any:
        import torch

        if torch.compiler.is_compiling():  # the caller's graph takes it in
            return function(*args, **kwargs)
        if not compiled:
            compiled.append(torch.compile(function))
        return compiled[0](*args, **kwargs)

    _UNFUSED[fused] = function
    return fused


def unfused(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return what :func:`fuse_at_first_call` was given; None where it did not make the function."""
    return _UNFUSED.get(function)


def _run_waiting(name: str) -> Callable[[ModuleType], None]:
    """Return a function that runs the code of a deferred module where it waits."""

    def run(module: ModuleType) -> None:
        del module
        if code := _code_of(name):
            code.run()

    return run


def _free_pickler_at_exit(module: ModuleType) -> None:
    """Free a pickler over ``/dev/null`` while Python still keeps silent about open files.

    Left to the last moments of the process, it prints a warning behind every command's output.
    """
    atexit.register(vars(module).pop, "_IPC_PICKLER", None)


# What follows when a module's code has run.
_AFTERWARDS: dict[str, Callable[[ModuleType], None]] = {
    "nvidia_resiliency_ext.fault_tolerance.utils": _free_pickler_at_exit,
    "megatron.core.jit": _compile_at_first_call,
    **{name: _run_waiting(waits) for waits, each in DEFERRED.items() for name in each.after},
}


def _run_with_what_follows(module: ModuleType, loader: Loader) -> None:
    loader.exec_module(module)
    _AFTERWARDS[module.__name__](module)
