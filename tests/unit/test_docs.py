"""The pages name files and modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nemo_cosmos

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("nemo_cosmos", "data_curation", "post_training", "recipes")
ROOMS = sorted(path.name for path in (ROOT / "nemo_cosmos").iterdir() if path.is_dir())
PATH = re.compile(
    rf"`((?:{'|'.join([*PACKAGES, 'tests', 'benchmarks', 'conf', 'docs', *ROOMS])})/[\w./]+)`"
)
MODULE = re.compile(rf"`(?:python -m |import )?((?:{'|'.join(PACKAGES)})(?:\.[a-z_]+)+)`")
LINK = re.compile(r"\]\((?!https?:)([\w./-]+\.(?:md|png))\)")


def paths_of(text: str) -> set[str]:
    """Return paths below the repository, or below ``nemo_cosmos/``, that a page names."""
    # A path with a placeholder, such as models/*/presets.py, does not match.
    return {match.rstrip("/") for match in PATH.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page):
    missing = [
        path
        for path in paths_of(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists() and not (ROOT / "nemo_cosmos" / path).exists()
    ]
    assert not missing


@pytest.fixture(scope="module")
def sources() -> str:
    """All code, in which entry-point groups are named."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_exists(page, sources):
    missing = []
    for name in set(MODULE.findall(page.read_text(encoding="utf-8"))) - {"nemo_cosmos.json"}:
        parts = name.split(".")
        # The last part may be an attribute of a module, or the name an entry-point group.
        places = [ROOT / "/".join(parts[:length]) for length in range(2, len(parts) + 1)]
        found = any(place.with_suffix(".py").exists() or place.is_dir() for place in places)
        found |= len(parts) == 2 and parts[1] in nemo_cosmos.__all__  # at the front door
        if not found and f'"{name}"' not in sources:
            missing.append(name)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
