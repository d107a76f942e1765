"""Benchmarks import what there is: no other test runs them whole."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("nemo_cosmos", "data_curation", "post_training", "recipes")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name
)
def test_a_benchmark_imports_what_there_is(path: Path) -> None:
    imports = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    for module, name in imports:
        if module.split(".")[0] in OURS:
            assert module_of(module), f"{path.name} imports {module}"
            assert name in names_in(module) or module_of(f"{module}.{name}"), f"{module}.{name}"


def module_of(name: str) -> Path | None:
    """The file of a module of ours."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def names_in(module: str) -> set[str]:
    """What a module binds, also by importing it."""
    file = module_of(module)
    assert file is not None
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # the tables of packages that import at first use
    return found
