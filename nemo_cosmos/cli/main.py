"""``nemo-cosmos``: the table of all commands, none of which is imported before it is called.

A command is a function in a module of one of these folders: ``data``, ``training``, ``generation``
and ``house`` are the panels of the overview. The table below names both, with the line that
``nemo-cosmos --help`` shows, so that the overview needs no torch, NeMo or MuJoCo. An entry may name
a :class:`CommandGroup` instead, such as ``guard`` with its commands ``text`` and ``video``.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from nemo_cosmos import __version__
from nemo_cosmos.cli.kit.help import help_text
from nemo_cosmos.cli.kit.places import check_no_empty_place
from nemo_cosmos.errors import (
    Cancelled,
    ConfigError,
    GuardrailError,
    InputError,
    MachineError,
    NemoCosmosError,
    Preempted,
    RequirementError,
    nearest_names,
)
from nemo_cosmos.exits import Exit as Exit
from nemo_cosmos.exits import note_exit, saved_or_too_short
from nemo_cosmos.home import expanded, lend_a_home
from nemo_cosmos.platform.encoding import utf8_by_default
from nemo_cosmos.platform.quiet import quiet_libraries
from nemo_cosmos.storage.paths import expand_home

DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "NEMO_COSMOS_DEBUG"
_HOME_WORD = re.compile(r"~(?:/|$)|[\w.-]+=(?:\[|~|.*,~)")
_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
#: Settings of every typer application here.
_TYPER: dict[str, Any] = {
    "rich_markup_mode": "rich",
    "pretty_exceptions_enable": False,
    "context_settings": _HELP_OPTIONS,
}


class CommandEntry(NamedTuple):
    """Where a command is and what the overview says of it.

    Attributes:
        target: ``module:name`` below ``nemo_cosmos.cli``, of a function or a :class:`CommandGroup`.
        panel: the panel of the overview.
        help: one line.
    """

    target: str
    panel: str
    help: str

    def load(self) -> Callable[..., None] | CommandGroup:
        """Import the module and return the function or group."""
        module, _, name = self.target.partition(":")
        found: Callable[..., None] | CommandGroup = getattr(
            importlib.import_module(f"nemo_cosmos.cli.{module}"), name
        )
        return found


class CommandGroup(NamedTuple):
    """Commands under one word.

    Attributes:
        help: what ``nemo-cosmos GROUP --help`` says, in the form of a docstring.
        commands: the group's commands by the word after the group's name.
    """

    help: str
    commands: Mapping[str, CommandEntry]


DATA, TRAINING, GENERATION, HOUSE = "Data", "Training", "Generation", "House-keeping"

COMMANDS: dict[str, CommandEntry] = {
    "quickstart": CommandEntry(
        "generation.quickstart:command",
        GENERATION,
        "Run every step at nano size and write a report.",
    ),
    "simulate": CommandEntry(
        "data.simulate:command", DATA, "Render robot episodes, simple physics, or drives."
    ),
    "convert": CommandEntry(
        "data.robot_data:CONVERT",
        DATA,
        "Convert robots' data sets, known cameras and rigs of them.",
    ),
    "curate": CommandEntry("data.curate:curate", DATA, "Turn raw video into training shards."),
    "transcode": CommandEntry(
        "data.curate:transcode", DATA, "Transcode whole videos to one profile."
    ),
    "tokenize": CommandEntry("data.tokenize:command", DATA, "Encode shards into cached latents."),
    "dataset": CommandEntry(
        "data.dataset:DATASET", DATA, "Search, compare and export versions of data sets."
    ),
    "pretrain": CommandEntry(
        "training.train:pretrain", TRAINING, "Train a model from scratch with a recipe."
    ),
    "finetune": CommandEntry(
        "training.train:finetune", TRAINING, "Post-train a model with a recipe."
    ),
    "heads": CommandEntry(
        "training.heads:command", TRAINING, "Train heads that guess ahead (Medusa)."
    ),
    "plan": CommandEntry(
        "training.plan:command", TRAINING, "Report what a training run needs, and its best layout."
    ),
    "evaluate": CommandEntry(
        "training.evaluate:command", TRAINING, "Compare generated with real videos."
    ),
    "trial": CommandEntry(
        "training.trial:TRIAL", TRAINING, "Try what a world model is good for to a robot."
    ),
    "generate": CommandEntry(
        "generation.generate:generate", GENERATION, "Generate a video from a prompt."
    ),
    "predict": CommandEntry(
        "generation.generate:predict", GENERATION, "Continue an image or video, with controls."
    ),
    "extend": CommandEntry(
        "generation.generate:extend", GENERATION, "Continue a video chunk by chunk."
    ),
    "camera": CommandEntry(
        "generation.camera:CAMERA_GROUP",
        GENERATION,
        "Make a camera's path from moves, or draw one.",
    ),
    "guard": CommandEntry(
        "generation.guard:GUARD", GENERATION, "Ask the guards about a prompt or a video."
    ),
    "audit": CommandEntry(
        "generation.guard:AUDIT", HOUSE, "Check the log of the guards' verdicts."
    ),
    "models": CommandEntry(
        "house.models:command", HOUSE, "List every preset, or describe a world."
    ),
    "status": CommandEntry(
        "house.status:command", HOUSE, "Show jobs, runs, checkpoints, and what guards refused."
    ),
    "launch": CommandEntry(
        "house.launch:LAUNCH", HOUSE, "Check a new cluster: what of it is slow or wrong."
    ),
    "logs": CommandEntry("house.jobs:logs", HOUSE, "Print the output of a job."),
    "cancel": CommandEntry("house.jobs:cancel", HOUSE, "End a job; training saves first."),
    "import": CommandEntry(
        "house.convert:import_", HOUSE, "Convert weights of other formats to ours."
    ),
    "export": CommandEntry(
        "house.convert:export", HOUSE, "Convert a world model to another format."
    ),
    "configure": CommandEntry(
        "house.configure:command", HOUSE, "Show or set where things run and live."
    ),
}

#: Key of a context's ``meta`` under which the words after a command's name are kept.
WORDS = "nemo_cosmos.words"

#: Other words for a command, which the overview does not list.
ALIASES = {"train": "pretrain", "fine-tune": "finetune", "process": "transcode"}


class LazyCommands(TyperGroup):
    """A group that shows a table in its help and imports a module when it is called."""

    table: Mapping[str, CommandEntry] = COMMANDS
    aliases: Mapping[str, str] = ALIASES

    def list_commands(self, ctx: object) -> list[str]:
        """Names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command that carries nothing but its line in the overview."""
        entry = self.table[cmd_name]
        return TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import and build the command or group that was called.

        Raises:
            ConfigError: there is no such command, or a path of it is empty.
        """
        name, *rest = args
        name = self.aliases.get(name, name)
        if name not in self.table:
            raise ConfigError(
                f"There is no command '{name}'. The nearest are {nearest_names(name, self.table)}. "
                f"'{ctx.command_path} --help' lists them all."
            )
        ctx.meta[WORDS] = tuple(rest)  # for launchers; the parser takes its words out of the list
        quiet_libraries()  # before the command imports torch, NeMo or Megatron
        target = self.table[name].load()
        command = typer.main.get_command(_build(name, target))
        if not isinstance(target, CommandGroup):
            check_no_empty_place(target, command.params, rest)
        return name, command, rest


