"""The toy model, importable by every test of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from nemo_cosmos.platform import install_cpu_backend


@pytest.fixture(autouse=True, scope="session")
def backend() -> None:
    """Callbacks call torch.cuda, as they do in a run."""
    install_cpu_backend()


@pytest.fixture(scope="session")
def toy():
    name = "nemo_cosmos_toy"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("toy.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
