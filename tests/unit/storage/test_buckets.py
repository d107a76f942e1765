"""Objects on a real S3 server."""

from __future__ import annotations

import os
from datetime import timedelta

import fsspec
import pytest

from nemo_cosmos.errors import MissingFileError, ServiceError
from nemo_cosmos.storage import (
    buckets,
    delete_object,
    fetch_object,
    find_object,
    list_objects,
    open_url,
    put_object,
    read_ranges,
    stamp_of,
    urls,
    write_bytes,
)

MIB = 1 << 20


@pytest.fixture
def few_tries(monkeypatch):
    retry = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    monkeypatch.setitem(urls.BUCKET_OPTIONS, "retry_config", retry)


@pytest.mark.parametrize("name", ["a.mp4", "a b/ü.mp4", "st*r?#%41 [1]~+.mp4", "q'\"|^{}.mp4"])
def test_an_object_comes_back_as_it_was_put(bucket, tmp_path, name):
    url = f"{bucket}/folder/{name}"
    (tmp_path / "here").write_bytes(b"content")
    put = put_object(tmp_path / "here", url)
    assert put == find_object(url) and put.url == url and put.size_bytes == 7
    assert list(list_objects(bucket)) == list(list_objects(f"{bucket}/folder/")) == [put]
    fetch_object(put, tmp_path / "there" / name.rpartition("/")[2])
    assert (tmp_path / "there" / name.rpartition("/")[2]).read_bytes() == b"content"
    delete_object(url)
    assert find_object(url) is None and not list(list_objects(bucket))


def test_large_objects_travel_in_parts(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "PART_BYTES", 5 * MIB)
    content = os.urandom(11 * MIB)
    (tmp_path / "here").write_bytes(content)
    put = put_object(tmp_path / "here", f"{bucket}/large")
    fetch_object(put, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == content


def test_what_opens_files_opens_objects(bucket):
    url = f"{bucket}/a/file"
    write_bytes(url, b"0123456789")
    with open_url(url) as handle:
        handle.seek(3)
        assert handle.read(4) == b"3456"
    with open_url(url, "rt") as handle:
        assert handle.read() == "0123456789"
    stamp = stamp_of(url)
    assert stamp.size_bytes == 10 and stamp.mtime_ns > 0
    assert read_ranges(url, stamp, [(1, 2), (8, 2)]) == [b"12", b"89"]


def test_a_folder_is_not_its_namesake(bucket):
    for name in ("raw/a", "raw/deep/b", "rawer/c"):
        write_bytes(f"{bucket}/{name}", b"x")
    deep = sorted(item.url for item in list_objects(f"{bucket}/raw"))
    assert deep == [f"{bucket}/raw/a", f"{bucket}/raw/deep/b"]
    assert [item.url for item in list_objects(f"{bucket}/raw", deep=False)] == deep[:1]


def test_empty_object(bucket, tmp_path):
    write_bytes(f"{bucket}/empty", b"")
    found = find_object(f"{bucket}/empty")
    fetch_object(found, tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("size", [0, 5])
def test_an_object_that_vanished(bucket, tmp_path, size):
    write_bytes(f"{bucket}/a", b"x" * size)
    found = find_object(f"{bucket}/a")
    delete_object(f"{bucket}/a")
    with pytest.raises(MissingFileError, match="no such object") as caught:
        fetch_object(found, tmp_path / "a")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    with pytest.raises(MissingFileError, match="no such object"):
        open_url(f"{bucket}/a")


def test_an_object_that_was_replaced_while_it_was_wanted(bucket, tmp_path):
    write_bytes(f"{bucket}/a", b"first")
    found = find_object(f"{bucket}/a")
    write_bytes(f"{bucket}/a", b"other")
    with pytest.raises(MissingFileError, match="replaced"):
        fetch_object(found, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises(MissingFileError, match="NoSuchBucket") as caught:
        list(list_objects("s3://no-such-bucket/folder"))
    assert "no-such-bucket" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("user", "secret"), [("writer", "wrong"), ("nobody", "secret")])
def test_wrong_credentials(bucket, monkeypatch, tmp_path, user, secret):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # they keep the right ones
    (tmp_path / "here").write_bytes(b"x")
    for ask in (
        lambda: list(list_objects(bucket)),
        lambda: find_object(f"{bucket}/a"),
        lambda: put_object(tmp_path / "here", f"{bucket}/a"),
        lambda: open_url(f"{bucket}/a"),
    ):
        with pytest.raises(MissingFileError, match="refused") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_who_may_only_read_is_told_so(bucket, monkeypatch, tmp_path):
    write_bytes("s3://shared/a", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    (tmp_path / "here").write_bytes(b"x")
    assert find_object("s3://shared/a").size_bytes == 1
    with pytest.raises(MissingFileError, match="Access to 's3://shared/b' is refused"):
        put_object(tmp_path / "here", "s3://shared/b")


def test_downloads_survive_cut_connections(cutting_proxy, bucket, tmp_path):
    content = os.urandom(3 * MIB)
    (tmp_path / "here").write_bytes(content)
    put = put_object(tmp_path / "here", f"{bucket}/a")
    cutting_proxy.cut(times=3, after_bytes=MIB)
    fetch_object(put, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == content
    assert cutting_proxy.num_cut == 3


def test_uploads_survive_cut_connections(cutting_proxy, bucket, tmp_path):
    content = os.urandom(3 * MIB)
    (tmp_path / "here").write_bytes(content)
    cutting_proxy.cut(times=2, after_bytes=MIB)
    fetch_object(put_object(tmp_path / "here", f"{bucket}/a"), tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == content
    assert cutting_proxy.num_cut == 2


@pytest.mark.parametrize("size_mib", [3, 12])
def test_a_truncated_upload_leaves_what_was_there(
    cutting_proxy, bucket, tmp_path, few_tries, monkeypatch, size_mib
):
    monkeypatch.setattr(buckets, "PART_BYTES", 5 * MIB)
    write_bytes(f"{bucket}/a", b"before")
    before = find_object(f"{bucket}/a")
    (tmp_path / "here").write_bytes(os.urandom(size_mib * MIB))
    cutting_proxy.cut(times=1000, after_bytes=MIB)
    with pytest.raises(ServiceError, match="gave no answer") as caught:
        put_object(tmp_path / "here", f"{bucket}/a")
    assert "\n" not in str(caught.value)
    cutting_proxy.cut(times=0, after_bytes=0)
    assert find_object(f"{bucket}/a") == before


def test_a_server_that_is_away(cutting_proxy, bucket, few_tries):
    cutting_proxy.close()
    with pytest.raises(ServiceError, match="run the same command again"):
        list(list_objects(bucket))
