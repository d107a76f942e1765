"""One table says what follows an exit code; the first rank's reason is what a launcher reads."""

from __future__ import annotations

import pytest

from nemo_cosmos import exits
from nemo_cosmos.cli.main import exit_code, main
from nemo_cosmos.errors import ConfigError, MachineError, NumericsError, Preempted
from nemo_cosmos.exits import (
    EXIT_FILE_VARIABLE,
    THEN,
    Exit,
    Then,
    codes,
    note_exit,
    note_work,
    saved_or_too_short,
    what_then,
)


def test_every_code_has_what_follows():
    assert set(THEN) == set(Exit)


@pytest.mark.parametrize(
    ("code", "then"),
    [
        (0, Then.NOTHING),
        (2, Then.NOTHING),
        (75, Then.CONTINUE),
        (76, Then.RETRY),
        (77, Then.RETRY_ELSEWHERE),
        (78, Then.RETRY),
        (130, Then.NOTHING),
        (137, Then.RETRY),  # killed: the machine or its memory is gone
        (1, Then.RETRY),
    ],
)
def test_what_follows(code, then):
    assert what_then(code) is then


def test_scripts_get_the_codes_of_a_kind():
    assert codes(Then.NOTHING) == (0, 2, 3, 130)
    assert codes(Then.CONTINUE) == (75,)


@pytest.mark.parametrize(
    ("error", "code"),
    [(Preempted("x"), 75), (MachineError("x"), 77), (ConfigError("x"), 2), (NumericsError("x"), 1)],
)
def test_errors_have_codes(error, code):
    assert exit_code(error) == code


def test_the_first_reason_is_kept(tmp_path, monkeypatch):
    file = tmp_path / "job.exit"
    monkeypatch.setenv(EXIT_FILE_VARIABLE, str(file))
    note_exit(Exit.HUNG)
    note_exit(137)
    assert file.read_text() == "76\n"


def test_work_of_any_process_leads_on(tmp_path, monkeypatch):
    monkeypatch.setattr(exits, "_has_worked", False)
    monkeypatch.setenv(EXIT_FILE_VARIABLE, str(tmp_path / "job.exit"))
    assert saved_or_too_short() is Exit.TOO_SHORT
    note_work()
    assert saved_or_too_short() is Exit.SAVED
    monkeypatch.setattr(exits, "_has_worked", False)  # as in another process of the job
    assert saved_or_too_short() is Exit.SAVED
    monkeypatch.delenv(EXIT_FILE_VARIABLE)
    assert saved_or_too_short() is Exit.TOO_SHORT


def test_no_launcher_and_no_folder_are_no_error(tmp_path, monkeypatch):
    monkeypatch.delenv(EXIT_FILE_VARIABLE, raising=False)
    note_exit(Exit.HUNG)
    monkeypatch.setenv(EXIT_FILE_VARIABLE, str(tmp_path / "gone" / "job.exit"))
    note_exit(Exit.HUNG)
    monkeypatch.setattr(exits, "_has_worked", False)
    note_work()
    assert saved_or_too_short() is Exit.SAVED


@pytest.mark.parametrize(
    "words", [["train-me"], ["plan", "--no-such-option"], ["status", "nowhere"]]
)
def test_a_command_notes_wrong_use(tmp_path, monkeypatch, words):
    file = tmp_path / "job.exit"
    monkeypatch.setenv(EXIT_FILE_VARIABLE, str(file))
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and file.read_text() == "2\n"