def _build(name: str, target: Callable[..., None] | CommandGroup) -> typer.Typer:
    """Build the typer application of one command, or of a group with a table of its own."""
    # Completion belongs to the whole program, which `nemo-cosmos --help` names.
    options: dict[str, Any] = {**_TYPER, "add_completion": False}
    if not isinstance(target, CommandGroup):
        single = typer.Typer(**options)
        shown = help_text(inspect.getdoc(target) or "")
        single.command(name=name, help=shown, context_settings=_HELP_OPTIONS)(target)
        return single
    table = {"table": target.commands, "aliases": {}}
    commands = type("GroupCommands", (LazyCommands,), table)
    group = typer.Typer(
        cls=commands, help=help_text(inspect.cleandoc(target.help)), no_args_is_help=True, **options
    )
    group.callback()(lambda: None)
    return group


app = typer.Typer(cls=LazyCommands, no_args_is_help=True, **_TYPER)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nemo-cosmos {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_show_version, is_eager=True
    ),
    debug: bool = typer.Option(
        False, DEBUG_FLAG, help="Show tracebacks; may stand anywhere on the line."
    ),
) -> None:
    """Curate video, train Cosmos world models, generate with them.

    Start with [bold]nemo-cosmos quickstart[/bold]: from a simulated robot to a controllable world.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused by a guard, 75 saved and to be continued,
    76 hung, 77 a machine computes wrong numbers, 78 too little time to save any work, 130 stopped.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of ours is one paragraph and an exit code.

    Args:
        arguments: the words after ``nemo-cosmos``; by default ``sys.argv[1:]``.

    Raises:
        SystemExit: always, with one of the codes of :class:`Exit`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG_FLAG in words or os.environ.get(DEBUG_VARIABLE) == "1"
    words = [_expand_home(word) for word in words if word != DEBUG_FLAG]
    for stream in (sys.stdout, sys.stderr):
        # A terminal whose locale cannot show a character shows its number, instead of an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    interrupts: list[int] = []
    try:
        lend_a_home()
        with _noticed(interrupts), utf8_by_default():
            app(args=words, prog_name="nemo-cosmos")
    except NemoCosmosError as error:
        if debug:
            raise
        _print_error(error)
        _leave(exit_code(error), getattr(error, "hosts", ()))
    except OSError as error:
        from nemo_cosmos.storage.system_errors import said_by_the_system

        said = said_by_the_system(error)
        if interrupts and not debug:
            _stop(interrupts)
        if debug or said is None:
            raise
        _print_error(said)
        _leave(exit_code(said))
    except SystemExit as stop:
        # typer turns Ctrl-C into code 130 without a word, Lightning into 1 before its first step.
        if stop.code == Exit.STOPPED or (interrupts and stop.code):
            _stop(interrupts)
        if isinstance(stop.code, int) and stop.code in (Exit.WRONG_USE, Exit.REFUSED):
            note_exit(stop.code)
        raise
    except BaseException:
        # Ctrl-C while a library is imported leaves as whatever the library makes of it.
        if interrupts and not debug:
            _stop(interrupts)
        raise


@contextmanager
def _noticed(interrupts: list[int]) -> Iterator[None]:
    """Note Ctrl-C and a queue's SIGUSR1, whatever becomes of the exception that they raise.

    Args:
        interrupts: the signals that came, to which they are added.
    """
    usual = {
        signal.SIGINT: (signal.default_int_handler,),
        signal.SIGUSR1: (signal.SIG_DFL, signal.SIG_IGN),  # ignored where a queue's script says so
    }
    # Else someone handles it, or it is ignored, as Ctrl-C in the background of a shell script.
    before = {number: signal.getsignal(number) for number in usual}
    taken = [number for number, handlers in usual.items() if before[number] in handlers]
    if threading.current_thread() is not threading.main_thread():
        taken = []
    owner = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1 and os.getpid() != owner:
            return  # a queue signals all processes of a job; this one's parent stops it
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    for number in taken:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _stop(interrupts: Sequence[int] = ()) -> NoReturn:
    """End as the last signal asks: a person's stop, or a queue's, which starts it again."""
    if signal.SIGUSR1 in interrupts[-1:]:
        code = saved_or_too_short()
        if code is Exit.SAVED:
            typer.echo("Stopped for the queue. The same command resumes.", err=True)
        else:
            typer.echo(
                "Stopped for the queue before any work was saved: the time is shorter than this "
                "command needs to start. Give it more, such as by cluster.time.",
                err=True,
            )
        _leave(code)
    typer.echo("Stopped. Run the same command again to resume.", err=True)
    _leave(Exit.STOPPED)


def _leave(code: Exit, hosts: Iterable[str] = ()) -> NoReturn:
    note_exit(code, hosts)
    sys.exit(code)


def _expand_home(word: str) -> str:
    """Expand ``~`` where a shell leaves it: behind ``=`` and in quotation marks; not in prose."""
    if " " in word or not _HOME_WORD.match(word):
        return word
    return str(expanded(word)) if word.startswith("~") else expand_home(word)


def exit_code(error: NemoCosmosError) -> Exit:
    """Return the exit code of an error."""
    if isinstance(error, Cancelled):
        return Exit.STOPPED
    if isinstance(error, Preempted):
        return Exit.SAVED
    if isinstance(error, MachineError):
        return Exit.BAD_MACHINE
    if isinstance(error, GuardrailError | RequirementError):
        return Exit.REFUSED
    return Exit.WRONG_USE if isinstance(error, InputError) else Exit.FAILED


def run_command(words: list[str]) -> None:
    """Run one command line in this process and raise what goes wrong, for commands of commands.

    Args:
        words: the words after ``nemo-cosmos``.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped the command, which typer returns as a code.
        NemoCosmosError: the command failed.
    """
    line = f"nemo-cosmos {shlex.join(words)}"
    typer.echo(f"$ {line}", err=True)
    code = app(args=words, prog_name="nemo-cosmos", standalone_mode=False)
    if code == Exit.STOPPED:
        raise KeyboardInterrupt
    if code:
        raise NemoCosmosError(f"'{line}' ended with code {code}; its output says why.")


def _print_error(error: NemoCosmosError) -> None:
    """Print one paragraph on standard error, wrapped to the terminal."""
    from rich.console import Console
    from rich.text import Text

    from nemo_cosmos.checklist import original

    console = Console(stderr=True, soft_wrap=not sys.stderr.isatty())
    console.print(Text.assemble(("Error: ", "bold red"), str(original(error))))
