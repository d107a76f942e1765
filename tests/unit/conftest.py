"""The toy model of training, importable by tests of several rooms."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy():
    name = "nemo_cosmos_toy"
    if name not in sys.modules:
        path = Path(__file__).parent / "training" / "toy.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
