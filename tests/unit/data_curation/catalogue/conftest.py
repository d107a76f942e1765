"""Curated folders in miniature, and the same store tests on every database."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mongomock
import pytest

from data_curation.catalogue import Catalogue, DocumentStore, MongoStore, SQLiteStore
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import CuratedWriter

MONGO_VARIABLE = "NEMO_COSMOS_MONGO_URL"


class Clock:
    """A time that only moves when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, days: int) -> None:
        self.time += timedelta(days=days)


def mongo_server() -> MongoStore:
    """A database of its own on the server that the environment names."""
    url = os.environ.get(MONGO_VARIABLE)
    if not url:
        pytest.skip(f"{MONGO_VARIABLE} names no MongoDB server to test on")
    return MongoStore(f"{url.rstrip('/')}/nemo_cosmos_test_{uuid.uuid4().hex}")


@pytest.fixture(params=["sqlite", "mongomock", "mongo server"])
def store(request, tmp_path: Path) -> Iterator[DocumentStore]:
    if request.param == "sqlite":
        made: DocumentStore = SQLiteStore(tmp_path / "catalogue.db")
    elif request.param == "mongomock":
        made = MongoStore("mongodb://nowhere", client=mongomock.MongoClient())
    else:
        made = mongo_server()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(store, clock) -> Catalogue:
    return Catalogue(store, clock)


@pytest.fixture
def embedded(tmp_path: Path, clock) -> Iterator[Catalogue]:
    """On the embedded database alone, for what does not depend on the database."""
    with Catalogue(SQLiteStore(tmp_path / "embedded.db"), clock) as made:
        yield made


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(f"source {name}".encode() * 10)
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """What a curation run leaves: shards and ``summary.json``."""

    def make(name: str, contents: dict[str, str], **settings: float) -> Path:
        folder = tmp_path / name
        with CuratedWriter(folder) as writer:
            for number, (key, content) in enumerate(sorted(contents.items())):
                record = ClipRecord(
                    key=key,
                    source="a.mp4" if number % 2 == 0 else "b.mp4",
                    span_s=(0.0, 2.0 + number),
                    fps=10.0,
                    num_frames=20 + 10 * number,
                    width=640,
                    height=360 if number % 2 == 0 else 640,
                    caption=f"The arm pushes the {content} block",
                    caption_source="template",
                    scores={"motion": number / 10},
                    extra={"task": "push"},
                )
                writer.add(record, {"mp4": f"bytes of {content}".encode()})
        (folder / "summary.json").write_text(json.dumps({"settings": settings}))
        return folder

    return make
