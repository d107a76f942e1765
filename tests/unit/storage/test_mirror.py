"""A local folder and its twin in a bucket."""

from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError, MissingFileError, NemoCosmosError
from nemo_cosmos.storage import (
    Mirrored,
    find_object,
    list_objects,
    mirror,
    mirror_folder,
    open_url,
    write_bytes,
)

LAST = "summary.json"


@pytest.fixture
def folder(tmp_path):
    for name in ("v0/a.tar", "v0/b.tar", LAST, "metrics.jsonl", ".work/x", "v0/.tmp-c"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "run"


def contents(url):
    found = {}
    for item in list_objects(url):
        with open_url(item.url, "rt") as handle:
            found[item.url.removeprefix(f"{url}/")] = handle.read()
    return found


def test_the_twin_holds_what_the_folder_shows(bucket, folder):
    told = []
    url = f"{bucket}/set"
    leave_out = ("metrics.jsonl",)
    done = mirror_folder(folder, f"{url}/", LAST, leave_out, lambda *count: told.append(count))
    assert done == Mirrored(num_put=3, num_kept=0, num_deleted=0)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert contents(url) == {name: name for name in ("v0/a.tar", "v0/b.tar", LAST)}


def test_only_what_differs_is_put_again(bucket, folder):
    mirror_folder(folder, bucket, LAST)
    assert mirror_folder(folder, bucket, LAST) == Mirrored(0, 4, 0)
    (folder / "v0" / "a.tar").write_text("other")
    (folder / "v0" / "b.tar").unlink()
    assert mirror_folder(folder, bucket, LAST) == Mirrored(num_put=2, num_kept=1, num_deleted=1)
    assert contents(bucket)["v0/a.tar"] == "other" and "v0/b.tar" not in contents(bucket)


def test_what_someone_else_changed_or_removed_is_put_again(bucket, folder):
    mirror_folder(folder, bucket, LAST)
    before = contents(bucket)
    write_bytes(f"{bucket}/v0/a.tar", b"damaged")
    mirror.delete_object(f"{bucket}/v0/b.tar")
    assert mirror_folder(folder, bucket, LAST).num_put == 3
    assert contents(bucket) == before


@pytest.mark.parametrize("dies_at", ["put", "put_then_die", "delete"])
def test_the_last_file_is_there_only_with_all_the_rest(bucket, folder, monkeypatch, dies_at):
    mirror_folder(folder, bucket, LAST)
    (folder / "v0" / "b.tar").unlink()
    (folder / "v0" / "c.tar").write_text("new")

    class Killed(BaseException):
        pass

    put = mirror.put_object

    def die(*arguments):
        if dies_at == "put_then_die":
            put(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        if dies_at == "delete":
            delete = mirror.delete_object
            patch.setattr(
                mirror, "delete_object", lambda url: delete(url) if LAST in url else die()
            )
        else:
            patch.setattr(mirror, "put_object", die)
        with pytest.raises(Killed):
            mirror_folder(folder, bucket, LAST)
    assert find_object(f"{bucket}/{LAST}") is None
    (folder / "v0" / "c.tar").rename(folder / "v0" / "d.tar")
    mirror_folder(folder, bucket, LAST)
    assert sorted(contents(bucket)) == ["metrics.jsonl", LAST, "v0/a.tar", "v0/d.tar"]


def test_nothing_of_others_is_touched(bucket, folder):
    write_bytes(f"{bucket}/raw/a.mp4", b"mine")
    with pytest.raises(ConfigError, match="is not empty"):
        mirror_folder(folder, bucket, LAST)
    assert list(contents(bucket)) == ["raw/a.mp4"]
    mirror_folder(folder, f"{bucket}/set", LAST)  # beside it there is room
    write_bytes(f"{bucket}/set/note.txt", b"later")
    mirror_folder(folder, f"{bucket}/set", LAST)
    assert contents(bucket)["set/note.txt"] == "later"


def test_who_may_not_write_learns_it(bucket, folder, monkeypatch):
    write_bytes("s3://shared/a", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    with pytest.raises(MissingFileError, match="refused") as caught:
        mirror_folder(folder, "s3://shared/set", LAST)
    assert isinstance(caught.value, NemoCosmosError)
