"""What a process is given for one run, and has back after it."""

from __future__ import annotations

import locale
import sys

import pytest

from nemo_cosmos.training.lifecycle import utf8_by_default


@pytest.mark.skipif(sys.flags.utf8_mode == 1, reason="Python reads UTF-8 in any locale")
def test_files_are_read_as_utf8_in_an_ascii_locale(tmp_path):
    file = tmp_path / "umlaut.txt"
    file.write_text("größe", encoding="utf-8")
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C")
        with pytest.raises(UnicodeDecodeError):
            file.read_text()
        with utf8_by_default():
            assert file.read_text() == "größe"
        assert locale.setlocale(locale.LC_CTYPE) == "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
