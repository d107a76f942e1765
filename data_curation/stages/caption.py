"""Caption: words for the clips that came without, by a model or from measurements.

A vision-language model describes a clip window by window; without one, a template words what the
stages before have measured. Clips that came with words keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from data_curation.captions.interview import Ask, Interview, VisionModel
from data_curation.captions.template import TEMPLATE, template_caption
from data_curation.captions.windows import (
    REMAINDER_FRAMES,
    WINDOW_FRAMES,
    caption_windows,
    window_frame_numbers,
)
from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.stages.base import DatasetStage, Stage, StageSettings, ignore_progress
from data_curation.store import ClipStore
from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.options import limited, option
from nemo_cosmos.services import NoAnswerError

#: The prompt of the paper (arXiv:2501.03575, section 3.4) and of cosmos-curate.
PROMPT = "Elaborate on the visual and narrative elements of the video in detail."


@dataclass(frozen=True)
class CaptionSettings(VisionModel, StageSettings):
    """The model to ask and the question; without a URL no model is asked.

    Attributes:
        prompt: the question.
        sample_fps: frames per second that the model is shown.
        window_frames: frames of the clip per caption.
        remainder_frames: least number of frames at the end that become a window of their own.
        max_tokens: upper limit of an answer's tokens.
    """

    prompt: str = option(PROMPT, "The question to the model.", flag="--vlm-prompt")
    sample_fps: float = option(
        2.0, "Frames a second that the model is shown.", flag="--vlm-fps", above=0, most=1000
    )
    window_frames: int = limited(WINDOW_FRAMES, least=1)
    remainder_frames: int = limited(REMAINDER_FRAMES, least=1)
    max_tokens: int = limited(8192, least=1)

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return CaptionStage(self, store)

    def asked(self) -> JsonObject:
        """The settings that decide the answer."""
        patience = {"url", "concurrency", "timeout_s", "max_tries", "pause_s"}
        return {name: value for name, value in asdict(self).items() if name not in patience}


class CaptionStage(DatasetStage):
    """Captions clips that have no words yet; sees all clips, and asks for many at once."""

    name = "caption"
    inputs = ("clip_id", "suffixes", "num_frames", "fps", "content_sha256", "caption_source")
    outputs = ("caption", "caption_source", "extra")
    resources = Resources(cpus=1.0, memory_gb=2.0)

    def __init__(self, settings: CaptionSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = ignore_progress
    ) -> list[Result]:
        """Caption all clips that came without words.

        Raises:
            ServiceError: the endpoint gives no answers; those it gave are kept.
            ConfigError: the URL, the key or the name of the model is wrong.
        """
        results: list[Result] = list(clips)
        places = [place for place, clip in enumerate(clips) if clip.caption_source == TEMPLATE]
        if not self.settings.url:
            for place in places:
                results[place] = replace(clips[place], caption=template_caption(clips[place]))
            return results
        interview = Interview(self.settings, self._store, "captions", self.settings.asked())
        answers = interview.run([clips[place] for place in places], self._ask, advance)
        for place, answer in zip(places, answers, strict=True):
            results[place] = self._captioned(clips[place], answer)
        return results

    def _captioned(self, clip: Clip, windows: list[JsonObject] | Exception) -> Result:
        if isinstance(windows, Exception):
            refused = isinstance(windows, NoAnswerError)
            reason = "caption_failure" if refused else "decode_failure"
            return Rejection.of(clip, self.name, reason, str(windows))
        caption = " ".join(window["caption"] for window in windows)
        extra = {**clip.extra, "windows": windows}
        return replace(clip, caption=caption, caption_source=self.settings.model, extra=extra)

    async def _ask(self, clip: Clip, ask: Ask) -> list[JsonObject]:
        """One caption for each window, the last frames inclusive as cosmos-curate counts them."""
        chosen, windows = self.settings, []
        spans = caption_windows(clip.num_frames, chosen.window_frames, chosen.remainder_frames)
        for start, end in spans:
            numbers = window_frame_numbers(start, end, clip.fps, chosen.sample_fps)
            caption = await ask(numbers, chosen.prompt, chosen.max_tokens)
            windows.append({"start_frame": start, "end_frame": end - 1, "caption": caption})
        return windows
