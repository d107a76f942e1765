"""Actors on a Ray cluster: the same work on one machine or on hundreds.

The driver keeps the journal and takes every source from stage to stage; an actor holds models, and
one source at a time, so that it is known which source a dead actor had. Stages without a GPU share
actors, and a source stays with its actor as long as it can; each stage that wants a GPU has actors
of its own, where the cluster has a GPU. Only so many sources are under way as actors can be busy
with (:data:`SOURCES_PER_ACTOR`), so that a slow stage holds the others back.

An actor is started for each source that waits for its kind, up to what the cluster holds, and let
go when it has been idle for a while. One that dies, alone or with its node, is replaced, and its
source resumes with the stage that it was in.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import ray
from ray.exceptions import RayError, RayTaskError

from data_curation.executors.base import MAX_TRIES, Item, Outcome, Tries, Work
from data_curation.executors.sharing import Needs, limits, needs_of
from nemo_cosmos.errors import ConfigError, NemoCosmosError, ServiceError
from nemo_cosmos.platform import hide_gpus

#: Sources under way for each actor that the cluster holds: one in work and one in reserve.
SOURCES_PER_ACTOR = 2
#: Seconds after which an idle actor is stopped, and in which the first actor must have started.
IDLE_S = 30.0
START_S = 600.0
#: Seconds between two looks at the nodes of the cluster.
_POLL_S = 1.0
#: Seconds in which a head node must answer.
_CONNECT_S = 10.0
#: Bytes of a local cluster's shared memory; only records of clips pass through it.
_LOCAL_STORE_BYTES = 200 * 2**20


class RayExecutor:
    """Actors on a Ray cluster.

    Input and the folder of the run must be seen under the same names on all nodes: a shared file
    system. Sources in a bucket are fetched by the actors.

    Args:
        address: ``local`` starts a cluster on this machine for the time of the run, ``auto`` finds
            one that runs here, ``HOST:PORT`` is that of the head node elsewhere.
        min_actors: number of actors of each kind that are kept while the run lasts.
        max_actors: most actors of each kind; 0 for as many as the cluster holds, also when it
            grows. With more than it holds, a cluster that can grow does.

    Raises:
        ConfigError: the numbers are impossible.
    """

    def __init__(self, address: str = "local", min_actors: int = 1, max_actors: int = 0) -> None:
        if min_actors < 0 or max_actors < 0 or (max_actors and max_actors < min_actors):
            raise ConfigError(
                f"From {min_actors} to {max_actors} Ray actors of a kind are impossible; expected "
                "0 or more, and a larger maximum, or 0 for what the cluster holds."
            )
        self.address = address
        self.min_actors = min_actors
        self.max_actors = max_actors

    def run(self, work: Work[Item, Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, as they are finished.

        Raises:
            ServiceError: there is no cluster at the address.
            NemoCosmosError: actors cannot start.
        """
        with _connected(self.address):
            run = _Run(work, items, self.min_actors, self.max_actors)
            try:
                yield from run.outcomes()
            finally:
                run.stop()


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Be a driver of a cluster; of the one that the process has joined already, where it has."""
    if ray.is_initialized():
        yield
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a cluster that we start reports to nobody
    local: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": _LOCAL_STORE_BYTES,
    }
    options = local if address == "local" else {}
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal():  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ServiceError(
            f"There is no Ray cluster at '{address}': {reason} Expected 'local', 'auto' "
            "(a cluster of which this machine is a node) or HOST:PORT of its head node, with the "
            "same versions of Python and Ray. 'ray status' shows whether it runs."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


class _ActorBody:
    """What runs on a node; errors are handed back as values, so that they arrive as they are."""

    def __init__(self, work: Work[Any, Any], uses_gpu: bool) -> None:
        if not uses_gpu:
            hide_gpus()
        self._work = work

    def ready(self, folder: str, item: Any) -> tuple[str, Exception | None]:
        """The id of the node, which works in the driver's folder, for relative paths."""
        node: str = ray.get_runtime_context().get_node_id()
        try:
            with suppress(OSError):
                os.chdir(folder)
            self._work.check_place(item)
        except NemoCosmosError as error:
            return node, error
        return node, None

    def advance(self, outcome: Any, first: int, stop: int) -> tuple[Any, Exception | None]:
        try:
            return self._work.advance(outcome, first, stop), None
        except Exception as error:  # noqa: BLE001  raised again by the driver
            return None, error


