"""Documents in an embedded database, or in MongoDB: one small interface, the same answers.

A document is a JSON object with a text ``_id``. A condition is what MongoDB takes: a field to a
value, or to ``{"$gte": 0.5, "$lt": 2}``; a dot goes into an object (``scores.motion``).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, StorageFullError
from nemo_cosmos.storage import explained_when_full, is_full

Document = JsonObject
Where = Mapping[str, Any]

OPERATORS = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
"""Comparisons of a condition and how SQL writes them; ``$in`` takes a list."""

_FIELD = re.compile(r"_?[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_WORD = re.compile(r"\w+")
#: What SQLite says of a full disk, in which its log and the index of that cannot grow either.
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


@dataclass(frozen=True)
class Collection:
    """One kind of documents.

    Attributes:
        name: the collection's name.
        indexes: fields that are looked up often; the program makes an index of each.
        text: the field that is searched by words, if any.
    """

    name: str
    indexes: Sequence[str] = ()
    text: str | None = None


class DocumentStore(Protocol):
    """What the catalogue needs of a database.

    Documents are added once and never change in place, but for :meth:`mark`.
    """

    def add(self, collection: Collection, documents: Iterable[Document]) -> int:
        """Add the documents whose ``_id`` is new; return how many."""
        ...

    def find(
        self,
        collection: Collection,
        where: Where | None = None,
        *,
        words: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Document]:
        """Documents that meet all conditions and hold all words, in order of ``_id``."""
        ...

    def mark(self, collection: Collection, ids: Iterable[str], changes: Mapping[str, Any]) -> None:
        """Set top-level fields of some documents, such as when their file was deleted."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


def checked(where: Where | None) -> list[tuple[str, str, Any]]:
    """A condition as (field, operator, value).

    Raises:
        ConfigError: a field that cannot be one, or an unknown operator.
    """
    conditions = []
    for field, wanted in (where or {}).items():
        if not _FIELD.fullmatch(field):
            raise ConfigError(
                f"'{field}' is no field; expected a name such as width or scores.motion."
            )
        pairs = wanted.items() if isinstance(wanted, Mapping) else [("$eq", wanted)]
        for operator, value in pairs:
            if operator not in OPERATORS and operator != "$in":
                raise ConfigError(
                    f"'{operator}' is no comparison; expected {', '.join(OPERATORS)} or $in."
                )
            conditions.append((field, operator, value))
    return conditions


def words_of(text: str) -> list[str]:
    """The words that a search asks for, in lower case.

    Raises:
        ConfigError: there is none.
    """
    words = _WORD.findall(text.lower())
    if not words:
        raise ConfigError(
            f"'{text}' holds no word to search for; expected for example 'red block'."
        )
    return words


class SQLiteStore:
    """Documents in one SQLite file, a table a collection, with a full-text index where asked for.

    Args:
        path: the file; made with its folder where it is missing.

    Raises:
        ConfigError: the file is not a database, or cannot be written.
        StorageFullError: no space left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready: set[str] = set()
        try:
            with self._explained_when_full():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(path, timeout=60)
        except (OSError, sqlite3.OperationalError) as error:
            if is_full(error):
                raise
            raise ConfigError(
                f"The catalogue '{path}' cannot be opened: {error}. Name a file in a folder that "
                "may be written to ('--catalogue', or storage.catalogue of the site)."
            ) from error
        try:
            with self._explained_when_full():
                self._connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ConfigError(
                f"'{path}' is not a catalogue: {error}. Name another file, or move it away; the "
                "catalogue can be made again from the data sets with 'nemo-cosmos dataset add'."
            ) from error

    def add(self, collection: Collection, documents: Iterable[Document]) -> int:
        """Add what is new, all of it or, if the disk is full, none."""
        self._prepare(collection)
        name, num_new = collection.name, 0
        with self._transaction() as transaction:
            for document in documents:
                row = (document["_id"], json.dumps(document, ensure_ascii=False))
                added = transaction.execute(f'INSERT OR IGNORE INTO "{name}" VALUES (?, ?)', row)
                num_new += added.rowcount
                if added.rowcount and collection.text:
                    words = (document["_id"], str(document.get(collection.text, "")))
                    transaction.execute(f'INSERT INTO "{name}_words" VALUES (?, ?)', words)
        return num_new

    def find(
        self,
        collection: Collection,
        where: Where | None = None,
        *,
        words: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Document]:
        """See :class:`DocumentStore`."""
        self._prepare(collection)
        clauses: list[str] = ["1"]
        values: list[Any] = []
        for field, operator, value in checked(where):
            place = "id" if field == "_id" else f"json_extract(doc, '$.{field}')"
            wanted = list(value) if operator == "$in" else [value]
            if operator == "$in":
                # One JSON list instead of a parameter each, of which SQLite takes only so many.
                clauses.append(f"{place} IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(wanted))
            else:
                clauses.append(f"{place} {OPERATORS[operator]} ?")
                values.append(value)
        if words is not None:
            if collection.text is None:
                raise ConfigError(f"Documents of '{collection.name}' cannot be searched by words.")
            match = " ".join(f'"{word}"' for word in words_of(words))
            table = f'"{collection.name}_words"'
            clauses.append(f"id IN (SELECT id FROM {table} WHERE {table} MATCH ?)")
            values.append(match)
        values.append(-1 if limit is None else limit)
        query = f'SELECT doc FROM "{collection.name}" WHERE {" AND ".join(clauses)}'
        for (text,) in self._connection.execute(f"{query} ORDER BY id LIMIT ?", values):
            yield json.loads(text)

    def mark(self, collection: Collection, ids: Iterable[str], changes: Mapping[str, Any]) -> None:
        """See :class:`DocumentStore`."""
        self._prepare(collection)
        change = json.dumps(dict(changes))
        with self._transaction() as transaction:
            transaction.executemany(
                f'UPDATE "{collection.name}" SET doc = json_patch(doc, ?) WHERE id = ?',
                [(change, each) for each in ids],
            )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All that the block does, or nothing of it."""
        with self._explained_when_full(), self._connection as transaction:
            yield transaction

    @contextmanager
    def _explained_when_full(self) -> Iterator[None]:
        try:
            with explained_when_full(self._path):
                yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in _FULL:
                raise
            raise StorageFullError(
                f"No space left while writing the catalogue '{self._path}'. What it held before "
                "is intact. Free some space and run the same command again."
            ) from error

    def _prepare(self, collection: Collection) -> None:
        """Make the table and its indexes where they are missing."""
        if collection.name in self._ready:
            return
        name = collection.name
        with self._transaction() as transaction:
            transaction.execute(
                f'CREATE TABLE IF NOT EXISTS "{name}" (id TEXT PRIMARY KEY, doc TEXT NOT NULL)'
            )
            for field in collection.indexes:
                transaction.execute(
                    f'CREATE INDEX IF NOT EXISTS "{name}_{field}" '
                    f"ON \"{name}\" (json_extract(doc, '$.{field}'))"
                )
            if collection.text:
                transaction.execute(
                    f'CREATE VIRTUAL TABLE IF NOT EXISTS "{name}_words" '
                    "USING fts5(id UNINDEXED, words)"
                )
        self._ready.add(name)
