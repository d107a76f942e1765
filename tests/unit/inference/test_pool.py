"""Several worlds in one process: loaded once, evicted by a budget, used from several threads."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import Cancelled, ConfigError, MissingFileError
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference import Request, WorldPool, default_pool
from nemo_cosmos.inference import pool as module
from nemo_cosmos.platform import device

RAIN = Request("generate", "rain", {"steps": 1, "guidance": 0.0})


@pytest.fixture
def worlds(make_world: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Three folders; the second is another world."""
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, task in zip(folders, ("text2world", "video2world", "text2world"), strict=True):
        shutil.copytree(make_world(task=task), folder)
    return folders


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, word_encoder: Any) -> list[str]:
    """Folders in the order in which they are loaded, then the text encoders."""
    loaded: list[str] = []
    load = module.load_shared_world

    def recording(path: str, *args: Any) -> Any:
        loaded.append(Path(path).name)
        return load(path, *args)

    def load_encoder(spec: Any) -> Any:
        loaded.append("encoder")
        return word_encoder

    monkeypatch.setattr(module, "load_shared_world", recording)
    monkeypatch.setattr(module, "load_text_encoder", load_encoder)
    return loaded


def frames_of(pool: WorldPool, world: Path) -> np.ndarray:
    return pool.run(world, RAIN).video.frames_THWC


def test_worlds_are_loaded_once_and_share_the_text_encoder(
    worlds: list[Path], loads: list[str], guards: GuardPolicy
) -> None:
    pool = WorldPool(guards)
    first, second, again = (frames_of(pool, worlds[n]) for n in (0, 1, 0))
    assert loads == ["a", "encoder", "b"]
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    assert [Path(folder).name for folder in pool.loaded] == ["b", "a"]
    num_bytes = pool.num_bytes
    pool.clear()
    assert pool.num_bytes == 0 < num_bytes and pool.loaded == []


def test_the_world_that_was_used_longest_ago_is_evicted_and_freed(
    worlds: list[Path], loads: list[str], guards: GuardPolicy
) -> None:
    pool = WorldPool(guards)
    frames_of(pool, worlds[0])
    pool.max_bytes = int(pool.num_bytes * 2.5)  # room for two
    frames_of(pool, worlds[1])
    frames_of(pool, worlds[0])
    net = weakref.ref(pool._worlds[module._Key.of(worlds[1])].pipeline.world.net)
    frames_of(pool, worlds[2])
    assert [Path(folder).name for folder in pool.loaded] == ["a", "c"]
    gc.collect()
    assert net() is None and pool.num_bytes <= pool.max_bytes
    frames_of(pool, worlds[1])
    assert loads == ["a", "encoder", "b", "c", "b"]


def test_a_world_beyond_the_budget_is_an_error_before_it_is_loaded(
    worlds: list[Path], loads: list[str], guards: GuardPolicy
) -> None:
    pool = WorldPool(guards, max_bytes=1000)
    with pytest.raises(ConfigError, match=r"takes 0\.00 GB, but the pool may take"):
        pool.run(worlds[0], RAIN)
    assert loads == []
    with pytest.raises(MissingFileError):
        pool.run(worlds[0].parent / "nowhere", RAIN)


def test_a_folder_that_was_exported_again_is_loaded_again(
    worlds: list[Path], loads: list[str], guards: GuardPolicy
) -> None:
    pool = WorldPool(guards)
    before = frames_of(pool, worlds[0])
    shutil.copytree(worlds[1], worlds[0], dirs_exist_ok=True)
    os.utime(worlds[0] / "model.safetensors")
    after = frames_of(pool, worlds[0])
    assert not np.array_equal(before, after) and loads == ["a", "encoder", "a"]
    assert len(pool.loaded) == 1


def test_concurrent_callers_get_what_they_asked_for(
    worlds: list[Path], loads: list[str], guards: GuardPolicy
) -> None:
    pool = WorldPool(guards)
    expected = [frames_of(pool, world) for world in worlds[:2]]
    pool = WorldPool(guards, max_bytes=int(pool.num_bytes * 0.8))  # another world evicts
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: frames_of(pool, worlds[n % 2]), range(8)))
    for number, frames_THWC in enumerate(found):
        assert np.array_equal(frames_THWC, expected[number % 2])
    assert len(pool.loaded) == 1


def test_a_cancelled_request_leaves_the_pool_usable_and_frees_its_memory(
    worlds: list[Path], loads: list[str], guards: GuardPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nemo_cosmos.models.diffusion import generator

    noises = []
    seeded_noise = generator.seeded_noise

    def recording(*args: Any) -> Any:
        noise = seeded_noise(*args)
        noises.append(weakref.ref(noise))
        return noise

    monkeypatch.setattr(generator, "seeded_noise", recording)
    pool = WorldPool(guards)
    expected = frames_of(pool, worlds[0])
    stop = threading.Event()

    def watch(done: int, total: int) -> None:
        if stop.is_set():
            raise Cancelled("stopped from another thread")

    stop.set()
    with pytest.raises(Cancelled) as kept:
        pool.run(worlds[0], RAIN, watch)
    gc.collect()
    assert noises[1]() is None, f"kept alive by {kept!r}"
    assert np.array_equal(frames_of(pool, worlds[0]), expected)
    assert loads == ["a", "encoder"]


def test_python_users_share_one_pool() -> None:
    assert default_pool() is default_pool()
    assert default_pool().max_bytes


def test_the_precision_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorldPool().dtype == torch.float32
    monkeypatch.setattr(device, "has_cuda", lambda: True)
    assert WorldPool().dtype == torch.bfloat16
    assert WorldPool(dtype=torch.float32).dtype == torch.float32
