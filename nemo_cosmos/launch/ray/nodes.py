"""The ranks of a job on the machines of a Ray cluster.

``ray job submit`` starts this on the head node. It reserves the machines, starts the ranks of each
there (:mod:`nemo_cosmos.launch.ranks`) and prints what they print::

    python -m nemo_cosmos.launch.ray.nodes --nodes 2 --devices 8 --gpus 8 -- pretrain --factory ...
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nemo_cosmos.errors import counted
from nemo_cosmos.exits import Exit, Then, what_then
from nemo_cosmos.launch.ranks import Place, Ranks
from nemo_cosmos.launch.ray.states import WAITS

#: How long one look at a machine takes, and between two lines that say what is waited for.
LOOK_S, SAY_S = 0.5, 60.0
#: Reserving takes a moment also where all is free.
FIRST_SAY_S = 5.0
#: The exit code of ranks whose machine is lost.
LOST = 137


class NodeRanks:
    """The ranks of one machine, as a Ray actor."""

    def __init__(self) -> None:
        self._ranks: Ranks | None = None

    def meeting_place(self) -> str:
        """Return an address of this machine that is free."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{host}:{free.getsockname()[1]}"

    def start(
        self, words: Sequence[str], place: Place, site: Sequence[str], environment: dict[str, str]
    ) -> None:
        """Start the ranks.

        Args:
            words: the words after ``nemo-cosmos``.
            place: this machine.
            site: words of ``configure`` that the ranks see as kept.
            environment: variables of the ranks.
        """
        os.environ.update(environment)
        self._ranks = Ranks(words, place, site)

    def look(self) -> tuple[list[str], int | None]:
        """Return what the ranks have printed since, and their exit code once they have ended."""
        assert self._ranks is not None
        lines = list(self._ranks.lines(LOOK_S))
        return lines, self._ranks.code

    def ask(self, number: int) -> None:
        """Pass a signal on."""
        if self._ranks is not None:
            self._ranks.ask(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job on the cluster that this machine belongs to.

    Args:
        arguments: the words of the command line; by default those of this process.

    Returns:
        the exit code of the rank that failed first, or 0.
    """
    given = _parser().parse_args(arguments)
    missing = [name for name in given.secret if name not in os.environ]
    if missing:
        print(
            f"{', '.join(missing)} must be set in the environment of the cluster's nodes.",
            file=sys.stderr,
        )
        return int(Exit.WRONG_USE)
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    failures = 0
    while True:
        code, was_asked = _run(given)
        then = what_then(code)
        if code == 0 or was_asked or then is Then.NOTHING:
            return code
        failures = 0 if then is Then.CONTINUE else failures + 1
        if failures > given.retries:
            return code
        print(f"The job failed with exit code {code}, and starts again.", file=sys.stderr)


def _run(given: argparse.Namespace) -> tuple[int, bool]:
    """Run the ranks once, and say whether they were asked to end."""
    bundle = {"CPU": float(given.cpus), "GPU": float(given.gpus), **_amounts(given.resource)}
    wanted = {name: amount for name, amount in bundle.items() if amount}
    # Ray takes no bundle of nothing.
    group = placement_group(
        [wanted or {"CPU": 0.001}] * given.nodes,
        strategy="STRICT_SPREAD" if given.nodes > 1 else "PACK",
    )
    signals: list[int] = []
    try:
        with _noted(signals):
            if not _reserved(group, given.nodes, wanted, signals):
                return int(Exit.STOPPED), True
            actors = [_actor(group, place, wanted) for place in range(given.nodes)]
            try:
                code = _watch(actors, given, signals)
            except RayError as error:
                print(f"A machine is lost: {error}", file=sys.stderr)
                code = LOST
            return code, bool(signals)
    finally:
        remove_placement_group(group)  # ends its actors, and their ranks with them


def _reserved(group: Any, nodes: int, wanted: dict[str, float], signals: list[int]) -> bool:
    """Wait for the machines; False where the job is asked to end before they are there."""
    amounts = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items()) or "nothing"
    next_s, has_said = time.monotonic() + FIRST_SAY_S, False
    while not group.wait(timeout_seconds=LOOK_S):
        if signals:
            return False
        if time.monotonic() >= next_s:
            next_s, has_said = time.monotonic() + SAY_S, True
            alive = [node for node in ray.nodes() if node["Alive"]]
            large = [
                node
                for node in alive
                if all(node["Resources"].get(name, 0) >= least for name, least in wanted.items())
            ]
            print(
                f"{WAITS}{counted(nodes, 'machine')} with {amounts} free on each; the cluster has "
                f"{counted(len(alive), 'machine')}, {len(large)} of that size. Ask for fewer "
                "(--nodes, --devices, cluster.cpus, cluster.gpus_per_node) if it does not grow.",
                flush=True,
            )
    if has_said:  # the last line says what is waited for, until ranks print something
        print("The machines are there; the ranks start.", flush=True)
    return True


def _actor(group: Any, place: int, wanted: dict[str, float]) -> Any:
    strategy = PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=place
    )
    more = {name: amount for name, amount in wanted.items() if name not in ("CPU", "GPU")}
    return (
        ray.remote(NodeRanks)
        .options(
            num_cpus=wanted.get("CPU", 0),
            num_gpus=wanted.get("GPU", 0),
            resources=more,
            scheduling_strategy=strategy,
        )
        .remote()
    )


def _watch(actors: Sequence[Any], given: argparse.Namespace, signals: list[int]) -> int:
    """Print what the ranks print, until those of all machines have ended."""
    meet = ray.get(actors[0].meeting_place.remote())
    environment = dict(word.partition("=")[::2] for word in given.env)
    starts = [
        actor.start.remote(
            given.words, Place(given.nodes, given.devices, node, meet), given.site, environment
        )
        for node, actor in enumerate(actors)
    ]
    ray.get(starts)
    passed_on, first_code = 0, 0
    looks = {actor.look.remote(): actor for actor in actors}
    while looks:
        for number in signals[passed_on:]:
            passed_on += 1
            _ask(looks.values(), number)
        done, _ = ray.wait(list(looks))
        for each in done:
            actor = looks.pop(each)
            lines, code = ray.get(each)
            for line in lines:
                print(line, flush=True)
            if code is None:
                looks[actor.look.remote()] = actor
            elif code and not first_code:
                first_code = code
                if not signals:  # the others would wait for these for ever
                    _ask(looks.values(), signal.SIGTERM)
    return first_code


def _ask(actors: Any, number: int) -> None:
    for actor in actors:
        with suppress(RayError):
            actor.ask.remote(number)


@contextmanager
def _noted(signals: list[int]) -> Iterator[None]:
    """Within the block, note signals that ask the job to end."""

    def note(number: int, _: FrameType | None) -> None:
        signals.append(number)

    asking = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before: dict[int, Callable[..., object] | int | None] = {
        number: signal.signal(number, note) for number in asking
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _amounts(words: Sequence[str]) -> dict[str, float]:
    return {name: float(amount) for name, _, amount in (word.partition("=") for word in words)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nemo_cosmos.launch.ray.nodes")
    for name in ("nodes", "devices"):
        parser.add_argument(f"--{name}", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=1)
    for name in ("gpus", "retries"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("resource", "env", "secret", "site"):
        parser.add_argument(f"--{name}", action="append", default=[], metavar="WORD")
    parser.add_argument("words", nargs="+", help="the words after nemo-cosmos")
    return parser


if __name__ == "__main__":
    sys.exit(main())
