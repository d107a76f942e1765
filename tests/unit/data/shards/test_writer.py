"""Shards: deterministic, atomic, complete, and refused with the name of what is wrong."""

from __future__ import annotations

import errno
import json
import tarfile

import numpy as np
import pytest

from nemo_cosmos.data.shards import open_shard
from nemo_cosmos.data.shards import writer as shards_module
from nemo_cosmos.data.shards.tar import index_tar
from nemo_cosmos.data.shards.writer import (
    CuratedWriter,
    ShardWriter,
    list_shards,
    read_samples,
    read_shard,
)
from nemo_cosmos.errors import MissingFileError, SampleError, StorageFullError

from ..conftest import npy


def tree(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.fixture
def written(tmp_path, make_record):
    """Five samples of a kilobyte in shards of two."""
    with ShardWriter(tmp_path / "s", max_bytes=3500) as writer:
        for number in range(5):
            writer.add(make_record(f"k{number}"), {"bin": bytes([number]) * 1000})
    return tmp_path / "s"


class TestWriter:
    def test_numbers_and_limits(self, written):
        assert tree(written) == [
            f"part_000000/00000{number}.{suffix}"
            for number in range(3)
            for suffix in ("idx", "tar")
        ]
        assert [len(read_shard(shard)) for shard in list_shards(written)] == [2, 2, 1]

    def test_a_sample_larger_than_the_limit_has_its_own_shard(self, tmp_path, make_record):
        with ShardWriter(tmp_path, max_bytes=10) as writer:
            writer.add(make_record("a"), {"bin": b"x" * 100})
            writer.add(make_record("b"), {})
        assert [len(read_shard(shard)) for shard in list_shards(tmp_path)] == [1, 1]

    def test_next_part_after_a_hundred(self, tmp_path, make_record, monkeypatch):
        monkeypatch.setattr(shards_module, "SHARDS_PER_PART", 2)
        with ShardWriter(tmp_path, max_bytes=1) as writer:
            for number in range(3):
                writer.add(make_record(f"k{number}"), {})
        assert writer.finished == [
            "part_000000/000000.tar",
            "part_000000/000001.tar",
            "part_000001/000000.tar",
        ]
        assert writer.num_samples == 3

    def test_later_writer_starts_a_new_part(self, written, make_record):
        with ShardWriter(written) as writer:
            writer.add(make_record("k0"), {})
        assert writer.finished == ["part_000001/000000.tar"]

    def test_bytes_depend_on_the_content_alone(self, tmp_path, make_record):
        contents = []
        for name in ("a", "b"):
            with ShardWriter(tmp_path / name) as writer:
                files = {"z.npy": b"1", "a.npy": b"2"}
                writer.add(make_record(), dict(reversed(files.items())) if name == "b" else files)
            contents.append((tmp_path / name / "part_000000" / "000000.tar").read_bytes())
        assert contents[0] == contents[1]

    def test_same_key_twice(self, tmp_path, make_record):
        with (
            pytest.raises(SampleError, match="'clip' was written"),
            ShardWriter(tmp_path) as writer,
        ):
            writer.add(make_record(), {})
            writer.add(make_record(), {})
        assert tree(tmp_path) == []

    def test_error_keeps_finished_shards_and_leaves_no_part_of_the_last(
        self, tmp_path, make_record
    ):
        with pytest.raises(RuntimeError), ShardWriter(tmp_path, max_bytes=1) as writer:
            writer.add(make_record("a"), {})
            writer.add(make_record("b"), {})
            raise RuntimeError
        assert tree(tmp_path) == ["part_000000/000000.idx", "part_000000/000000.tar"]

    def test_no_space_left(self, tmp_path, make_record, monkeypatch):
        real, calls = open_shard.add_member, []

        def add_until_full(archive, name, content):
            calls.append(name)
            if len(calls) > 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(archive, name, content)

        monkeypatch.setattr(open_shard, "add_member", add_until_full)
        with (
            pytest.raises(StorageFullError, match="No space left"),
            ShardWriter(tmp_path, max_bytes=1) as writer,
        ):
            for number in range(3):
                writer.add(make_record(f"k{number}"), {"bin": b"x"})
        assert tree(tmp_path) == ["part_000000/000000.idx", "part_000000/000000.tar"]
        assert [sample.key for sample in read_samples(tmp_path)] == ["k0"]

    def test_index_is_what_dali_reads(self, written):
        lines = (written / "part_000000" / "000000.idx").read_text().splitlines()
        assert lines[0] == "v1.2 2"
        suffix, offset, size, name = lines[1].split()[:4]
        assert (suffix, name) == ("bin", "k0.bin")
        content = (written / "part_000000" / "000000.tar").read_bytes()
        assert content[int(offset) : int(offset) + int(size)] == b"\0" * 1000

    def test_dali_reads_the_shards(self, written):
        pytest.importorskip("nvidia.dali")
        from nvidia.dali import fn, pipeline_def

        shard = written / "part_000000" / "000000.tar"

        @pipeline_def(batch_size=2, num_threads=1, device_id=None)
        def pipeline():
            return fn.readers.webdataset(
                paths=[str(shard)], index_paths=[str(shard.with_suffix(".idx"))], ext=["bin"]
            )

        built = pipeline()
        built.build()
        (output,) = built.run()
        assert [int(output.at(row)[0]) for row in range(2)] == [0, 1]

    # webdataset leaves the shard open until it is collected
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_webdataset_reads_the_shards(self, written, monkeypatch):
        webdataset = pytest.importorskip("webdataset")
        for name in (
            "RANK",
            "WORLD_SIZE",
        ):  # it would share the shards with ranks that are not there
            monkeypatch.delenv(name, raising=False)
        shard = str(written / "part_000000" / "000000.tar")
        samples = list(webdataset.WebDataset(shard, shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == ["k0", "k1"]
        assert samples[1]["bin"] == b"\1" * 1000


class TestCuratedLayout:
    def test_tree_is_that_of_cosmos_curate(self, curated):
        folder = "v0/resolution_lt_720/aspect_ratio_4_3/duration_0_5"
        assert tree(curated) == sorted(
            [
                *(
                    f"{folder}/{kind}/part_000000/00000{number}.{suffix}"
                    for kind in ("video", "metas")
                    for number in (0, 1)
                    for suffix in ("tar", "idx")
                ),
                f"{folder}/wdinfo.json",
                "v0/wdinfo_list.csv",
            ]
        )
        info = json.loads((curated / folder / "wdinfo.json").read_text())
        assert info == {
            "data_keys": ["video", "metas"],
            "chunk_size": 100,
            "data_list": ["part_000000/000000.tar", "part_000000/000001.tar"],
            "root": folder,
            "total_key_count": 3,
        }
        assert (curated / "v0" / "wdinfo_list.csv").read_text() == f"{folder}/wdinfo.json\n"

    def test_video_and_metas_make_one_sample(self, curated, mp4):
        samples = read_samples(curated, ("json", "mp4", "action.npy"))
        assert [sample.key for sample in samples] == ["clip-0", "clip-1", "clip-2"]
        assert samples[0].read("mp4") == mp4
        assert samples[0].array("action.npy").shape == (24, 7)
        samples[0].verify()

    def test_bins_are_chosen_by_the_record(self, tmp_path, make_record):
        with CuratedWriter(tmp_path) as writer:
            first = writer.add(make_record("a"), {"mp4": b"1"})
            second = writer.add(
                make_record("b", width=64, height=96, fps=2.0, span_s=(0, 12.5)), {"mp4": b"2"}
            )
        assert first.endswith("aspect_ratio_4_3/duration_0_5")
        assert second.endswith("aspect_ratio_3_4/duration_10_30")
        assert len((tmp_path / "v0" / "wdinfo_list.csv").read_text().splitlines()) == 2

    def test_second_run_adds_a_part(self, curated, make_record, mp4):
        with CuratedWriter(curated) as writer:
            folder = writer.add(make_record("later"), {"mp4": mp4})
        info = json.loads((curated / folder / "wdinfo.json").read_text())
        assert info["data_list"][-1] == "part_000001/000000.tar"
        assert info["total_key_count"] == 4

    def test_sample_without_mp4(self, tmp_path, make_record):
        with pytest.raises(SampleError, match="has no mp4"), CuratedWriter(tmp_path) as writer:
            writer.add(make_record(), {"json": b""})

    def test_error_in_the_middle_leaves_no_part(self, tmp_path, make_record):
        with pytest.raises(RuntimeError), CuratedWriter(tmp_path) as writer:
            writer.add(make_record(), {"mp4": b"x"})
            raise RuntimeError
        assert tree(tmp_path) == []

    def test_no_space_left_at_the_end_keeps_what_was_finished(
        self, curated, make_record, mp4, monkeypatch
    ):
        def full(*args):
            raise OSError(errno.ENOSPC, "No space left on device")

        before = tree(curated)
        with pytest.raises(StorageFullError), CuratedWriter(curated) as writer:
            writer.add(make_record("a"), {"mp4": mp4})
            writer.add(make_record("b", width=64, height=96), {"mp4": mp4})
            monkeypatch.setattr("nemo_cosmos.storage.atomic.os.fsync", full)
        assert tree(curated) == before
        assert len(read_samples(curated)) == 3

    def test_missing_metas(self, curated):
        for path in curated.rglob("metas/part_000000/000001.tar"):
            path.unlink()
        with pytest.raises(MissingFileError, match="metas/part_000000/000001"):
            read_samples(curated)

    def test_damaged_mp4_is_found_by_its_checksum(self, curated):
        path = next(curated.rglob("video/part_000000/000001.tar"))
        content = bytearray(path.read_bytes())
        content[2000] ^= 1
        path.write_bytes(content)
        with pytest.raises(SampleError, match=r"sample 'clip-2' .* has sha256"):
            read_samples(curated)[2].verify()


class TestReader:
    def test_sample_without_json(self, tmp_path):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            (tmp_path / "x.mp4").write_bytes(b"1")
            archive.add(tmp_path / "x.mp4", "x.mp4")
        with pytest.raises(SampleError, match=r"sample 'x' of '.*a\.tar' has no 'json' .*mp4"):
            read_samples(tmp_path)

    def test_missing_file_of_a_sample(self, written):
        with pytest.raises(SampleError, match=r"sample 'k0' .*no 'mp4' \(it has: bin, json\)"):
            read_samples(written)[0].read("mp4")

    @pytest.mark.parametrize("length", [300, 512, 700, 1536, 2500])
    def test_truncated_shard_is_named(self, written, length):
        path = written / "part_000000" / "000001.tar"
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(SampleError, match=r"000001\.tar' is truncated"):
            read_samples(written)

    def test_truncated_between_samples(self, written):
        path = written / "part_000000" / "000001.tar"
        last = index_tar(path)[-1]
        path.write_bytes(path.read_bytes()[: last.offset + 512])
        with pytest.raises(SampleError, match="no end mark"):
            read_samples(written)

    def test_truncated_after_it_was_opened(self, written):
        sample = read_samples(written)[0]
        path = written / "part_000000" / "000000.tar"
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(MissingFileError, match="has changed since it was indexed"):
            sample.read("bin")

    def test_truncated_while_it_is_read(self, written):
        first, second = read_samples(written)[:2]
        assert first.read("bin") == bytes(1000)
        path = written / "part_000000" / "000000.tar"
        path.write_bytes(path.read_bytes()[:2600])
        with pytest.raises(SampleError, match="truncated after it was opened"):
            second.read("bin")

    @pytest.mark.parametrize("content", [b"", b"no tar" * 200, bytes(range(256)) * 4])
    def test_no_tar(self, tmp_path, content):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(SampleError, match=r"x\.tar"):
            read_samples(tmp_path)

    def test_damaged_header(self, written):
        path = written / "part_000000" / "000000.tar"
        content = bytearray(path.read_bytes())
        content[3] ^= 0x01
        path.write_bytes(content)
        with pytest.raises(SampleError, match="wrong checksum"):
            read_samples(written)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(MissingFileError, match="no file or folder"):
            list_shards(tmp_path / "none")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(MissingFileError, match="holds no shard"):
            list_shards(tmp_path)

    def test_leftovers_of_a_killed_process_are_ignored(self, written):
        (written / "part_000000" / ".tmp-1234-000003.tar").write_bytes(b"half")
        assert len(list_shards(written)) == 3

    def test_single_tar(self, written):
        shard = written / "part_000000" / "000002.tar"
        assert [sample.key for sample in read_samples(shard)] == ["k4"]

    @pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_foreign_tars_with_long_names(self, tmp_path, make_record, kind):
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as archive:
            info = tarfile.TarInfo("folder/" * 20 + "clip.json")
            content = make_record().to_json()
            info.size = len(content)
            import io

            archive.addfile(info, io.BytesIO(content))
        (sample,) = read_samples(tmp_path)
        assert sample.record.key == "clip"

    def test_remote_shards(self, written):
        import fsspec

        memory = fsspec.filesystem("memory")
        memory.put(str(written), "/shards", recursive=True)
        try:
            samples = read_samples("memory://shards")
            assert [sample.key for sample in samples] == [f"k{number}" for number in range(5)]
            assert samples[3].read("bin") == b"\3" * 1000
        finally:
            memory.rm("/shards", recursive=True)

    def test_array_that_is_none(self, tmp_path, make_record):
        with ShardWriter(tmp_path) as writer:
            writer.add(make_record(), {"action.npy": b"no array", "good.npy": npy(np.ones(3))})
        (sample,) = read_samples(tmp_path)
        assert sample.array("good.npy").tolist() == [1, 1, 1]
        with pytest.raises(SampleError, match=r"'action\.npy' of sample 'clip'"):
            sample.array("action.npy")
