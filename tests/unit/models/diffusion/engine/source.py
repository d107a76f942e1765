"""Transformer Engine's Python source, as a wheel without its compiled parts (0.7 MB).

    python tests/unit/models/diffusion/engine/source.py FOLDER

downloads the wheels of all versions, by pip and by hash; ``make install`` does so into
``.venv/sources``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

WHEELS = {
    "2.9.0": "953147ed4c490e54c9884bb0d876a1341f05c5c5b7d304bf61f4740f6faee5af",
    "2.12.0": "5d0539c520c39445c62feab9d1fab774ed2e27a576d0feac2086ce86e0bff7c4",
}
"""By version, the wheel's SHA-256: the oldest release that is supported, and the GPU image's."""


def wheel_of(version: str) -> str:
    """Return the name of a version's wheel."""
    return f"transformer_engine-{version}-py3-none-any.whl"


def download(version: str, folder: Path) -> Path:
    """Download a version's wheel, unless it is there, and return its path.

    Raises:
        CalledProcessError: pip could not; its ``stderr`` says why.
    """
    path = folder / wheel_of(version)
    if path.exists():
        return path
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(f"transformer-engine=={version} --hash=sha256:{WHEELS[version]}\n")
        requirement.flush()
        options = ("--quiet", "--no-deps", "--require-hashes", "--dest", str(folder))
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "-r", requirement.name],
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    return path


if __name__ == "__main__":
    for each in WHEELS:
        print(download(each, Path(sys.argv[1])))
