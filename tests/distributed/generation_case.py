"""What several ranks do together in the tests of generation; imported by each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

OPTIONS = {"steps": 3, "guidance": 2.0}
TEXT = {"kind": "words", "path": None, "max_length": 4, "dim": 12}


class Encoder:
    """One random but fixed embedding."""

    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(5)
        shape = (len(prompts), TEXT["max_length"], TEXT["dim"])
        return torch.randn(shape, generator=generator), torch.ones(shape[:2])


class PassVideos:
    name, kind = "pass_videos", "filter"

    def apply(self, frames_THWC: np.ndarray) -> Any:
        from nemo_cosmos.guardrails import Verdict

        return frames_THWC, Verdict(True, self.name, "safe", "nothing to see")


class NoKnives:
    name, kind = "no_knives", "prompt"

    def check(self, x: Any) -> Any:
        from nemo_cosmos.guardrails import Verdict

        return Verdict("knife" not in x, self.name, "violence", "it is about a knife")


def write_world(folder: str) -> None:
    from nemo_cosmos.platform import ensure_model_parallel, is_first_process
    from nemo_cosmos.testing import tiny

    ensure_model_parallel()
    if is_first_process():
        tiny.write_world(folder, text_encoder=TEXT, num_attention_heads=4)


def make_videos(folder: str, audit: str, tp: int, alone: bool = False) -> dict[str, Any]:
    """Videos of both tasks, the latents before decoding, and what the guard said."""
    import nemo_cosmos.inference.pipeline as module
    from nemo_cosmos.checkpoint.world.folder import load_world
    from nemo_cosmos.errors import NemoCosmosError
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.guardrails.audit import AuditLog
    from nemo_cosmos.models.diffusion import generator

    latents = []
    sample_on_all = generator.sample_on_all

    def recording(*args: Any, **kwargs: Any) -> torch.Tensor:
        latents.append(sample_on_all(*args, **kwargs))
        return latents[-1]

    guards = GuardPolicy([NoKnives(), PassVideos()], audit=AuditLog(Path(audit)))
    if alone:  # each process by itself, as data-parallel ones are
        pipe = module.WorldPipeline(load_world(folder), Encoder(), guards)
    else:
        load = module.load_text_encoder
        module.load_text_encoder = lambda spec: Encoder()
        pipe = module.WorldPipeline.from_folder(folder, guards, tp=tp)
        module.load_text_encoder = load
    generator.sample_on_all = recording  # type: ignore[attr-defined]
    options = {"steps": 3, "guidance": 2.0}
    given = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
    try:
        text = pipe.generate("rain", **options)
        image = pipe.predict("rain", given, num_condition_frames=5, **options)
        with pytest.raises(NemoCosmosError, match="knife"):
            pipe.generate("a knife", **options)
    finally:
        generator.sample_on_all = sample_on_all  # type: ignore[attr-defined]
    return {
        "latents": latents,
        "frames": [text.video.frames_THWC, image.video.frames_THWC],
        "weights": sum(parameter.numel() for parameter in pipe.world.net.parameters()),
    }


def lead_or_follow(folder: str, audit: str) -> dict[str, Any]:
    """What the first rank saw; on the other, what its pool held when it was closed."""
    from nemo_cosmos.errors import Cancelled, InputError, NemoCosmosError
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.guardrails.audit import AuditLog
    from nemo_cosmos.inference import Request
    from nemo_cosmos.inference import pool as module
    from nemo_cosmos.platform import is_first_process

    module.load_text_encoder = lambda spec: Encoder()  # type: ignore[assignment]
    guards = GuardPolicy([NoKnives(), PassVideos()], audit=AuditLog(Path(audit)))
    pool = module.WorldPool(guards, lead=True)
    if not is_first_process():
        pool.follow()
        return {"loaded": pool.loaded, "bytes": pool.num_bytes}

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Cancelled("the caller left")

    rain = Request("generate", "rain", OPTIONS)
    first = pool.run(folder, rain).video.frames_THWC
    with pytest.raises(Cancelled, match="the caller left"):
        pool.run(folder, rain, stop)
    with pytest.raises(NemoCosmosError, match="knife"):
        pool.run(folder, Request("generate", "a knife", OPTIONS))
    with pytest.raises(InputError, match="sampler"):
        pool.run(folder, Request("generate", "rain", {"sampler": "euler"}))
    given = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
    pool.run(folder, Request("extend", "rain", OPTIONS, given, num_chunks=2))
    second = pool.run(folder + "2", rain).video.frames_THWC
    again = pool.run(folder, rain).video.frames_THWC
    seen = {"loaded": pool.loaded, "bytes": pool.num_bytes, "frames": [first, second, again]}
    pool.close()
    return seen


def stop_from_second_rank(folder: str, audit: str) -> list[Any]:
    """What each rank's generation ended with, and the step that it reached."""
    from nemo_cosmos.errors import Cancelled
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.guardrails.audit import AuditLog
    from nemo_cosmos.inference import pipeline as module
    from nemo_cosmos.platform import is_first_process

    module.load_text_encoder = lambda spec: Encoder()  # type: ignore[assignment]
    guards = GuardPolicy([NoKnives(), PassVideos()], audit=AuditLog(Path(audit)))
    pipe = module.WorldPipeline.from_folder(folder, guards)
    steps = []

    def stop(done: int, total: int) -> None:
        steps.append(done)
        if done == 2 and not is_first_process():
            raise KeyError("a bug in a callback")

    with pytest.raises((Cancelled, KeyError)) as ended:
        pipe.generate("rain", progress=stop, **OPTIONS)
    video = pipe.generate("rain", **OPTIONS).video
    return [ended.type.__name__, steps, video.num_frames]
