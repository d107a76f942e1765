"""``--on``, ``--nodes``, ``--devices``, ``--sweep``, ``--then``: where a command runs.

:func:`launchable` gives a command these options; without any of them it runs in this process. A
training command, which knows its recipe's machines, makes its own job and calls :func:`launch`.
"""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nemo_cosmos.cli.kit.options import number
from nemo_cosmos.errors import ConfigError, nearest_names

if TYPE_CHECKING:
    from nemo_cosmos.launch import Job, Started

CommandT = TypeVar("CommandT", bound=Callable[..., None])


def _named(cluster: str | None) -> str | None:
    """Refuse ``--on "$CLUSTER"`` of an unset variable: the work would run here."""
    if cluster == "":
        raise typer.BadParameter("It is empty; it must name a cluster, such as slurm.")
    return cluster


On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        callback=_named,
        help="Where it runs: local, torchrun, slurm, kubernetes, ray, or another file of "
        "conf/cluster or your own.",
    ),
]
Nodes = Annotated[int | None, number("Machines.", "--nodes", least=1, most=100000)]
Devices = Annotated[
    int | None,
    number("Processes of a machine, one a GPU.", "--devices", least=1, most=1024),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=VALUE,VALUE",
        help="A run for each value of a recipe's key. Repeatable: for each combination.",
    ),
]
Then = Annotated[
    list[str] | None,
    typer.Option(
        "--then",
        metavar="'COMMAND ...'",
        help="What runs next, if this ends well: the words after nemo-cosmos. Repeatable.",
    ),
]
Dryrun = Annotated[
    bool, typer.Option("--dryrun", help="Print the script that would run it, and stop.")
]

#: The commands that have these options; a ``--then`` takes no other, which would run at once.
LAUNCHABLE = (
    "pretrain",
    "finetune",
    "curate",
    "transcode",
    "tokenize",
    "evaluate",
    "generate",
    "predict",
    "extend",
)

_VALUED = ("--on", "--nodes", "--devices", "--sweep", "--then")

#: While the command of a ``--then`` is parsed, the jobs that it makes; None otherwise.
_following: ContextVar[list[Job] | None] = ContextVar("_following", default=None)


@dataclass(frozen=True)
class Where:
    """What a command was told about where it runs.

    Attributes:
        on: option of the site's group ``cluster``; None for the site's own.
        nodes: machines; None for the recipe's, or one.
        devices: processes of a machine; None for the recipe's, or one.
        sweep: ``KEY=VALUE,VALUE`` words.
        then: command lines that follow.
        dryrun: print scripts instead of running them.
    """

    on: str | None = None
    nodes: int | None = None
    devices: int | None = None
    sweep: Sequence[str] = ()
    then: Sequence[str] = ()
    dryrun: bool = False

    @property
    def is_elsewhere(self) -> bool:
        """Whether it was told of a place, of several runs, or of what follows."""
        return bool(self.on or self.sweep or self.then)

    @property
    def is_asked(self) -> bool:
        """Whether any of it was given, besides ``--dryrun``."""
        return bool(self.is_elsewhere or self.nodes or self.devices)

    @property
    def conf(self) -> list[str]:
        """The word for the site's settings."""
        return [f"cluster={self.on}"] if self.on else []

    @property
    def size(self) -> list[str]:
        """The words for a recipe's machines."""
        given = {"trainer.num_nodes": self.nodes, "trainer.devices": self.devices}
        return [f"{key}={value}" for key, value in given.items() if value is not None]


def launchable(*, shared: bool) -> Callable[[CommandT], CommandT]:
    """Give a command the options of where it runs.

    Args:
        shared: whether several processes share the command's work.

    Returns:
        A decorator. With ``--check`` the command looks at its inputs here, wherever it would run.
    """
    offered: dict[str, Any] = {"on": On, "nodes": Nodes, "devices": Devices, "then": Then}
    if not shared:
        del offered["nodes"], offered["devices"]

    def decorate(command: CommandT) -> CommandT:
        @functools.wraps(command)
        def run(context: typer.Context, dryrun: bool = False, **given: Any) -> None:
            asked = {name: given.pop(name) for name in offered}
            where = Where(**{name: each for name, each in asked.items() if each}, dryrun=dryrun)
            wanted = where.is_asked or dryrun or is_following()
            if given.get("check") or not wanted:
                command(**given)
            else:
                _launch_words(context, where)

        _offer(run, command, {**offered, "dryrun": Dryrun})
        return run  # type: ignore[return-value]  # the same command, with more options

    return decorate


