"""Text files are UTF-8 on every machine: where the locale is another, Python's default is not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("nemo_cosmos", "data_curation", "recipes", "post_training", "benchmarks")
TEXT_MODES = set("rwax+t")


def is_text_without_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text as the locale says."""
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    match call.func, call.args:
        case ast.Attribute(attr="read_text"), []:
            return True
        case ast.Attribute(attr="write_text"), [_]:
            return True
        case ast.Attribute(attr="open"), [ast.Constant(str(mode))]:
            return set(mode) <= TEXT_MODES
        case ast.Name(id="open"), [_]:
            return True
        case ast.Name(id="open"), [_, ast.Constant(str(mode))]:
            return set(mode) <= TEXT_MODES
    return False


def places(source: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and is_text_without_encoding(node):
            yield node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_names_its_encoding(folder):
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line in places(file.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("p.read_text()", 1),
        ("p.write_text(t)", 1),
        ("open(p, 'w')", 1),
        ("p.open('a')", 1),
        ("p.open('rb')", 0),
        ("p.read_text(encoding='utf-8')", 0),
        ("context.open()", 0),
        ("av.open('clip.mp4')", 0),
    ],
)
def test_the_search_finds_what_it_should(source, count):
    assert len(list(places(source))) == count
