"""Other libraries are patched in ``nemo_cosmos/platform/patches`` and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[4]
PACKAGES = ("nemo_cosmos", "data_curation", "post_training", "recipes")
PATCHES = REPOSITORY / "nemo_cosmos" / "platform" / "patches"
OURS = (*PACKAGES, "__future__")


def foreign_names(tree: ast.AST) -> set[str]:
    """Names that a file binds to modules, classes or functions of other libraries."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [
                (alias.name, alias.asname or alias.name.split(".")[0]) for alias in node.names
            ]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [(node.module or "", alias.asname or alias.name) for alias in node.names]
        else:
            continue
        names |= {bound for module, bound in modules if module.split(".")[0] not in OURS}
    return names


def patches(source: str) -> list[int]:
    """Lines that set an attribute of what was imported from another library."""
    tree = ast.parse(source)
    names, lines = foreign_names(tree), []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("setattr", "delattr")
        ):
            targets = [ast.Attribute(node.args[0], "", ast.Store())]
        lines += [node.lineno for target in targets if _root(target, attribute=False) in names]
    return lines


def _root(node: ast.expr, attribute: bool) -> str | None:
    """The name that a chain of attributes begins with; "import_module(...)" counts as foreign."""
    if isinstance(node, ast.Attribute):
        return _root(node.value, attribute=True)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return "importlib" if attribute else None
    return node.id if attribute and isinstance(node, ast.Name) else None


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load = None",
        "from megatron.core import jit\njit.x.y = 1",
        "from megatron.core import jit\nsetattr(jit, 'x', 1)",
        "import sys\nsys.stdout = None",
        "import importlib\nimportlib.import_module('nemo.core').torch = 1",
    ],
)
def test_patches_are_noticed(source: str) -> None:
    assert patches(source) == [2]


def test_nothing_outside_the_patches_sets_an_attribute_of_another_library() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if PATCHES not in path.parents
        for line in patches(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"patch other libraries in nemo_cosmos/platform/patches: {found}"
