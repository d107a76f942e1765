"""One URL opens a file anywhere: a local path, or what fsspec knows; obstore serves the buckets.

s3://, gs:// and az:// take their credentials and endpoints from the environment, as obstore reads
it (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``,
``AZURE_STORAGE_ACCOUNT_NAME``, ...), else from the machine's role. A request that is cut off is
tried again with growing pauses.

obstore does not survive a fork: processes that read URLs are spawned.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.fsspec import register

from nemo_cosmos.errors import MissingDependencyError, MissingFileError, ServiceError

BUCKET_SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
#: Of each request to a bucket; an endpoint without TLS is one that a person has named.
BUCKET_OPTIONS: dict[str, Any] = {
    "client_options": {"allow_http": True, "timeout": timedelta(minutes=2)},
    "retry_config": {
        "max_retries": 10,
        "retry_timeout": timedelta(minutes=3),
        "backoff": {
            "base": 2,
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=15),
        },
    },
}

register(BUCKET_SCHEMES)


def is_url(location: str | os.PathLike[str]) -> bool:
    """Tell a remote location (``s3://bucket/key``) from a local path."""
    return "://" in os.fspath(location)


def is_bucket(location: str | os.PathLike[str]) -> bool:
    """Tell a place in object storage from all others."""
    return os.fspath(location).partition("://")[0] in BUCKET_SCHEMES and is_url(location)


def open_url(location: str | os.PathLike[str], mode: str = "rb") -> IO[Any]:
    """Open a local path or a remote URL as a binary or text file.

    Args:
        location: a path, or a URL whose scheme fsspec knows.
        mode: the mode of :func:`open`.

    Raises:
        MissingFileError: nothing readable is there.
        MissingDependencyError: the scheme needs a package that is not installed.
        ServiceError: the storage gave no answer in all tries.
    """
    name = os.fspath(location)
    with clear_errors(name):
        if not is_url(name):
            # Several times faster than through fsspec, which shows where many samples are read.
            return Path(name).open(mode)
        filesystem, path = filesystem_of(name)
        if not is_bucket(name) or "r" not in mode:
            return cast("IO[Any]", filesystem.open(path, mode))
        # Looked for first: a file of obstore that could not be opened complains when it is dropped.
        info = filesystem.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(name)
        return cast("IO[Any]", filesystem.open(path, mode, size=info["size"]))


def filesystem_of(location: str | os.PathLike[str]) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path inside it.

    Ask for it each time and never keep it: most of them do not survive a fork, and fsspec itself
    hands out a fresh one in the child.

    Raises:
        MissingFileError: no such scheme.
        MissingDependencyError: the scheme needs a package that is not installed.
    """
    name = os.fspath(location)
    with clear_errors(name):
        options = BUCKET_OPTIONS if is_bucket(name) else {}
        filesystem, path = fsspec.core.url_to_fs(name, **options)
    return filesystem, str(path)


@contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Turn what storage raises about a missing file or client into our errors."""
    try:
        yield
    except BaseError as error:
        raise _bucket_error(name, error) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"Opening '{name}' needs a package that is not installed: {error}. "
            "Install the client of that storage for fsspec."
        ) from error
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        reason = "there is no such object or bucket" if is_bucket(name) else error.strerror or error
        raise MissingFileError(
            f"'{name}' cannot be opened: {reason}. Check the spelling, that it is a file, and that "
            "you may read it."
        ) from error
    except ValueError as error:
        if not is_url(name) or isinstance(error, MissingFileError):
            raise
        raise MissingFileError(
            f"'{name}' cannot be opened: {error}. Expected a path, or a URL that begins with "
            "s3://, gs://, az://, https:// or another scheme that fsspec knows."
        ) from error


def _bucket_error(name: str, error: BaseError) -> MissingFileError | ServiceError:
    """What is wrong, in a sentence, instead of the whole request and answer."""
    reason = str(error).partition("\n")[0].rstrip(": ")
    code = re.search(r"(?:<Code>|code: )(\w+)(?:</Code>|\))", str(error))
    status = re.search(r"status code: (\d+)", reason)
    if isinstance(error, PreconditionError):
        return MissingFileError(
            f"'{name}' was replaced while it was read. Run the same command again."
        )
    refused = (status and status[1] in ("401", "403")) or (code and code[1] == "AccessDenied")
    if refused or isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return MissingFileError(
            f"Access to '{name}' is refused ({code[1] if code else reason}). Check the spelling "
            "and the credentials in the environment, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_ACCOUNT_KEY."
        )
    if status and status[1] == "404":
        return MissingFileError(
            f"'{name}' is not there ({code[1] if code else reason}). Check the spelling of the "
            "bucket, and that it lies where the environment points (AWS_ENDPOINT_URL, AWS_REGION)."
        )
    return ServiceError(
        f"The storage of '{name}' gave no answer: {reason}. Check the network, the endpoint and "
        "the credentials in the environment, and run the same command again: it resumes where it "
        "stopped."
    )
