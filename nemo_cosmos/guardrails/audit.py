"""An append-only log of verdicts that reveals removed and changed records.

Each line is a JSON object that carries the SHA-256 of the line before (``previous``) and of itself
(``hash``, over the object without that field, keys sorted). A small file beside the log,
``<log>.head``, holds the number and hash of the last line, so that a cut-off end shows, too.
Someone who may rewrite both files can shorten both. To detect that, note a hash elsewhere and look
for it: ``verify_log(path, contains=hash)``.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.home import expanded, user_folder
from nemo_cosmos.storage import atomic_path

AUDIT_VARIABLE = "NEMO_COSMOS_AUDIT_LOG"
GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditCheck:
    """What :func:`verify_log` found.

    Attributes:
        num_records: number of records before the problem, or of all.
        problem: what is wrong; None if the log is whole.
        last_hash: the last record's hash, if the log is whole; worth noting elsewhere.
    """

    num_records: int
    problem: str | None = None
    last_hash: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was removed or changed."""
        return self.problem is None


def default_log_path() -> Path:
    """``$NEMO_COSMOS_AUDIT_LOG``, else ``nemo_cosmos/audit.jsonl`` in the user's state folder."""
    chosen = os.environ.get(AUDIT_VARIABLE)
    return expanded(chosen) if chosen else user_folder("XDG_STATE_HOME") / "audit.jsonl"


