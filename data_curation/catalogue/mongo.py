"""Documents in MongoDB, for a catalogue that many machines share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from data_curation.catalogue.documents import Collection, Document, Where, checked, words_of
from nemo_cosmos.errors import ConfigError, ServiceError
from nemo_cosmos.platform import require

_DATABASE = "nemo_cosmos"
_BATCH = 1000
_DUPLICATE_KEY = 11000


class MongoStore:
    """Documents in the database that a URL names (``mongodb://host/name``).

    Args:
        url: the server's URL; without a database's name, ``nemo_cosmos`` is used.
        client: takes the place of pymongo's, for a server that is reached otherwise.

    Raises:
        MissingDependencyError: pymongo is not installed.
        ConfigError: no server answers.
        ServiceError: every method raises it if the server fails later.
    """

    def __init__(self, url: str, client: Any = None) -> None:
        pymongo = require("pymongo")
        self._client = client or pymongo.MongoClient(url, serverSelectionTimeoutMS=5000)
        try:
            self._database = self._client.get_default_database(_DATABASE)
            self._client.admin.command("ping")
        except pymongo.errors.PyMongoError as error:
            raise ConfigError(
                f"No MongoDB answers at the catalogue's URL: {error}. Check that the server runs "
                "and that user and password in the URL are right, or leave the URL out to use "
                "the embedded database."
            ) from error
        self._errors = pymongo.errors
        self._ready: set[str] = set()

    def add(self, collection: Collection, documents: Iterable[Document]) -> int:
        """Add what is new, in batches; what was added before an error stays."""
        num_new, batch = 0, []
        with self._explained():
            table = self._table(collection)
            for document in documents:
                batch.append(dict(document))
                if len(batch) == _BATCH:
                    num_new += self._insert(table, batch)
                    batch = []
            return num_new + (self._insert(table, batch) if batch else 0)

    def find(
        self,
        collection: Collection,
        where: Where | None = None,
        *,
        words: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Document]:
        """See :class:`data_curation.catalogue.documents.DocumentStore`."""
        wanted: dict[str, Any] = {}
        for field, operator, value in checked(where):
            given = list(value) if operator == "$in" else value
            wanted.setdefault(field, {})[operator] = given
        if words is not None:
            if collection.text is None:
                raise ConfigError(f"Documents of '{collection.name}' cannot be searched by words.")
            # A whole-word match of each, as the embedded database does; MongoDB's own text search
            # would match other forms of the words, and either of them.
            wanted["$and"] = [
                {collection.text: {"$regex": rf"\b{re.escape(word)}\b", "$options": "i"}}
                for word in words_of(words)
            ]
        with self._explained():
            yield from self._table(collection).find(wanted).sort("_id", 1).limit(limit or 0)

    def mark(self, collection: Collection, ids: Iterable[str], changes: Mapping[str, Any]) -> None:
        """See :class:`data_curation.catalogue.documents.DocumentStore`."""
        with self._explained():
            wanted = {"_id": {"$in": list(ids)}}
            self._table(collection).update_many(wanted, {"$set": dict(changes)})

    def close(self) -> None:
        """Let go of the server."""
        self._client.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what goes wrong at the server into a paragraph."""
        try:
            yield
        except self._errors.PyMongoError as error:
            raise ServiceError(
                f"The catalogue's MongoDB failed: {error}. Shards and reports are not touched by "
                "that. When the server is well again, run the same command again: it adds what is "
                "missing."
            ) from error

    def _table(self, collection: Collection) -> Any:
        table = self._database[collection.name]
        if collection.name not in self._ready:
            for field in collection.indexes:
                table.create_index(field)
            self._ready.add(collection.name)
        return table

    def _insert(self, table: Any, batch: list[Document]) -> int:
        """Insert a batch; documents that are there already are left as they are."""
        try:
            return len(table.insert_many(batch, ordered=False).inserted_ids)
        except self._errors.BulkWriteError as error:
            others = [e for e in error.details["writeErrors"] if e.get("code") != _DUPLICATE_KEY]
            if others:
                raise
            return int(error.details["nInserted"])
