"""Several loaded worlds in one process, each loaded once and evicted when memory is short.

::

    pool = WorldPool(max_bytes=60 * 2**30)
    pool.run("my_world", Request("generate", "rain in a city"))

Any thread may call :meth:`WorldPool.run`; videos are made one after the other, because a video uses
the whole device. With several ranks, either every rank calls ``run`` alike, or the first rank alone
does and hands its requests to the others, which wait in :meth:`WorldPool.follow`.
"""

from __future__ import annotations

import functools
import json
import threading
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource
from nemo_cosmos.checkpoint.world.config import TOKENIZER_FOLDER, WEIGHTS_FILE, read_config
from nemo_cosmos.checkpoint.world.folder import World
from nemo_cosmos.errors import Cancelled, ConfigError, NemoCosmosError
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference.loading import default_dtype, load_shared_world, local_bytes
from nemo_cosmos.inference.pipeline import Encoder, WorldPipeline
from nemo_cosmos.inference.request import Request
from nemo_cosmos.inference.result import Result
from nemo_cosmos.models.common.text import load_text_encoder
from nemo_cosmos.platform import (
    ensure_model_parallel,
    is_first_process,
    memory_bytes,
    num_processes,
    on_first_process,
    release_memory,
)
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.paths import real_path

_IDLE = timedelta(days=365)
"""How long a follower waits for a request; the default of half an hour would end a quiet server."""


@dataclass(frozen=True)
class _Key:
    """The world in a folder at one time: after another export it is another world.

    Attributes:
        folder: the resolved path.
        files: name, size and time of change of each file that is loaded.
    """

    folder: str
    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, path: str | PathLike[str]) -> _Key:
        folder = real_path(exported_folder(path))
        found = [*folder.glob("*.json"), *folder.glob("*.safetensors")]
        found += (folder / TOKENIZER_FOLDER).glob("*.safetensors")
        stats = [(str(file.relative_to(folder)), file.stat()) for file in sorted(found)]
        return cls(str(folder), tuple((name, s.st_size, s.st_mtime_ns) for name, s in stats))


@dataclass(frozen=True)
class _Loaded:
    pipeline: WorldPipeline
    num_bytes: int
    encoder: str


