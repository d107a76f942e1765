"""Print what the project requires, with some of its extras: a layer of packages without our code.

    python docker/requirements.py curation eval > requirements.txt

Reads ``pyproject.toml`` of the working folder; imports nothing that is not Python's own.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path


def requirements(extras: Sequence[str]) -> list[str]:
    """Return the requirements of the project and of some extras, as pip reads them.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in known]:
        sys.exit(f"There is no extra '{unknown[0]}'; there are {', '.join(sorted(known))}.")
    return [*project["dependencies"], *(line for extra in extras for line in known[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