@dataclass
class _UnderWay:
    """A source between two stages.

    Attributes:
        index: the source's place among the items.
        outcome: the source as the stages before left it.
        stage: index of the next stage.
        stop: index of the stage at which the actor that has it stops.
        careful: whether to go one stage at a time, to find out in which one an actor died.
    """

    index: int
    outcome: Any
    stage: int = 0
    stop: int = 0
    careful: bool = False


@dataclass(eq=False)
class _Actor:
    """One actor, as the driver sees it."""

    handle: Any
    pool: _Pool
    started_s: float = field(default_factory=time.monotonic)
    node: str = ""
    source: _UnderWay | None = None
    idle_since_s: float = 0.0

    @property
    def ready(self) -> bool:
        return bool(self.node)

    @property
    def idle(self) -> bool:
        return self.ready and self.source is None

    def give(self, source: _UnderWay) -> Any:
        """Begin with the next stages of a source; returns Ray's reference to the outcome."""
        self.source = source
        return self.handle.advance.remote(source.outcome, source.stage, source.stop)

    def take(self) -> _UnderWay | None:
        source, self.source = self.source, None
        self.idle_since_s = time.monotonic()
        return source


@dataclass(eq=False)
class _Pool:
    """The actors of one kind, and the sources that wait for them."""

    needs: Needs
    limit: int = 1
    queue: deque[_UnderWay] = field(default_factory=deque)
    actors: list[_Actor] = field(default_factory=list)
    num_failed: int = 0

    @property
    def num_wanted(self) -> int:
        """One actor for each source that waits here or is worked on."""
        return len(self.queue) + sum(actor.source is not None for actor in self.actors)

    def start(self, work_ref: Any) -> _Actor:
        uses_gpu = "GPU" in self.needs
        body = ray.remote(_ActorBody).options(
            num_cpus=self.needs.get("CPU", 0),
            num_gpus=self.needs.get("GPU", 0),
            memory=self.needs.get("memory"),
            max_restarts=0,
        )
        actor = _Actor(body.remote(work_ref, uses_gpu), self)
        self.actors.append(actor)
        return actor

    def drop(self, actor: _Actor) -> None:
        self.actors.remove(actor)
        ray.kill(actor.handle)

    def stop_idle(self, min_actors: int, alive: set[str]) -> None:
        """Those that had nothing to do for long, and those whose node is gone."""
        long_ago_s = time.monotonic() - IDLE_S
        for actor in [actor for actor in self.actors if actor.idle]:
            spare = len(self.actors) > min_actors and actor.idle_since_s < long_ago_s
            if spare or actor.node not in alive:
                self.drop(actor)

    def check_started(self) -> None:
        """Refuse to wait for ever.

        Raises:
            NemoCosmosError: no actor has started for long.
        """
        oldest_s = min((actor.started_s for actor in self.actors), default=time.monotonic())
        waited_s = time.monotonic() - oldest_s
        if waited_s > START_S and not any(actor.ready for actor in self.actors):
            raise NemoCosmosError(
                f"No Ray actor with {self.needs} has started in {waited_s:.0f} s; the cluster has "
                f"{ray.available_resources()} free. Wait until other jobs end, add nodes, or look "
                "at 'ray status'."
            )


