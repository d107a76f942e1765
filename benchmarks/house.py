"""Count what can be counted of a code base's shape: sizes, docstrings, comments, types, phrases.

The figures say nothing about quality by themselves; they show where to look, and whether a change
of the house went the way that it was meant to. Prints one JSON line for each tree.

    python benchmarks/house.py [TREE ...] [--packages NAME ...] [--list phrases]
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("nemo_cosmos", "data_curation", "post_training", "recipes")
MOST_FILES = 16
"""Files that a folder holds at most before it is asked what it really holds."""

FRAGMENT = re.compile(r"^\s*\*{0,2}\w+(?: \([^)]*\))?: (?:of|as|for|from|in|by|to|at|on)\b", re.M)
"""An argument that is described without a noun, such as ``config: of the network``."""

PHRASES = re.compile(
    r"\bcannot be had\b|\bis to be had\b|\bshall\b|\banew\b|\bonce more\b|\bhas no say\b"
    r"|\bin silence\b|\bgo(?:es)? on\b|\bwent on\b|\btold\b|\btells\b|\bstands? in\b|\bas it is\b"
)
"""Turns of phrase that are not idiomatic technical English."""


def files_of(tree: Path, packages: tuple[str, ...]) -> list[Path]:
    """The Python files of the packages of a tree."""
    return sorted(file for package in packages for file in (tree / package).rglob("*.py"))


def functions_of(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def documented_of(module: ast.Module) -> tuple[int, int]:
    """How many modules, classes and functions have a docstring, and how many there are."""
    nodes = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sum(ast.get_docstring(node) is not None for node in nodes), len(nodes)


def docstrings_of(module: ast.Module) -> Iterator[str]:
    """Every docstring, and every string that stands alone below an assignment."""
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.value.value


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes every exception."""
    return handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    )


def comment_lines(text: str) -> int:
    """Lines with a comment, but for those that speak to a tool."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        token.type == tokenize.COMMENT
        and not re.match(r"#\s*(noqa|type:|pragma|ruff|!)", token.string)
        for token in tokens
    )


def count_file(text: str) -> Counter[str]:
    """The counts of one file."""
    module = ast.parse(text)
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions_of(module)]
    documented, definitions = documented_of(module)
    prose = "\n".join(docstrings_of(module))
    nodes = list(ast.walk(module))
    return Counter(
        lines=text.count("\n"),
        functions=len(lengths),
        functions_over_60=sum(length > 60 for length in lengths),
        functions_over_100=sum(length > 100 for length in lengths),
        documented=documented,
        definitions=definitions,
        comment_lines=comment_lines(text),
        any=sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes),
        broad_excepts=sum(isinstance(node, ast.ExceptHandler) and is_broad(node) for node in nodes),
        fragments=len(FRAGMENT.findall(prose)),
        phrases=len(PHRASES.findall(text)),
    )


def count_tree(tree: Path, packages: tuple[str, ...]) -> dict[str, Any]:
    """The figures of a tree."""
    texts = {file: file.read_text(encoding="utf-8") for file in files_of(tree, packages)}
    if not texts:
        raise SystemExit(f"'{tree}' has none of the packages {', '.join(packages)}.")
    total: Counter[str] = sum((count_file(text) for text in texts.values()), Counter())
    sizes = sorted(text.count("\n") for file, text in texts.items() if file.name != "__init__.py")
    folders = Counter(file.parent for file in texts if file.name != "__init__.py")
    tests = sum(file.read_text("utf-8").count("\n") for file in (tree / "tests").rglob("*.py"))
    lines = total["lines"]

    def per_1000(name: str) -> float:
        return round(1000 * total[name] / lines, 2)

    def percent(name: str, of: str) -> float:
        return round(100 * total[name] / max(total[of], 1), 1)

    return {
        "tree": tree.resolve().name,
        "files": len(sizes),
        "lines": lines,
        "lines_median_p90_max": [
            round(statistics.median(sizes)),
            sizes[int(0.9 * (len(sizes) - 1))],
            sizes[-1],
        ],
        "files_under_60_lines": sum(size < 60 for size in sizes),
        "files_over_400_lines": sum(size > 400 for size in sizes),
        "functions_over_60_percent": percent("functions_over_60", "functions"),
        "functions_over_100_percent": percent("functions_over_100", "functions"),
        "documented_percent": percent("documented", "definitions"),
        "comment_lines_percent": percent("comment_lines", "lines"),
        "any_per_1000_lines": per_1000("any"),
        "broad_excepts_per_1000_lines": per_1000("broad_excepts"),
        "fragment_arguments": total["fragments"],
        "unidiomatic_phrases": total["phrases"],
        "folders_over_16_files": {
            str(folder.relative_to(tree)): count
            for folder, count in sorted(folders.items())
            if count > MOST_FILES
        },
        "test_to_production_lines": round(tests / lines, 2),
    }


def list_places(tree: Path, packages: tuple[str, ...], pattern: re.Pattern[str]) -> None:
    """Print every place where a pattern matches, as ``file:line: text``."""
    for file in files_of(tree, packages):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                print(f"{file.relative_to(tree)}:{number}: {line.strip()}")


def main() -> None:
    """Parse the command line and print one JSON line for each tree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs="*", type=Path, default=[Path()])
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    parser.add_argument("--list", choices=("fragments", "phrases"))
    arguments = parser.parse_args()
    for tree in arguments.trees:
        if arguments.list:
            pattern = {"fragments": FRAGMENT, "phrases": PHRASES}[arguments.list]
            list_places(tree, tuple(arguments.packages), pattern)
        else:
            print(json.dumps(count_tree(tree, tuple(arguments.packages))))


if __name__ == "__main__":
    main()
