"""The videos of a trial: what a world makes of an episode when it is told one thing or another."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_cosmos.controls import LAYOUT, RIG, Values
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.episode import Episode, EpisodeSource
from nemo_cosmos.evaluation.files.recorded import cut_recorded
from nemo_cosmos.evaluation.metric import Case, Frames, MeasuredMetric, View
from nemo_cosmos.evaluation.obedience import DOSES, OTHER, OWN, Told
from nemo_cosmos.evaluation.pair.motion import motion_amount
from nemo_cosmos.evaluation.run import Source
from nemo_cosmos.inference.given import FrameSource
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.request import Request
from nemo_cosmos.inference.result import Result, notices
from nemo_cosmos.inference.trial.guards import CHANGED
from nemo_cosmos.inference.views import RecordedRig
from nemo_cosmos.models.common.generator import max_views_of
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.platform.device import has_cuda
from nemo_cosmos.platform.peak_memory import peak_memory
from nemo_cosmos.video import Video, encode_video, frames_to_tensor

WORLD = "world"
"""Kind of the inputs in a record: a model and episodes."""

NUM_GIVEN = 1
"""First frames that the model is given; they are not scored."""

DURATION = MeasuredMetric(
    name="generation_s",
    unit="s",
    higher_is_better=False,
    description="time that the model took for the video, with its guards",
    is_quality=False,
    is_repeatable=False,
)
LATENT_L2 = MeasuredMetric(
    name="latent_l2",
    higher_is_better=False,
    description="root mean square difference of the latents that the model's own tokenizer makes",
)
MOTION_AMOUNT = MeasuredMetric(
    name="motion_amount",
    unit="px/frame",
    higher_is_better=True,
    description="mean optical flow of the generated video",
    is_quality=False,
)
HOST_PEAK = MeasuredMetric(
    name="host_peak_gb",
    unit="GB",
    higher_is_better=False,
    description="largest resident memory of the process while it made the video, weights included",
    is_quality=False,
    is_repeatable=False,
)
DEVICE_PEAK = MeasuredMetric(
    name="device_peak_gb",
    unit="GB",
    higher_is_better=False,
    description="most memory that PyTorch held on the GPU while it made the video",
    is_quality=False,
    is_repeatable=False,
)
MEASURED = (
    LATENT_L2,
    MOTION_AMOUNT,
    DURATION,
    HOST_PEAK,
    *((DEVICE_PEAK,) if has_cuda() else ()),
    CHANGED,
)
"""What is measured of every video of a trial."""

_GB_BYTES = 1e9


@dataclass(frozen=True)
class Trial:
    """What a world is tried on.

    Attributes:
        metrics: names of metrics; by default those of :func:`choose_metrics`.
        seeds: seeds of the noise; an episode's numbers are their mean.
        told: what the model is told besides the episode's own control, where it has one.
        limit: how many episodes at most; None for all.
        options: options of the generation by name, such as ``{"steps": 12, "guidance": 0.0}``.
        optional: names of metrics that may be left out where they cannot be computed.
    """

    metrics: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    told: tuple[Told, ...] = (OTHER, *DOSES)
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_value("limit", self.limit, int | None, Range(least=1))
        check_value("seeds", self.seeds, tuple[int, ...])
        if "seed" in self.options:
            raise ConfigError("The options name a seed; a trial takes --seeds, one or more.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"The seeds are {list(self.seeds)}; expected one or more, each once.")


@dataclass
class VideoMaker:
    """Makes the videos of a trial.

    Attributes:
        pipeline: the world.
        trial: what is tried.
        episodes: the recordings.
        out: where videos are kept; None for nowhere.
        partners: for each episode the number of the one whose control stands for "another".
    """

    pipeline: WorldPipeline
    trial: Trial
    episodes: Sequence[EpisodeSource]
    out: Path | None
    partners: Sequence[int] | np.ndarray = ()

    def source(self, number: int, told: Told, seed: int) -> Source:
        """One video, with all that decides its scores."""
        episode = self.episodes[number]
        partner = self.episodes[self.partners[number]] if not told.is_own else None
        about = [
            WORLD,
            self.pipeline.model_record,
            episode.name,
            episode.stamp,
            None if partner is None else [partner.name, partner.stamp],
            [told.name, told.scale, seed],
            dict(self.trial.options),
            self._guard_names,  # a guard may change a video, as the one that hides faces does
        ]
        return Source(about, lambda: self._make(episode, partner, told, seed))

    def describe(self, data: str | PathLike[str]) -> dict[str, Any]:
        """The inputs for the record: model, data, seeds and options, enough to do it again."""
        return {
            "kind": WORLD,
            "world": str(self.pipeline.world.folder.resolve()),
            "model": self.pipeline.model_record,
            "controls": [spec.to_dict() for spec in self.pipeline.world.config.controls],
            "data": str(Path(data).resolve()),
            "episodes": [episode.name for episode in self.episodes],
            "metrics": list(self.trial.metrics),
            "optional": sorted(self.trial.optional),
            "seeds": list(self.trial.seeds),
            "told": [[told.name, told.is_own, told.scale] for told in self.trial.told],
            "limit": self.trial.limit,
            "options": dict(self.trial.options),
            "device": str(next(self.pipeline.world.net.parameters()).device),
            "dtype": str(next(self.pipeline.world.net.parameters()).dtype),
            "guards": self._guard_names,
        }

    @property
    def _guard_names(self) -> list[str]:
        return sorted(guard.name for guard in self.pipeline.guards.guards)

    def _make(
        self, episode: EpisodeSource, partner: EpisodeSource | None, told: Told, seed: int
    ) -> Case:
        recording = episode.read()
        control = recording.control if partner is None else partner.read_control()
        scaled = {
            name: self.pipeline.signals[name].scaled(values, told.scale)
            for name, values in control.items()
        }
        started_s = time.monotonic()
        with peak_memory() as peak:
            several = max_views_of(self.pipeline.generator) > 1
            request = request_for(recording, scaled, self.trial.options, seed, several)
            result = self.pipeline.run(request)
        duration_s = time.monotonic() - started_s
        made = result.by_view or {recording.views[0]: result.video}
        made_THWC = made[recording.views[0]].frames_THWC
        self._keep(result, recording, episode.name, told, seed)
        rest = slice(NUM_GIVEN, None)
        return Case(
            episode.name,
            made_THWC[rest],
            recording.truth_THWC[rest],
            recording.prompt,
            {
                DURATION.name: duration_s,
                LATENT_L2.name: self._latent_l2(made_THWC, recording.truth_THWC),
                MOTION_AMOUNT.name: motion_amount(made_THWC),
                HOST_PEAK.name: peak.host_bytes / _GB_BYTES,
                DEVICE_PEAK.name: peak.device_bytes / _GB_BYTES,
                CHANGED.name: float(bool(notices(result.provenance))),
            },
            _scored({**recording.recorded, **recording.control}, len(recording.truth_THWC)),
            {
                view: View(
                    made[view].frames_THWC[rest],
                    seen.truth_THWC[rest],
                    _scored(seen.recorded, len(seen.truth_THWC)),
                )
                for view, seen in recording.further.items()
            },
        )

    def _latent_l2(self, made_THWC: Frames, truth_THWC: Frames) -> float:
        """Root mean square difference of the latents after the given one."""
        tokenizer = self.pipeline.world.tokenizer
        with torch.no_grad():
            made, truth = (
                tokenizer.encode(frames_to_tensor(frames)[None]).float()[:, :, 1:]
                for frames in (made_THWC, truth_THWC)
            )
        return float((made - truth).square().mean().sqrt())

    def _keep(self, result: Result, recording: Episode, name: str, told: Told, seed: int) -> None:
        """Write the video, and once the truth, for the report."""
        if self.out is None or seed != self.trial.seeds[0]:
            return
        folder = self.out / "videos" / told.name
        folder.mkdir(parents=True, exist_ok=True)
        result.save(folder / f"{name}.mp4")
        if told == OWN:
            seen = {view: one.truth_THWC for view, one in recording.further.items()}
            seen = {recording.views[0]: recording.truth_THWC, **seen}
            rated = {view: Video(frames, recording.fps) for view, frames in seen.items()}
            truth = Result.of_views(rated, {}).video
            (self.out / "videos" / "truth").mkdir(parents=True, exist_ok=True)
            encode_video(self.out / "videos" / "truth" / f"{name}.mp4", truth)


def _scored(recorded: Mapping[str, Values], num_frames: int) -> dict[str, Values]:
    """What belongs to the scored frames of a camera's recording; no metric reads a layout."""
    return {
        name: cut_recorded(name, values, num_frames, NUM_GIVEN)
        for name, values in recorded.items()
        if name != LAYOUT.name
    }


