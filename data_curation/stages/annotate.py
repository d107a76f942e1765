"""Annotate: a vision-language model says what is seen, window by window.

Clips that came with words keep them. The answers are kept in the run's work folder one by one, so
that a run that was stopped asks for none of them again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_curation.captions.endpoint import CaptionRefusedError, VisionEndpoint
from data_curation.captions.windows import (
    REMAINDER_FRAMES,
    WINDOW_FRAMES,
    caption_windows,
    window_frame_numbers,
)
from data_curation.stages.base import (
    Clip,
    Rejection,
    Resources,
    Result,
    Stage,
    StageSettings,
    nobody_counts,
    setting,
)
from data_curation.stages.caption import TEMPLATE
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import decode

#: The prompt of the paper (arXiv:2501.03575, section 3.4) and of cosmos-curate.
PROMPT = "Elaborate on the visual and narrative elements of the video in detail."


@dataclass(frozen=True)
class AnnotateSettings(StageSettings):
    """Who is asked, and how; the key is read from ``NEMO_COSMOS_VLM_KEY``.

    Attributes:
        url: of an OpenAI-compatible endpoint, up to and with ``/v1``; empty asks nobody.
        model: its name there; recorded as ``caption_source``.
        prompt: the question.
        sample_fps: frames a second that the model is shown.
        window_frames: frames of the clip per caption.
        remainder_frames: a rest at the end is a window of its own from here on.
        long_side_px: frames are scaled down to this longer side.
        max_tokens: of an answer.
        concurrency: most requests at once.
        timeout_s: for one answer.
        max_tries: of one request.
        pause_s: before the second try; it doubles with each.
    """

    url: str = setting(
        "", "Endpoint that captions (OpenAI's API, with /v1); key in NEMO_COSMOS_VLM_KEY.",
        flag="--vlm-url",
    )  # fmt: skip
    model: str = setting("", "Name of the model there.", flag="--vlm-model")
    prompt: str = setting(PROMPT, "What the model is asked.", flag="--vlm-prompt")
    sample_fps: float = setting(2.0, "Frames a second that the model is shown.", flag="--vlm-fps")
    window_frames: int = WINDOW_FRAMES
    remainder_frames: int = REMAINDER_FRAMES
    long_side_px: int = 640
    max_tokens: int = 8192
    concurrency: int = setting(16, "Most requests at once.", flag="--vlm-concurrency")
    timeout_s: float = setting(120.0, "Seconds for one answer.", flag="--vlm-timeout-s")
    max_tries: int = 6
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        if bool(self.url) != bool(self.model):
            raise ConfigError(
                "Captions by a model need both its endpoint and its name; got the endpoint "
                f"'{self.url}' and the name '{self.model}'."
            )
        numbers = (
            self.sample_fps, self.window_frames, self.long_side_px, self.max_tokens,
            self.concurrency, self.timeout_s, self.max_tries,
        )  # fmt: skip
        if min(numbers) <= 0 or self.remainder_frames < 1 or self.pause_s < 0:
            raise ConfigError(f"A setting of the captions is not positive: {numbers}.")

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return AnnotateStage(self, store)

    def asked(self) -> dict[str, Any]:
        """The settings that decide the answer."""
        patience = {"url", "concurrency", "timeout_s", "max_tries", "pause_s"}
        return {name: value for name, value in asdict(self).items() if name not in patience}


class AnnotateStage(Stage):
    """Replaces template captions by those of a model; sees all clips, and asks for many at once."""

    name = "annotate"
    inputs = ("clip_id", "suffixes", "num_frames", "fps", "content_sha256", "caption_source")
    outputs = ("caption", "caption_source", "extra")
    scope = "dataset"
    resources = Resources(cpus=1.0, memory_gb=2.0)

    def __init__(self, settings: AnnotateSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        self._answers = store.output / ".work" / "captions"

    def process(self, clip: Clip) -> Result:
        """Caption one clip."""
        return self.process_all([clip])[0]

    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = nobody_counts
    ) -> list[Result]:
        """Caption all clips that have only a template's words.

        Raises:
            ServiceError: the endpoint gives no answers; those it gave are kept.
            ConfigError: the URL, the key or the name of the model is wrong.
        """
        if not self.settings.url:
            return list(clips)
        # In a thread of its own, because the caller may run an event loop already (a notebook).
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(lambda: asyncio.run(self._caption_all(clips, advance))).result()

    async def _caption_all(
        self, clips: Sequence[Clip], advance: Callable[[], None]
    ) -> list[Result]:
        chosen = self.settings
        endpoint = VisionEndpoint(
            chosen.url, chosen.model, chosen.concurrency, chosen.timeout_s, chosen.max_tries,
            chosen.pause_s,
        )  # fmt: skip
        results: list[Result] = list(clips)
        waiting = iter([place for place, clip in enumerate(clips) if _wants_words(clip)])

        async def work() -> None:
            # Each worker takes the next clip, so that few clips are decoded at a time.
            for place in waiting:
                results[place] = await self._caption(clips[place], endpoint)
                advance()

        async with endpoint:
            await asyncio.gather(*(work() for _ in range(min(chosen.concurrency, len(clips)))))
        return results

    async def _caption(self, clip: Clip, endpoint: VisionEndpoint) -> Result:
        windows = self._kept(clip)
        if windows is None:
            try:
                windows = await self._ask(clip, endpoint)
            except CaptionRefusedError as error:
                return Rejection.of(clip, self.name, "caption_failure", str(error))
            except VideoError as error:
                return Rejection.of(clip, self.name, "decode_failure", str(error))
            with atomic_path(self._path(clip)) as temporary:
                temporary.write_text(json.dumps(windows))
        caption = " ".join(window["caption"] for window in windows)
        extra = {**clip.extra, "windows": windows}
        return replace(clip, caption=caption, caption_source=self.settings.model, extra=extra)

    async def _ask(self, clip: Clip, endpoint: VisionEndpoint) -> list[dict[str, Any]]:
        """One caption for each window, the last frames inclusive as cosmos-curate counts them."""
        chosen, windows = self.settings, []
        spans = caption_windows(clip.num_frames, chosen.window_frames, chosen.remainder_frames)
        for start, end in spans:
            frames = await asyncio.to_thread(self._frames, clip, start, end)
            caption = await endpoint.ask(frames, chosen.prompt, chosen.max_tokens)
            windows.append({"start_frame": start, "end_frame": end - 1, "caption": caption})
        return windows

    def _frames(self, clip: Clip, start: int, end: int) -> NDArray[np.uint8]:
        numbers = window_frame_numbers(start, end, clip.fps, self.settings.sample_fps)
        scale = min(1.0, self.settings.long_side_px / max(clip.height, clip.width))
        size = max(1, round(clip.height * scale)), max(1, round(clip.width * scale))
        content = self._store.get(clip.clip_id, "mp4")
        return decode(content, frame_indices=numbers, size=size).frames_THWC

    def _kept(self, clip: Clip) -> list[dict[str, Any]] | None:
        """The answers of an earlier run to the same question about the same frames."""
        path = self._path(clip)
        return json.loads(path.read_text()) if path.exists() else None

    def _path(self, clip: Clip) -> Path:
        content = json.dumps([clip.content_sha256, clip.fps, self.settings.asked()], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return self._answers / digest[:2] / f"{digest[:32]}.json"


def _wants_words(clip: Clip) -> bool:
    return clip.caption_source == TEMPLATE
