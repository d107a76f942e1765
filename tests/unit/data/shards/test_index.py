"""Indexes: built once, kept beside the tar, and only believed for the tar they were made of."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards import index as shard_index
from nemo_cosmos.data.shards.index import load_index, stored_index
from nemo_cosmos.data.shards.tar import add_member
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import SampleError


@pytest.fixture
def shard(write_latents):
    (shard,) = list_shards(write_latents(count=4))
    return Path(shard)


@pytest.fixture
def builds(monkeypatch):
    """Which shards were walked through."""
    found = []
    real = shard_index._build

    def counting(name, stamps):
        found.append(Path(name).name)
        return real(name, stamps)

    monkeypatch.setattr(shard_index, "_build", counting)
    return found


def test_holds_places_and_shapes(shard):
    index = load_index(shard)
    assert index.keys == ["s0", "s1", "s2", "s3"]
    assert index.shape_N3.tolist() == [[17, 64, 96]] * 4
    assert index.latent_N4.tolist() == [[16, 3, 8, 12]] * 4
    content = shard.read_bytes()
    for suffix, member in index.members(2).items():
        assert Sample(index, 2).read(suffix) == content[member.offset :][: member.size_bytes]
    with tarfile.open(shard) as archive:
        assert {member.name for row in range(4) for member in index.members(row).values()} == set(
            archive.getnames()
        )


def test_is_built_once(shard, builds):
    first = load_index(shard)
    again = load_index(shard)
    assert builds == ["000000.tar"]
    assert Path(f"{shard}.index").exists()
    assert again.keys == first.keys
    assert again.members(3) == first.members(3)
    assert again.stamps == first.stamps


@pytest.mark.parametrize("change", ["time", "size"])
def test_of_another_tar_is_built_again(shard, builds, change):
    load_index(shard)
    if change == "time":
        os.utime(shard, ns=(1, 1))
    else:
        with tarfile.open(shard, "a") as archive:
            archive.add(__file__, "s9.py")
    assert ("s9" in load_index(shard).keys) == (change == "size")
    assert len(builds) == 2
    load_index(shard)
    assert len(builds) == 2


def test_a_change_of_either_tar_of_a_pair_is_noticed(curated, builds):
    shard = list_shards(curated)[0]
    load_index(shard)
    os.utime(shard.replace("/video/", "/metas/"), ns=(1, 1))
    load_index(shard)
    assert len(builds) == 2


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"no index" * 100])
def test_damaged_index_is_built_again(shard, builds, caplog, content):
    load_index(shard)
    Path(f"{shard}.index").write_bytes(content)
    assert len(load_index(shard)) == 4
    assert "is damaged and is built again" in caplog.text
    assert len(stored_index(str(shard))) == 4


def test_index_of_another_version_is_built_again(shard, builds, monkeypatch):
    load_index(shard)
    monkeypatch.setattr(shard_index, "_VERSION", 99)
    load_index(shard)
    assert len(builds) == 2


def test_folder_that_cannot_be_written_to(shard, builds, monkeypatch):
    def refuse(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr(shard_index, "write_bytes", refuse)
    assert len(load_index(shard)) == 4
    assert not Path(f"{shard}.index").exists()


def test_reading_samples_alone_leaves_no_trace(shard):
    load_index(shard, keep=False)
    assert not Path(f"{shard}.index").exists()


def test_samples_with_different_files(tmp_path, make_record):
    from nemo_cosmos.data.shards.writer import ShardWriter

    with ShardWriter(tmp_path) as writer:
        writer.add(make_record("a"), {"x": b"1"})
        writer.add(make_record("b"), {"y": b"22"})
    index = load_index(list_shards(tmp_path)[0])
    assert [sorted(index.members(row)) for row in (0, 1)] == [["json", "x"], ["json", "y"]]
    assert (index.row_without("x"), index.row_without("json"), index.row_without("z")) == (
        1,
        None,
        0,
    )
    assert Sample(index, 1).read_files(("y", "json"))[0] == b"22"
    with pytest.raises(SampleError, match="has no 'x'"):
        Sample(index, 1).read("x")


def test_shapes_of_what_is_no_clip_are_zero(tmp_path):
    import io

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in {
            "a.json": b"[]",
            "a.latent.safetensors": b"short",
            "b.json": b'{"num_frames": 5, "height": 8, "width": 1e999}',
            "b.latent.safetensors": b"\x10" + bytes(7) + b'{"latent": null}',
            "c.txt": b"",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    index = load_index(tmp_path / "a.tar")
    assert index.keys == ["a", "b", "c"]
    assert not index.shape_N3.any()
    assert not index.latent_N4.any()


def test_a_file_that_a_tar_holds_twice_is_refused(tmp_path, make_record):
    path = tmp_path / "000000.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for content in (b"one", b"two"):
            add_member(archive, "clip.mp4", content)
    with pytest.raises(SampleError, match=r"holds 'clip\.mp4' twice"):
        load_index(path)
