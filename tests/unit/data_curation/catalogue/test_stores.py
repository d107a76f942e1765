"""The same documents and the same answers from every database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import mongomock
import pymongo.errors
import pytest

from data_curation.catalogue import Catalogue, MongoStore, SQLiteStore, open_catalogue
from data_curation.catalogue.documents import Collection
from nemo_cosmos.errors import ConfigError, ServiceError, StorageFullError

WORDS = Collection("words", ("size", "facts.width"), text="text")
PLAIN = Collection("plain", ("size",))
DOCUMENTS = [
    {"_id": "c", "size": 3, "facts": {"width": 30}, "text": "A red block, pushed"},
    {"_id": "a", "size": 1, "facts": {"width": 10}, "text": "a blue block"},
    {"_id": "b", "size": 2, "facts": {"width": 20}, "text": "Redder than red"},
]


def ids(found) -> list[str]:
    return [each["_id"] for each in found]


@pytest.fixture
def filled(store):
    assert store.add(WORDS, DOCUMENTS) == 3
    return store


def test_documents_come_back_whole_and_in_order(filled):
    assert list(filled.find(WORDS)) == sorted(DOCUMENTS, key=lambda each: each["_id"])
    assert ids(filled.find(WORDS, limit=2)) == ["a", "b"]


def test_what_is_there_is_left_as_it_is(filled):
    assert filled.add(WORDS, [{"_id": "a", "size": 99}, {"_id": "d", "size": 4}]) == 1
    assert [each["size"] for each in filled.find(WORDS)] == [1, 2, 3, 4]


def test_more_than_one_batch(store):
    many = ({"_id": f"{number:05d}", "size": number} for number in range(2500))
    assert store.add(PLAIN, many) == 2500
    assert len(ids(store.find(PLAIN, {"size": {"$gte": 1000}}))) == 1500


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({"size": 2}, ["b"]),
        ({"_id": {"$in": ["c", "a", "z"]}}, ["a", "c"]),
        ({"_id": {"$in": []}}, []),
        ({"size": {"$gt": 1, "$lte": 3}}, ["b", "c"]),
        ({"size": {"$ne": 2}}, ["a", "c"]),
        ({"facts.width": {"$lt": 30}}, ["a", "b"]),
        ({"size": {"$gte": 2}, "facts.width": 30}, ["c"]),
    ],
)
def test_conditions(filled, where, wanted):
    assert ids(filled.find(WORDS, where)) == wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("block", ["a", "c"]), ("RED block!", ["c"]), ("red", ["b", "c"]), ("green", [])],
)
def test_all_words_must_be_there_and_whole(filled, words, wanted):
    assert ids(filled.find(WORDS, words=words)) == wanted


def test_marks_change_only_what_they_name(filled):
    filled.mark(WORDS, ["a", "b"], {"deleted": "today"})
    assert [each.get("deleted") for each in filled.find(WORDS)] == ["today", "today", None]
    assert ids(filled.find(WORDS, words="blue")) == ["a"]


@pytest.mark.parametrize("field", ["size') OR 1=1 --", "", "a..b", "$where"])
def test_a_field_cannot_smuggle_anything_in(filled, field):
    with pytest.raises(ConfigError, match="is no field"):
        list(filled.find(WORDS, {field: 1}))


def test_unknown_comparisons_and_empty_searches(filled):
    with pytest.raises(ConfigError, match="no comparison"):
        list(filled.find(WORDS, {"size": {"$where": 1}}))
    with pytest.raises(ConfigError, match="no word"):
        list(filled.find(WORDS, words="?!"))
    with pytest.raises(ConfigError, match="cannot be searched"):
        list(filled.find(PLAIN, words="red"))


def test_indexes_are_made_by_the_program(tmp_path: Path):
    SQLiteStore(tmp_path / "c.db").add(WORDS, DOCUMENTS)
    with sqlite3.connect(tmp_path / "c.db") as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'index'"
        names = {name for (name,) in connection.execute(query)}
        plan = " ".join(
            row[3]
            for row in connection.execute(
                "EXPLAIN QUERY PLAN SELECT doc FROM words WHERE json_extract(doc, '$.size') = 1"
            )
        )
    assert {"words_size", "words_facts.width"} <= names
    assert "words_size" in plan
    client = mongomock.MongoClient()
    MongoStore("mongodb://nowhere", client=client).add(WORDS, DOCUMENTS)
    made = client.get_default_database("nemo_cosmos")["words"].index_information()
    assert {"size_1", "facts.width_1"} <= set(made)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a catalogue. " * 50)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is not a catalogue"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_full_disk_keeps_what_was_there(tmp_path: Path):
    store = SQLiteStore(tmp_path / "c.db")
    store.add(PLAIN, [{"_id": "old", "size": 1}])
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    big = ({"_id": str(number), "size": "x" * 5000} for number in range(50))
    with pytest.raises(StorageFullError, match="No space left"):
        store.add(PLAIN, big)
    assert ids(store.find(PLAIN)) == ["old"]


FULL = """
import pathlib, resource, sys
from data_curation.catalogue import SQLiteStore
from data_curation.catalogue.documents import Collection
from nemo_cosmos.errors import StorageFullError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    store = SQLiteStore(pathlib.Path(sys.argv[1]))
    store.add(Collection("plain"), [{"_id": "a", "size": "x" * 90_000}])
except StorageFullError as error:
    print(error)
"""


@pytest.mark.parametrize("limit_bytes", [0, 8192, 65536])
def test_files_that_may_not_grow_are_a_full_disk(tmp_path: Path, limit_bytes):
    command = [sys.executable, "-c", FULL, str(tmp_path / "c.db"), str(limit_bytes)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("No space left while writing the catalogue")


def test_a_server_that_does_not_answer_is_one_clear_error():
    class Silent:
        def get_default_database(self, name):
            return None

        @property
        def admin(self):
            raise pymongo.errors.ServerSelectionTimeoutError("nobody there")

    with pytest.raises(ConfigError, match="No MongoDB answers"):
        MongoStore("mongodb://nowhere", client=Silent())


def test_a_server_that_goes_away_is_one_clear_error(monkeypatch):
    store = MongoStore("mongodb://nowhere", client=mongomock.MongoClient())
    store.add(WORDS, DOCUMENTS)

    def gone(*_, **__):
        raise pymongo.errors.AutoReconnect("connection closed")

    for name in ("insert_many", "find", "update_many"):
        monkeypatch.setattr(mongomock.Collection, name, gone)
    for act in (
        lambda: store.add(WORDS, [{"_id": "z"}]),
        lambda: list(store.find(WORDS)),
        lambda: store.mark(WORDS, ["a"], {"deleted": "today"}),
    ):
        with pytest.raises(ServiceError, match=r"connection closed.*run the same command again"):
            act()


def test_a_location_chooses_the_database(tmp_path: Path, monkeypatch):
    with open_catalogue(tmp_path / "new" / "c.db") as opened:
        assert isinstance(opened, Catalogue) and isinstance(opened.store, SQLiteStore)
    monkeypatch.setattr("pymongo.MongoClient", lambda url, **options: mongomock.MongoClient())
    with open_catalogue("mongodb://db/curation") as opened:
        assert isinstance(opened.store, MongoStore)
