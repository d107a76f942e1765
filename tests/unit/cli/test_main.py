"""The command line: overview, lazy loading, and errors in one paragraph."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import types
import warnings

import pytest
import typer

from nemo_cosmos import __version__, exits
from nemo_cosmos.cli import main as cli
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.errors import (
    Cancelled,
    CheckpointError,
    GuardrailError,
    NemoCosmosError,
    StorageFullError,
    WrongSizeError,
)
from nemo_cosmos.platform.quiet import PACKAGE_WARNINGS, RUN_WARNINGS


@pytest.fixture
def fake_command(monkeypatch):
    """Put a command into the table whose module is made here; returns a setter for its body."""

    def install(function):
        module = types.ModuleType("nemo_cosmos.cli.fake")
        module.command = function
        monkeypatch.setitem(sys.modules, "nemo_cosmos.cli.fake", module)
        monkeypatch.setitem(
            cli.COMMANDS, "fake", cli.CommandEntry("fake:command", cli.HOUSE, "A fake.")
        )

    return install


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return stop.value.code


def test_overview_lists_every_command_with_its_help(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    for name, entry in cli.COMMANDS.items():
        assert name in text
        assert entry.help in text


def test_overview_imports_nothing_heavy():
    code = (
        "import sys\nfrom nemo_cosmos.cli.main import main\n"
        "try:\n main(['--help'])\nexcept SystemExit:\n pass\n"
        "print([m for m in ('torch', 'nemo', 'numpy', 'megatron', 'av') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "completed"), [("nemo-cosmos cur", "curate"), ("nemo-cosmos models --js", "--json")]
)
def test_shells_complete_commands_and_their_options(monkeypatch, capsys, words, completed):
    monkeypatch.setenv("_NEMO_COSMOS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert run() == 0
    assert completed in capsys.readouterr().out.splitlines()


def test_version(capsys):
    assert run("--version") == 0
    assert __version__ in capsys.readouterr().out


def test_unknown_command_names_the_nearest(capsys):
    assert run("qiuckstart") == cli.Exit.WRONG_USE
    assert "'quickstart'" in capsys.readouterr().err


def test_command_gets_its_arguments(fake_command, capsys):
    def command(size: int, name: str = "x") -> None:
        """Do it."""
        typer.echo(f"{name} {size}")

    fake_command(command)
    assert run("fake", "7", "--name", "robot") == 0
    assert capsys.readouterr().out == "robot 7\n"


def test_error_is_one_paragraph_without_traceback(fake_command, capsys):
    def command() -> None:
        raise WrongSizeError("Height 97 is not a multiple of 16. Use 96 or 112.")

    fake_command(command)
    assert run("fake") == cli.Exit.WRONG_USE
    error = capsys.readouterr().err
    assert error.strip() == "Error: Height 97 is not a multiple of 16. Use 96 or 112."


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EACCES, 2, "'/a/b' cannot be opened or written: Permission denied"),
        (errno.EROFS, 2, "'/a/b' cannot be opened or written: Read-only file system"),
        (errno.ENOSPC, 1, "No space left for '/a/b'"),
        (errno.EDQUOT, 1, "No space left for '/a/b': Disk quota exceeded"),
    ],
)
def test_what_the_system_refuses_is_one_paragraph(fake_command, capsys, number, code, words):
    def command() -> None:
        raise OSError(number, os.strerror(number), "/a/b")

    fake_command(command)
    assert run("fake") == code
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {words}") and error.count("\n") == 1
    with pytest.raises(OSError, match="/a/b"):
        cli.main(["fake", "--debug"])


def test_other_errors_of_the_system_keep_their_traceback(fake_command):
    def command() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    fake_command(command)
    with pytest.raises(OSError, match="Bad file"):
        cli.main(["fake"])


def test_debug_shows_the_traceback_wherever_it_stands(fake_command):
    def command() -> None:
        raise WrongSizeError("wrong")

    fake_command(command)
    with pytest.raises(WrongSizeError):
        cli.main(["fake", "--debug"])


def test_libraries_are_quiet_before_a_command_is_imported(fake_command):
    silenced = []

    def command() -> None:
        silenced.extend(entry[1].pattern for entry in warnings.filters if entry[1])

    fake_command(command)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        run("fake")
    assert set(PACKAGE_WARNINGS + RUN_WARNINGS) <= set(silenced)


def test_interrupt_says_how_to_go_on(fake_command, capsys):
    def command() -> None:
        raise KeyboardInterrupt

    fake_command(command)
    assert run("fake") == cli.Exit.STOPPED
    assert "again" in capsys.readouterr().err


@pytest.mark.parametrize("made_of_it", [AttributeError, OSError, ImportError, None])
def test_an_interrupt_is_one_whatever_a_library_makes_of_it(fake_command, capsys, made_of_it):
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if made_of_it is None:
                raise
            raise made_of_it("half imported") from None

    fake_command(command)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("fake") == cli.Exit.STOPPED
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "Stopped. Run the same command again to resume.\n"


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
@pytest.mark.parametrize(
    ("has_worked", "code", "said"),
    [
        (True, cli.Exit.SAVED, "Stopped for the queue. The same command resumes.\n"),
        (False, cli.Exit.TOO_SHORT, "Stopped for the queue before any work was saved"),
    ],
)
def test_a_queue_that_wants_its_machines_back_learns_whether_to_start_the_command_again(
    fake_command, capsys, no_work_yet, handler, has_worked, code, said
):
    """What Slurm sends before the time limit; its scripts let processes ignore it until then."""

    def command() -> None:
        if has_worked:
            exits.note_work()
        child = os.fork()
        if not child:  # a helper of the command leaves it to its parent
            signal.raise_signal(signal.SIGUSR1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        signal.raise_signal(signal.SIGUSR1)

    fake_command(command)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        assert run("fake") == code
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert capsys.readouterr().err.startswith(said)


def test_an_interrupt_before_the_first_step_is_no_failure(fake_command):
    """Lightning turns it into exit code 1."""

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            sys.exit(1)

    fake_command(command)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("fake") == cli.Exit.STOPPED
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_command_of_a_command_that_is_stopped_stops_its_caller(fake_command):
    def stopped() -> None:
        raise KeyboardInterrupt

    fake_command(stopped)
    with pytest.raises(KeyboardInterrupt):
        cli.run_command(["fake"])


def test_a_command_of_a_command_that_fails_fails_its_caller(fake_command):
    def refused() -> None:
        raise typer.Exit(cli.Exit.REFUSED)

    fake_command(refused)
    with pytest.raises(NemoCosmosError, match=r"nemo-cosmos fake.*code 3"):
        cli.run_command(["fake"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WrongSizeError, 2),
        (GuardrailError, 3),
        (CheckpointError, 1),
        (StorageFullError, 1),
        (KeyboardInterrupt, 130),
        (Cancelled, 130),
    ],
)
def test_exit_codes(fake_command, error, code):
    def command() -> None:
        raise error("why")

    fake_command(command)
    assert run("fake") == code
    assert run("fake", "--unknown") == cli.Exit.WRONG_USE == 2


@pytest.mark.parametrize(("alias", "name"), cli.ALIASES.items())
def test_aliases_are_understood_and_not_listed(alias, name, capsys):
    assert name in cli.COMMANDS and alias not in cli.COMMANDS
    assert run(alias, "--help") == 0
    assert f"Usage: nemo-cosmos {name} " in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_examples_that_wrap_as_a_whole(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    _, _, examples = text.partition(" Examples")
    lines = [line.strip() for line in examples.partition("╭")[0].splitlines()]
    lines = [line for line in lines if line]
    assert lines and all(line.startswith(("nemo-cosmos ", "torchrun ")) for line in lines)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--out=~/x.mp4", "--out=/home/me/x.mp4"),
        ("~/world", "/home/me/world"),
        ("data.path=[~/a,~/b]", "data.path=[/home/me/a,/home/me/b]"),
        ("action=~/a.npy", "action=/home/me/a.npy"),
        ("a cat on ~/ and x=~/y", "a cat on ~/ and x=~/y"),
        ("s3://bucket/~/a", "s3://bucket/~/a"),
        ("~other", "~other"),
    ],
)
def test_the_home_folder_is_expanded_where_a_shell_leaves_it(monkeypatch, word, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert cli._expand_home(word) == expected


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["generate", "", "-p", "x"], "An argument"),
        (["generate", "world", "-p", "x", "--out", ""], "--out"),
        (["generate", "world", "-p", "x", "-o", ""], "-o"),
        (["generate", "world", "-p", "x", "--out="], "--out"),
        (["curate", "", "out"], "An argument"),
        (["tokenize", "a", "b", "--tokenizer="], "--tokenizer"),
        (["dataset", "export", "v1", ""], "An argument"),
    ],
)
def test_an_empty_path_is_not_the_working_folder(run_cli, words, named):
    ran = run_cli(*words)
    assert ran.code == Exit.WRONG_USE and f"Error: {named} is empty" in ran.err


def test_an_empty_text_is_no_path(run_cli, tmp_path):
    ran = run_cli("generate", tmp_path, "-p", "x", "--negative-prompt", "")
    assert "is empty" not in ran.err


@pytest.mark.parametrize("columns", [80, 120])
def test_no_command_breaks_an_example_without_a_backslash(run_cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    ran = run_cli("tokenize", "--help")
    examples = ran.out.split("Examples")[1].split("╭")[0].splitlines()
    begun = [line.strip() for line in examples if line.strip()]
    assert sum(line.startswith("nemo-cosmos") for line in begun) == 5
    for before, line in itertools.pairwise(begun):
        assert line.startswith("nemo-cosmos") != before.endswith("\\")
