"""The command line: overview, lazy loading, and errors in one paragraph."""

import subprocess
import sys
import types

import pytest
import typer

from nemo_cosmos import __version__
from nemo_cosmos.cli import main as cli
from nemo_cosmos.errors import WrongSizeError


@pytest.fixture
def fake_command(monkeypatch):
    """Put a command into the table whose module is made here; returns a setter for its body."""

    def install(function):
        module = types.ModuleType("nemo_cosmos.cli.fake")
        module.command = function
        monkeypatch.setitem(sys.modules, "nemo_cosmos.cli.fake", module)
        monkeypatch.setitem(cli.COMMANDS, "fake", cli.CommandEntry("fake", cli.HOUSE, "A fake."))

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
    assert run("qiuckstart") == cli.EXIT_ERROR
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
    assert run("fake") == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert error.strip() == "Error: Height 97 is not a multiple of 16. Use 96 or 112."


def test_debug_shows_the_traceback_wherever_it_stands(fake_command):
    def command() -> None:
        raise WrongSizeError("wrong")

    fake_command(command)
    with pytest.raises(WrongSizeError):
        cli.main(["fake", "--debug"])


def test_interrupt_says_how_to_go_on(fake_command, capsys):
    def command() -> None:
        raise KeyboardInterrupt

    fake_command(command)
    assert run("fake") == cli.EXIT_INTERRUPTED
    assert "again" in capsys.readouterr().err


def test_a_command_of_a_command_that_is_stopped_stops_its_caller(fake_command):
    def stopped() -> None:
        raise KeyboardInterrupt

    fake_command(stopped)
    with pytest.raises(KeyboardInterrupt):
        cli.run_command(["fake"])