def launch(job: Job, cluster: Mapping[str, Any], where: Where) -> list[Started]:
    """Run a job and what follows it, queue them, or print their scripts.

    Args:
        job: the job.
        cluster: the site's ``cluster`` group.
        where: what the command was told.

    Returns:
        what became of each; empty where nothing was started.
    """
    from nemo_cosmos.launch import chain_scripts, run_chain

    collected = _following.get()
    if collected is not None:
        collected.append(job)
        return []
    jobs = [job, *(each for line in where.then for each in _jobs_of(line, where.on))]
    if where.dryrun:
        _print_scripts(jobs, chain_scripts(jobs, cluster))
        return []
    done = run_chain(jobs, cluster)
    names = [each.name for each in jobs]
    for name, started in zip(names if len(done) > 1 else [" + ".join(names)], done, strict=True):
        if started.number is not None:
            log = f"; its log: {started.log}" if started.log else ""
            typer.echo(
                f"Submitted '{name}' as job {started.number}{log}. 'nemo-cosmos logs "
                f"{started.number} -f' shows what it prints, 'nemo-cosmos cancel {started.number}' "
                "ends it, 'nemo-cosmos status' lists all."
            )
    return done


def is_following() -> bool:
    """Whether this command follows another, which may write what this one reads."""
    return _following.get() is not None


def own_words(words: Sequence[str]) -> list[str]:
    """Return a command's words without those that say where it runs.

    Args:
        words: the words after the command's name.
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, _ = word.partition("=")
        if word == "--":
            return [*kept, word, *rest]
        if flag in _VALUED:
            if not equals:
                next(rest, None)
        elif word != "--dryrun":
            kept.append(word)
    return kept


def _launch_words(context: typer.Context, where: Where) -> None:
    """Launch the command line that this process was given."""
    from nemo_cosmos.cli.main import WORDS
    from nemo_cosmos.launch import Job, Resources
    from nemo_cosmos.site import compose_site

    words = [context.info_name or "", *own_words(context.meta[WORDS])]
    job = Job.for_command(words, Resources(where.nodes or 1, where.devices or 1))
    launch(job, compose_site(where.conf)["cluster"], where)


def _jobs_of(line: str, on: str | None) -> list[Job]:
    """Return the job of a command line of ``--then``, which its own command checks."""
    from nemo_cosmos.cli.main import ALIASES, run_command

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"--then '{line}' is not a command line: {error}.") from error
    said_outside = {"--on", "--then", "--dryrun"}
    if not words or not said_outside.isdisjoint(word.partition("=")[0] for word in words):
        raise ConfigError(
            f"--then '{line}' must be the words after 'nemo-cosmos', such as --then 'tokenize "
            "shards latents --tokenizer T'; where they run and what follows is said once, outside."
        )
    name = ALIASES.get(words[0], words[0])
    if name not in LAUNCHABLE:
        raise ConfigError(
            f"--then '{line}': no launcher takes the command '{name}'. The nearest are "
            f"{nearest_names(name, LAUNCHABLE)}."
        )
    with _collecting() as jobs:
        run_command([name, *(["--on", on] if on else []), *words[1:]])
    if not jobs:
        raise ConfigError(f"--then '{line}' only shows something, so that nothing can follow it.")
    return jobs


@contextmanager
def _collecting() -> Iterator[list[Job]]:
    jobs: list[Job] = []
    token = _following.set(jobs)
    try:
        yield jobs
    finally:
        _following.reset(token)


def _print_scripts(jobs: Sequence[Job], scripts: Sequence[str]) -> None:
    """Print the scripts; of several, in the order in which they run."""
    for place, script in enumerate(scripts):
        if place:
            typer.echo(f"\n# ---- then, after '{jobs[place - 1].name}' has ended well:")
        typer.echo(script, nl=False)


def _offer(run: Callable[..., None], command: Callable[..., None], more: Mapping[str, Any]) -> None:
    """Write the signature that typer reads: the command's parameters and the new ones."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    new = [
        inspect.Parameter(
            name, keyword, default=False if name == "dryrun" else None, annotation=kind
        )
        for name, kind in more.items()
    ]
    shown = [context, *own, *new]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in shown}
