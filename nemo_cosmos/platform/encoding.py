"""Text files are UTF-8, whatever the locale. It imports nothing heavy: libraries load after it."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def utf8_by_default() -> Iterator[None]:
    """Within the block, read text files as UTF-8 where their reader names no encoding.

    torch and NeMo open files of their own so, and fail where the locale is plain ASCII.
    """
    before = locale.setlocale(locale.LC_CTYPE)
    if locale.getencoding().lower() not in ("utf-8", "utf8"):
        with suppress(locale.Error):  # the system has no such locale
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
