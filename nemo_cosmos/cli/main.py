"""``nemo-cosmos``: the place that knows every command, and imports none until it is asked for.

A command is a function, by default ``command``, in ``nemo_cosmos/cli/<module>.py``. The table below
gives its name and the line that ``nemo-cosmos --help`` shows, so that the overview needs no torch,
NeMo or MuJoCo. A module that holds a table ``COMMANDS`` of its own instead is a group of commands,
such as ``guard text`` and ``guard video``.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from nemo_cosmos import __version__
from nemo_cosmos.errors import ConfigError, NemoCosmosError, nearest_names

DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "NEMO_COSMOS_DEBUG"
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class CommandEntry(NamedTuple):
    """Where a command lives and what the overview says of it."""

    module: str
    panel: str
    help: str
    function: str = "command"


DATA, TRAINING, GENERATION, HOUSE = "Data", "Training", "Generation", "House-keeping"

COMMANDS: dict[str, CommandEntry] = {
    "quickstart": CommandEntry(
        "quickstart", GENERATION, "Walk the whole road at nano size and write a report."
    ),
    "simulate": CommandEntry(
        "simulate", DATA, "Render robot episodes with actions and language in MuJoCo."
    ),
    "curate": CommandEntry("curate", DATA, "Turn raw video into training shards."),
    "process": CommandEntry("process", DATA, "Transcode whole videos to one profile."),
    "tokenize": CommandEntry("tokenize", DATA, "Encode shards into cached latents."),
    "dataset": CommandEntry("dataset", DATA, "Search, compare and export versions of data sets."),
    "pretrain": CommandEntry("pretrain", TRAINING, "Train a model from scratch with a recipe."),
    "train": CommandEntry("pretrain", TRAINING, "The same as pretrain."),
    "finetune": CommandEntry("finetune", TRAINING, "Post-train a model with a recipe."),
    "fine-tune": CommandEntry("finetune", TRAINING, "The same as finetune."),
    "plan": CommandEntry("plan", TRAINING, "Say what a training run needs, and its best layout."),
    "evaluate": CommandEntry("evaluate", TRAINING, "Compare generated with real videos."),
    "generate": CommandEntry("generate", GENERATION, "Generate a video from a prompt."),
    "predict": CommandEntry("predict", GENERATION, "Continue an image or video, with controls."),
    "extend": CommandEntry("extend", GENERATION, "Continue a video chunk by chunk."),
    "guard": CommandEntry("guard", GENERATION, "Ask the guards about a prompt or a video."),
    "audit": CommandEntry("audit", HOUSE, "Check the log of the guards' verdicts."),
    "models": CommandEntry("models", HOUSE, "List every preset with its parameter count."),
    "status": CommandEntry(
        "status", HOUSE, "Show runs, their checkpoints, and what guards refused."
    ),
    "import": CommandEntry("import_model", HOUSE, "Turn weights of other formats into ours."),
    "export": CommandEntry("export_model", HOUSE, "Turn a world model into another format."),
    "configure": CommandEntry("configure", HOUSE, "Show or set where things run and live."),
}


class LazyCommands(TyperGroup):
    """A group that shows a table in its help and imports a module when it is called."""

    table: Mapping[str, CommandEntry] = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command that carries nothing but its line in the overview."""
        entry = self.table[cmd_name]
        return TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import and build the command or group that was called.

        Raises:
            ConfigError: there is no such command.
        """
        name, *rest = args
        if name not in self.table:
            raise ConfigError(
                f"There is no command '{name}'. The nearest are {nearest_names(name, self.table)}. "
                f"'{ctx.command_path} --help' lists them all."
            )
        module = importlib.import_module(f"nemo_cosmos.cli.{self.table[name].module}")
        function = self.table[name].function
        return name, typer.main.get_command(_build(name, module, function)), rest


def _build(name: str, module: ModuleType, function: str) -> typer.Typer:
    """The typer application of one module: a single command, or a group with a table of its own."""
    options: dict[str, Any] = {
        "rich_markup_mode": "rich",
        "pretty_exceptions_enable": False,
        "add_completion": False,  # one of the whole program, which `nemo-cosmos --help` names
    }
    if not hasattr(module, "COMMANDS"):
        single = typer.Typer(**options)
        single.command(name=name, context_settings=HELP_OPTIONS)(getattr(module, function))
        return single
    commands = type("GroupCommands", (LazyCommands,), {"table": module.COMMANDS})
    group = typer.Typer(
        cls=commands,
        help=module.__doc__,
        no_args_is_help=True,
        context_settings=HELP_OPTIONS,
        **options,
    )
    group.callback()(lambda: None)
    return group


app = typer.Typer(
    cls=LazyCommands,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
)


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
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of ours is one paragraph and exit code 2.

    Args:
        arguments: what stands after ``nemo-cosmos``; by default ``sys.argv[1:]``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG_FLAG in words or os.environ.get(DEBUG_VARIABLE) == "1"
    words = [word for word in words if word != DEBUG_FLAG]
    try:
        app(args=words, prog_name="nemo-cosmos")
    except NemoCosmosError as error:
        if debug:
            raise
        _print_error(error)
        sys.exit(EXIT_ERROR)
    except SystemExit as stop:
        if stop.code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code, without a word
            typer.echo("Stopped. Run the same command again to go on.", err=True)
        raise


def run_command(words: list[str]) -> None:
    """Run one command line in this process and raise what goes wrong, for commands of commands.

    Args:
        words: what stands after ``nemo-cosmos``.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped the command, which typer returns as a code.
    """
    typer.echo(f"$ nemo-cosmos {shlex.join(words)}", err=True)
    if app(args=words, prog_name="nemo-cosmos", standalone_mode=False) == EXIT_INTERRUPTED:
        raise KeyboardInterrupt


def _print_error(error: NemoCosmosError) -> None:
    """One paragraph on standard error, wrapped to the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=not sys.stderr.isatty())
    console.print(Text.assemble(("Error: ", "bold red"), str(error)))


if __name__ == "__main__":
    main()
