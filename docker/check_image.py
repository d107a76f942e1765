"""Import every module of the project, as the last step of building an image.

Fails where a module does not import, so that an image without one of its packages is never tagged::

    /opt/venv/bin/python docker/check_image.py
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator

PACKAGES = ("nemo_cosmos", "data_curation", "post_training", "recipes")
REPORTED = ("torch", "numpy", "nemo-toolkit", "megatron-core", "transformer-engine", "nemo-cosmos")


def modules() -> Iterator[str]:
    """Yield the names of all modules, without importing them."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            yield package  # its import says what is wrong
            continue
        yield package
        yield from _inside(list(spec.submodule_search_locations), f"{package}.")


def _inside(folders: list[str], prefix: str) -> Iterator[str]:
    for found in pkgutil.iter_modules(folders, prefix):
        if found.name.endswith(".__main__"):  # runs the command line
            continue
        yield found.name
        if found.ispkg:
            name = found.name.removeprefix(prefix)
            yield from _inside([f"{folder}/{name}" for folder in folders], f"{found.name}.")


def failures() -> dict[str, str]:
    """Import all modules; return what failed, by module."""
    found = {}
    for name in modules():
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - each is a reason to refuse the image
            found[name] = f"{type(error).__name__}: {error}"
    return found


def version_of(distribution: str) -> str:
    """Return the installed release, or that there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> int:
    """Report the versions and what does not import; return the exit code."""
    found = failures()
    print(", ".join(f"{name} {version_of(name)}" for name in REPORTED))
    for name, reason in found.items():
        print(f"{name} does not import: {reason}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