def request_for(
    recording: Episode,
    control: Mapping[str, Values],
    options: Mapping[str, Any],
    seed: int,
    several: bool = False,
) -> Request:
    """What a world is asked for an episode.

    Args:
        recording: the episode, which gives the first frame and the words.
        control: what the model is told.
        options: options of the generation.
        seed: seed of the noise.
        several: whether the world makes what several cameras see.

    Raises:
        ConfigError: an option is unknown or outside its range.
    """
    frames: FrameSource | dict[str, FrameSource] = recording.truth_THWC[:NUM_GIVEN]
    rig = None
    if several:
        further = {view: one.truth_THWC[:NUM_GIVEN] for view, one in recording.further.items()}
        frames = {recording.views[0]: recording.truth_THWC[:NUM_GIVEN], **further}
        # The cameras stay where they are, whatever the model is told of the way.
        own = recording.control.get(RIG.name) or recording.recorded.get(RIG.name) or {}
        rig = RecordedRig(recording.views, own)
    return Request(
        "predict",
        recording.prompt,
        {**options, "seed": seed},
        frames,
        begin="first",
        num_condition_frames=NUM_GIVEN,
        control=control,
        rig=rig,
    )


def kept_videos(out: Path, names: Iterable[str]) -> dict[str, dict[str, Path]]:
    """The videos that a trial kept, by episode and what the model was told.

    Args:
        out: the trial's folder.
        names: the episodes.
    """
    labels = {"truth": "truth", OWN.name: "own control", OTHER.name: "another's control"}
    return {
        name: {
            label: file
            for folder, label in labels.items()
            if (file := out / "videos" / folder / f"{name}.mp4").is_file()
        }
        for name in names
    }