class AuditLog:
    """Appends records to one log file; several processes may share it.

    Args:
        path: the log; by default :func:`default_log_path`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else default_log_path()

    def append(self, event: str, fields: Mapping[str, Any]) -> str:
        """Append one record with time and user; return its hash.

        Args:
            event: what was judged, such as ``"prompt"`` or ``"video"``.
            fields: further JSON values of the record.

        Raises:
            OSError: the log cannot be written; it is unchanged.
        """
        with self._locked() as handle:
            _drop_torn_line(handle)
            number, previous = self._last(handle)
            record = {
                "number": number + 1,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "user": _user(),
                "event": event,
                **fields,
                "previous": previous,
            }
            record["hash"] = _record_hash(record)
            _append_whole(handle, json.dumps(record, ensure_ascii=True).encode() + b"\n")
            self._write_head(number + 1, str(record["hash"]))
        return str(record["hash"])

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the log and lock it for this process."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)

    def _last(self, handle: int) -> tuple[int, str]:
        """Return number and hash of the record before the next one.

        The head's number is used, so that lines cut off the end leave a gap. The last line is used
        only if it directly follows the head: the process died before it wrote the head.
        """
        head = _read_head(self.path) or (0, GENESIS)
        line = _last_line(handle)
        if line:
            record = json.loads(line)
            if record["previous"] == head[1] or not _head_path(self.path).exists():
                return int(record["number"]), str(record["hash"])
        return head

    def _write_head(self, number: int, digest: str) -> None:
        with atomic_path(_head_path(self.path)) as temporary:
            temporary.write_text(json.dumps({"number": number, "hash": digest}), encoding="utf-8")


def verify_log(path: str | os.PathLike[str], contains: str | None = None) -> AuditCheck:
    """Check a whole log: every hash, every link, every number, and the head.

    Args:
        path: the log.
        contains: hash of a record that was noted elsewhere and must be in the log.

    Raises:
        MissingFileError: there is neither a log nor a head file at ``path``.
    """
    log = Path(path)
    try:
        head = _read_head(log)
    except (ValueError, TypeError, KeyError):
        return AuditCheck(0, "the head file is damaged")
    if not log.exists():
        if head is None:
            raise MissingFileError(
                f"There is no audit log at '{log}'. Give the log's path, or set {AUDIT_VARIABLE}; "
                "the first verdict makes the log."
            )
        return AuditCheck(0, f"the log is missing; its head file counts {head[0]} records")
    number, previous, before_last, found = 0, GENESIS, GENESIS, contains is None
    for line in log.read_bytes().splitlines():
        problem = _line_problem(line, number + 1, previous)
        if problem is not None:
            return AuditCheck(number, f"line {number + 1}: {problem}")
        number, before_last, previous = number + 1, previous, json.loads(line)["hash"]
        found = found or previous == contains
    # A process that died between the line and its head leaves the head one record behind.
    if head is None and number > 0:
        return AuditCheck(number, "the head file is missing")
    if head is not None and head not in {(number, previous), (number - 1, before_last)}:
        return AuditCheck(number, f"the head file counts {head[0]} records, the log has {number}")
    if not found:
        return AuditCheck(number, f"the record {contains} was removed")
    return AuditCheck(number, last_hash=previous)


def read_log(path: str | os.PathLike[str]) -> list[JsonObject]:
    """Return all records of a log, oldest first; none where there is no log."""
    log = Path(path)
    return [json.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []


def count_violations(path: str | os.PathLike[str]) -> dict[str, int]:
    """Count the refusals in a log by category, the most frequent first.

    A line that is not a record counts as ``unreadable``; :func:`verify_log` reports why.
    """
    counts: Counter[str] = Counter()
    log = Path(path)
    for line in log.read_bytes().splitlines() if log.exists() else ():
        verdicts = _verdicts(line)
        if verdicts is None:
            counts["unreadable"] += 1
        else:
            counts.update(str(v["category"]) for v in verdicts if not v["allowed"])
    return dict(counts.most_common())


def find_record(path: str | os.PathLike[str], guard: str, reason: str) -> JsonObject | None:
    """Return the newest record in which that guard gave a reason with these words, or None."""
    log = Path(path)
    for line in reversed(log.read_bytes().splitlines() if log.exists() else []):
        verdicts = _verdicts(line) or ()
        if any(v["guard"] == guard and reason in v["reason"] for v in verdicts):
            record: JsonObject = json.loads(line)
            return record
    return None


def _verdicts(line: bytes) -> list[JsonObject] | None:
    """Return the verdicts of one line, or None if it is not a record."""
    try:
        verdicts: list[JsonObject] = json.loads(line)["verdicts"]
        complete = all({"guard", "category", "reason", "allowed"} <= {*v} for v in verdicts)
    except (ValueError, TypeError, KeyError):
        return None
    return verdicts if complete else None


def _line_problem(line: bytes, number: int, previous: str) -> str | None:
    try:
        record = json.loads(line)
        fields = (record["number"], record["previous"], record["hash"])
    except (ValueError, TypeError, KeyError):
        return "not a record"
    if fields[2] != _record_hash({k: v for k, v in record.items() if k != "hash"}):
        return "the record was changed (its hash differs)"
    if fields[:2] != (number, previous):
        return "a record before it was removed, added or moved"
    return None


def _record_hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        json.dumps(record, sort_keys=True, ensure_ascii=True).encode()
    ).hexdigest()


def _head_path(log: Path) -> Path:
    return log.with_name(log.name + ".head")


def _read_head(log: Path) -> tuple[int, str] | None:
    path = _head_path(log)
    if not path.exists():
        return None
    head = json.loads(path.read_text(encoding="utf-8"))
    return int(head["number"]), str(head["hash"])


def _last_line(handle: int) -> bytes:
    """Return the last complete line without its newline; empty for an empty log."""
    size, block, tail = os.fstat(handle).st_size, 65536, b""
    while size > 0 and tail.count(b"\n") < 2:
        start = max(0, size - block)
        tail = os.pread(handle, size - start, start) + tail
        size = start
    return tail.rstrip(b"\n").rpartition(b"\n")[2]


def _drop_torn_line(handle: int) -> None:
    """Remove an unfinished last line, whose verdict nobody has received."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        content = os.pread(handle, size, 0)
        os.ftruncate(handle, content.rfind(b"\n") + 1)


def _append_whole(handle: int, line: bytes) -> None:
    """Write the line; on an error, restore the log and raise."""
    size = os.fstat(handle).st_size
    try:
        if os.write(handle, line) != len(line):
            raise OSError("the line was only written in part")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many containers
        return f"uid {os.getuid()}"
