"""Text files are UTF-8, whatever the locale."""

from __future__ import annotations

import locale
import os
import subprocess
import sys

import pytest

from nemo_cosmos.platform.encoding import utf8_by_default


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


def test_a_command_reads_files_as_utf8_in_an_ascii_locale(tmp_path):
    script = """
import locale, sys
from pathlib import Path
from nemo_cosmos.cli import main as cli

def read() -> None:
    print(ascii(Path(sys.argv[1]).read_text()))

cli.COMMANDS["read"] = cli.CommandEntry("main:main", cli.HOUSE, "Read.")
cli.CommandEntry.load = lambda entry: read
cli.main(["read"])
"""
    file = tmp_path / "umlaut.txt"
    file.write_text("größe", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        env={**os.environ, **ascii_only},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "'gr\\xf6\\xdfe'\n"), done.stderr