class _Run(Generic[Item, Outcome]):
    """One piece of work on many items."""

    def __init__(
        self,
        work: Work[Item, Outcome],
        items: Sequence[Item],
        min_actors: int,
        max_actors: int,
    ) -> None:
        self._work, self._items = work, items
        self._min_actors, self._max_actors = min_actors, max_actors
        self._tries = Tries(work, items)
        self._work_ref = ray.put(work)
        self._waiting = deque(range(len(items)))
        self._num_under_way = 0
        self._calls: dict[Any, _Actor] = {}
        self._looked_s = 0.0
        needs = needs_of(work.stages, _alive_nodes())
        kinds = {id(need): _Pool(need) for need in needs}
        self._kinds = list(kinds.values())
        self._pools = [kinds[id(need)] for need in needs]

    def outcomes(self) -> Iterator[Outcome]:
        """Yield them as they are finished."""
        while self._waiting or self._num_under_way:
            self._look_at_nodes()
            yield from self._admit()
            self._start()
            self._hand_out()
            if self._calls:
                done, _ = ray.wait(list(self._calls), num_returns=1, timeout=_POLL_S)
                for call in done:
                    yield from self._answered(call)

    def stop(self) -> None:
        """Kill all actors."""
        for pool in self._kinds:
            for actor in list(pool.actors):
                pool.drop(actor)

    def _admit(self) -> Iterator[Outcome]:
        """Let sources in while there is room; those that an earlier run finished pass through."""
        room = SOURCES_PER_ACTOR * sum(pool.limit for pool in self._kinds)
        while self._waiting and self._num_under_way < room:
            index = self._waiting.popleft()
            outcome = self._work.begin(self._items[index])
            if self._work.is_finished(outcome):
                yield outcome
            else:
                self._num_under_way += 1
                yield from self._continue(_UnderWay(index, outcome))

    def _continue(self, source: _UnderWay, actor: _Actor | None = None) -> Iterator[Outcome]:
        """To the next stage, by the same actor if it can; after the last one, it is done."""
        if source.stage == len(self._work.stages):
            self._num_under_way -= 1
            yield self._work.finish(self._items[source.index], source.outcome)
            return
        pool = self._pools[source.stage]
        source.stop = source.stage + 1
        while (
            not source.careful
            and source.stop < len(self._pools)
            and self._pools[source.stop] is pool
        ):
            source.stop += 1
        if actor is not None and actor.pool is pool:
            self._calls[actor.give(source)] = actor
        else:
            pool.queue.append(source)

    def _look_at_nodes(self) -> None:
        """Now and then: how many actors the cluster holds, and which are not wanted any more."""
        if time.monotonic() - self._looked_s > _POLL_S:
            self._looked_s = time.monotonic()
            nodes = _alive_nodes()
            held = limits([pool.needs for pool in self._kinds], nodes)
            for pool, limit in zip(self._kinds, held, strict=True):
                pool.limit = self._max_actors or limit
                pool.stop_idle(self._min_actors, {node["NodeID"] for node in nodes})
                pool.check_started()

    def _start(self) -> None:
        """The actors that are wanted."""
        least = self._min_actors if self._num_under_way else 0
        for pool in self._kinds:
            num_wanted = min(max(pool.num_wanted, least), pool.limit)
            for _ in range(num_wanted - len(pool.actors)):
                actor = pool.start(self._work_ref)
                self._calls[actor.handle.ready.remote(str(Path.cwd()), self._items[0])] = actor

    def _hand_out(self) -> None:
        for pool in self._kinds:
            for actor in pool.actors:
                if pool.queue and actor.idle:
                    self._calls[actor.give(pool.queue.popleft())] = actor

    def _answered(self, call: Any) -> Iterator[Outcome]:
        """One call has ended, or its actor has."""
        actor = self._calls.pop(call)
        try:
            content, error = ray.get(call)
        except RayTaskError:
            raise
        except RayError as death:
            yield from self._died(actor, death)
            return
        if error is not None:
            raise error
        source = actor.take()
        if source is None:
            actor.node, actor.pool.num_failed = content, 0
            return
        source.outcome, source.stage = content, source.stop
        yield from self._continue(source, actor)

    def _died(self, actor: _Actor, death: RayError) -> Iterator[Outcome]:
        source = actor.take()
        actor.pool.drop(actor)
        if source is None:
            self._count_failed_start(actor.pool, death)
            return
        given_up = self._tries.lost(source.index, self._work.stages[source.stage].name, "died")
        if given_up is None:
            source.careful = True
            yield from self._continue(source)
        else:
            self._num_under_way -= 1
            yield given_up

    def _count_failed_start(self, pool: _Pool, death: RayError) -> None:
        pool.num_failed += 1
        if pool.num_failed == MAX_TRIES:
            reason = " ".join(str(death).split())[-500:]
            raise NemoCosmosError(
                f"{MAX_TRIES} Ray actors in a row died before they took any source: {reason} Is "
                "this very version of nemo-cosmos installed on all nodes?"
            ) from death


def _alive_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