class WorldPool:
    """Loaded worlds by folder; worlds with the same text encoder share it.

    Args:
        guards: what prompts and videos of all worlds must pass; by default every guard.
        max_bytes: memory that worlds and text encoders may take on a rank; beyond it, the world
            that was used longest ago is evicted. None for no limit.
        dtype: precision to compute in; bfloat16 on a GPU by default, float32 on a CPU.
        tp: tensor-parallel ranks; see :meth:`WorldPipeline.from_folder`.
        lead: whether the first rank hands its requests to the others. False where every rank calls
            :meth:`run` alike, or where there is one.
    """

    def __init__(
        self,
        guards: GuardPolicy | None = None,
        *,
        max_bytes: int | None = None,
        dtype: torch.dtype | None = None,
        tp: int = 1,
        lead: bool = False,
    ) -> None:
        self.max_bytes = max_bytes
        self.dtype = dtype or default_dtype()
        self.tp = tp
        self._guards = guards
        self._worlds: OrderedDict[_Key, _Loaded] = OrderedDict()  # the last one was used last
        self._encoders: dict[str, tuple[Encoder, int]] = {}
        self._lock = threading.RLock()
        self._requests: Any = None
        if lead and num_processes() > 1:
            ensure_model_parallel(tp=tp, cp=num_processes() // tp)
            # Requests are Python objects, and the wait for one is long: a group of its own.
            self._requests = dist.new_group(backend="gloo", timeout=_IDLE)

    @property
    def loaded(self) -> list[str]:
        """Folders of the loaded worlds; the one that was used last is the last."""
        return [key.folder for key in list(self._worlds)]

    @property
    def num_bytes(self) -> int:
        """Memory that worlds and text encoders take on this rank."""
        # Copies, because another thread may load or evict a world meanwhile.
        encoders, worlds = list(self._encoders.values()), list(self._worlds.values())
        return sum(size for _, size in encoders) + sum(world.num_bytes for world in worlds)

    def run(
        self, world: str | PathLike[str], request: Request, progress: Progress | None = None
    ) -> Result:
        """Fulfil a request with a world, which is loaded if it is not there.

        Args:
            world: the world's folder.
            request: what is asked for.
            progress: called after every sampling step; may raise ``Cancelled``, after which the
                pool can be used as before.

        Raises:
            ConfigError: the world takes more memory than the pool may.
            InputError, CheckpointError, GuardrailError, Cancelled: as :class:`WorldPipeline`.
        """
        with self._lock:
            if self._requests is not None:
                self._send((str(world), request))
            return self._run(world, request, progress)

    def follow(self) -> None:
        """Work on the first rank's requests until it closes the pool; the other ranks call it."""
        if self._requests is None or is_first_process():
            return
        while (job := self._receive()) is not None:
            try:
                self._run(*job, progress=None)
            except NemoCosmosError:  # the first rank raised it, too, and has a caller to tell
                continue
        self.close()

    def clear(self) -> None:
        """Evict every world."""
        with self._lock:
            self._drop(list(self._worlds))

    def close(self) -> None:
        """Evict every world, and end :meth:`follow` on the other ranks."""
        with self._lock:
            if self._requests is not None and is_first_process():
                self._send(None)
            self._requests = None
            self.clear()

    def _run(
        self, world: str | PathLike[str], request: Request, progress: Progress | None
    ) -> Result:
        # A caller may keep an error, whose traceback would keep latents and weights alive.
        try:
            return self._pipeline(world).run(request, progress)
        except Cancelled as stopped:
            raise stopped.with_traceback(None) from None
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            raise

    def _pipeline(self, world: str | PathLike[str]) -> WorldPipeline:
        """Return a world's pipeline, loaded if needed, as the last one used."""
        # Ranks must load and evict alike, so that the first one decides.
        key, to_evict, encoder = on_first_process(lambda: self._decide(world))
        self._drop(to_evict, keep_encoder=encoder)
        if key not in self._worlds:
            self._worlds[key] = self._load(key)
            self._drop(on_first_process(lambda: self._beyond_budget(keep=key)))
        self._worlds.move_to_end(key)
        return self._worlds[key].pipeline

    def _decide(self, world: str | PathLike[str]) -> tuple[_Key, list[_Key], str]:
        """Return a world's key, the worlds that must go before it is loaded, and its encoder."""
        key = _Key.of(world)
        if key in self._worlds:
            return key, [], self._worlds[key].encoder
        encoder = _encoder_name(read_config(Path(key.folder)).text_encoder)
        stale = [other for other in self._worlds if other.folder == key.folder]
        if self.max_bytes is None:
            return key, stale, encoder
        ranks = self.tp if self.tp > 1 else num_processes()
        needed = _weight_bytes(Path(key.folder), self.dtype, ranks)
        if needed > self.max_bytes:
            raise ConfigError(
                f"The world '{world}' takes {needed / 1e9:.2f} GB, but the pool may take "
                f"{self.max_bytes / 1e9:.2f} GB. Give the pool more (max_bytes), or more ranks."
            )
        return key, self._beyond_budget(coming=needed, going=stale), encoder

    def _beyond_budget(
        self, keep: _Key | None = None, coming: int = 0, going: list[_Key] | None = None
    ) -> list[_Key]:
        """Return the worlds to evict, those that were used longest ago first."""
        evicted = list(going or ())
        if self.max_bytes is None:
            return evicted
        left = self.num_bytes + coming - sum(self._worlds[key].num_bytes for key in evicted)
        for key, world in self._worlds.items():
            if left <= self.max_bytes:
                break
            if key != keep and key not in evicted:
                evicted.append(key)
                left -= world.num_bytes
        return evicted

    def _load(self, key: _Key) -> _Loaded:
        if self._guards is None:
            self._guards = GuardPolicy.default()
        world: World = load_shared_world(key.folder, self.dtype, self.tp)
        name = _encoder_name(world.config.text_encoder)
        if name not in self._encoders:
            encoder = load_text_encoder(dict(world.config.text_encoder))
            self._encoders[name] = encoder, local_bytes(encoder)
        pipeline = WorldPipeline(world, self._encoders[name][0], self._guards)
        return _Loaded(pipeline, local_bytes(world.net) + local_bytes(world.tokenizer), name)

    def _drop(self, keys: list[_Key], keep_encoder: str = "") -> None:
        """Forget worlds, and text encoders that no other world uses or is about to use."""
        for key in keys:
            del self._worlds[key]
        if keys:
            used = {keep_encoder, *(world.encoder for world in self._worlds.values())}
            self._encoders = {n: found for n, found in self._encoders.items() if n in used}
            release_memory()

    def _send(self, job: tuple[str, Request] | None) -> None:
        dist.broadcast_object_list([job], src=0, group=self._requests)

    def _receive(self) -> tuple[str, Request] | None:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, src=0, group=self._requests)
        job: tuple[str, Request] | None = received[0]
        return job


@functools.cache
def default_pool() -> WorldPool:
    """Return the pool of this process, with every guard and three quarters of the memory."""
    # The rest is for the activations of the world at work.
    return WorldPool(max_bytes=memory_bytes() * 3 // 4)


def _encoder_name(spec: Mapping[str, object]) -> str:
    return json.dumps(dict(spec), sort_keys=True, default=str)


def _weight_bytes(folder: Path, dtype: torch.dtype, ranks: int) -> int:
    """Bytes of a world's weights on each of the ranks that share them, by its files' headers."""
    specs = SafetensorsSource(folder / WEIGHTS_FILE).specs
    numbers = sum(torch.Size(spec.shape).numel() for spec in specs.values())
    tokenizer = sum(file.stat().st_size for file in (folder / TOKENIZER_FOLDER).glob("*.saf*"))
    return numbers * dtype.itemsize // ranks + tokenizer
