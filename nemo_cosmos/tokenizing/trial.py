"""Put a tokenizer on trial: let it reconstruct videos, and score them against themselves.

The same metrics as for generated videos, and for a discrete tokenizer how it uses its codebook. A
suite that is a public benchmark also prepares the videos as that benchmark does. All is kept below
one folder, so that a trial that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.evaluation.benchmarks.protocols import PROTOCOLS, Protocol
from nemo_cosmos.evaluation.benchmarks.published import published_for
from nemo_cosmos.evaluation.benchmarks.table import PUBLISHED_KEY, published_record
from nemo_cosmos.evaluation.codes.counts import CodeCounts
from nemo_cosmos.evaluation.metric import Case, CodeMetric, Frames, Metric
from nemo_cosmos.evaluation.page import Shown
from nemo_cosmos.evaluation.record import EVALUATION_FILE, EvaluationRecord, as_record, make_record
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.report import write_report
from nemo_cosmos.evaluation.run import Part, Source, score_parts
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.sharing import Crew, shared
from nemo_cosmos.evaluation.suites import chosen_names
from nemo_cosmos.models.tokenizer.tokenizer import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    VideoTokenizer,
    read_tokenizer_config,
)
from nemo_cosmos.platform import default_device
from nemo_cosmos.progress import Progress
from nemo_cosmos.provenance.hashes import file_sha256
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.outputs import check_apart, check_output_file, check_output_folder
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.tokenizing.reconstruct import reconstruct
from nemo_cosmos.tokenizing.videos import VideoSource, find_videos
from nemo_cosmos.video import Video, encode_video

TOKENIZER = "tokenizer"
"""Kind of the inputs in a record: a tokenizer and videos."""

DEFAULT_METRICS = ("psnr", "ssim", "code_usage", "code_perplexity")
"""What is computed unless other metrics are asked for: all that need no weights."""


@dataclass(frozen=True)
class TokenizerTrial:
    """What a tokenizer is tried on.

    Attributes:
        metrics: names of metrics; with neither metrics nor suite, :data:`DEFAULT_METRICS`.
        suite: a named set of metrics; ``tokenbench`` and ``davis`` also prepare the videos.
        window_frames: frames that are encoded on their own; by default the benchmark's number, or
            the whole video.
        max_frames: how many first frames of each video; None for all.
        limit: how many videos at most; None for all.
        required: names of further metrics that must come out.
    """

    metrics: tuple[str, ...] = ()
    suite: str | None = None
    window_frames: int | None = None
    max_frames: int | None = None
    limit: int | None = None
    required: tuple[str, ...] = ()

    @property
    def protocol(self) -> Protocol | None:
        """The benchmark's protocol, if the suite is one."""
        return PROTOCOLS.get(self.suite or "")

    @property
    def window(self) -> int | None:
        """Frames that are encoded on their own; None for the whole video."""
        if self.window_frames is None and self.protocol is not None:
            return self.protocol.window_frames
        return self.window_frames

    def choose(self, is_discrete: bool) -> tuple[list[Metric], frozenset[str]]:
        """The metrics for a tokenizer, and the names of those that may be left out.

        Args:
            is_discrete: whether it makes codes.

        Raises:
            ConfigError: a metric or suite is unknown, or a metric is none of reconstructions.
        """
        chosen = chosen_names(self.metrics, self.suite)
        optional = chosen.optional
        if not chosen.names:
            optional = frozenset(DEFAULT_METRICS)
        optional -= {*self.metrics, *self.required}
        metrics = choose_metrics([*(chosen.names or DEFAULT_METRICS), *self.required])
        for metric in metrics:
            needs = metric.needs - {"truth"}
            if isinstance(metric, CodeMetric) and not is_discrete and metric.name not in optional:
                raise ConfigError(
                    f"'{metric.name}' is of the codes of a discrete tokenizer, and this one is "
                    "continuous. Leave the metric out, or name a discrete tokenizer."
                )
            if needs - {"codes"}:
                raise ConfigError(
                    f"The metric '{metric.name}' needs '{min(needs)}', more than a video and its "
                    "reconstruction. Leave it out."
                )
        # A continuous tokenizer has no codes; that is no reason to list.
        kept = [one for one in metrics if is_discrete or not isinstance(one, CodeMetric)]
        return kept, optional


def evaluate_tokenizer(
    tokenizer: str | PathLike[str],
    data: str | PathLike[str],
    trial: TokenizerTrial | None = None,
    *,
    out: Path | None = None,
    workers: int = 1,
    launched: bool = False,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Load a tokenizer, put it on trial and write the report.

    Args:
        tokenizer: the tokenizer's folder.
        data: a folder of mp4 files, one file, or shards.
        trial: what is tried.
        out: the folder of the report; None to keep nothing.
        workers: how many processes reconstruct videos and score them, this one among them.
        launched: whether all processes that ``torchrun`` started call this and share the videos.
        progress: called with the videos done and the videos in all.

    Returns:
        the scores, and the content of ``evaluation.json``.

    Raises:
        MissingFileError: there is no such tokenizer, or no video.
        WrongFrameCountError: a window is not of 1 + f n frames.
        InputError: no video can be scored, or there are too few for a metric that was named.
        ConfigError: a metric or suite is unknown, or does not fit.
        ShareDone: this is not the first process, and its share is scored.
    """
    started_s = time.monotonic()
    trial = trial or TokenizerTrial()
    call = partial(_load_and_score, exported_folder(tokenizer), data, trial, out)
    with shared(call, out, workers, launched) as (work, crew):
        evaluation, inputs = call(work=work, crew=crew, progress=progress)
        record = make_record(evaluation, inputs, time.monotonic() - started_s)
        is_discrete = inputs["model"]["codebook_size"] is not None
        if trial.suite is not None and inputs["model"]["kind"] == "video":
            rows = published_for(is_discrete, trial.suite)
            record[PUBLISHED_KEY] = published_record(rows, trial.suite)
        if out is not None:
            lines = read_curves(exported_folder(tokenizer).parent)
            shown = Shown(_kept(out, evaluation.clips), training=lines)
            write_report(evaluation, out, record, shown)
    return evaluation, record


def _load_and_score(
    folder: Path,
    data: str | PathLike[str],
    trial: TokenizerTrial,
    out: Path | None,
    *,
    work: Path | None = None,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Reconstruct and score the videos; all processes of a crew call this alike.

    Returns:
        the scores, and the inputs for the record.
    """
    network = VideoTokenizer.from_folder(folder).to(default_device())
    if trial.window is not None:
        network.config.check_num_frames(trial.window)
    metrics, optional = trial.choose(network.config.discrete)
    videos = find_videos(data, trial.limit)
    model = _describe(network, folder)
    sources = {video.name: _source(video, network, trial, model, out) for video in videos}
    part = Part(sources, metrics, optional)
    (scored,) = score_parts([part], work=work, on_case=progress, crew=crew)
    evaluation = scored.summarise()
    inputs = {
        "kind": TOKENIZER,
        "tokenizer": str(folder.resolve()),
        "model": model,
        "data": str(Path(data).resolve()),
        "sha256": {video.name: video.sha256() for video in videos},
        "metrics": [metric.name for metric in evaluation.metrics],
        "suite": trial.suite,
        "window_frames": trial.window_frames,
        "max_frames": trial.max_frames,
        "limit": trial.limit,
        "device": str(default_device()),
    }
    return evaluation, inputs


def tokenizer_checks(
    tokenizer: Path, data: Path, trial: TokenizerTrial, out: Path | None = None
) -> list[Check]:
    """Return what to look at before a tokenizer is loaded; arguments as above."""

    def network() -> str:
        config = read_tokenizer_config(tokenizer)
        if trial.window is not None:
            config.check_num_frames(trial.window)
        return config.name

    def metrics() -> str:
        chosen, _ = trial.choose(read_tokenizer_config(tokenizer).discrete)
        return ", ".join(metric.name for metric in chosen)

    def output() -> str:
        if out is None:
            return "nothing is written"
        check_output_folder(out)
        check_output_file(out / EVALUATION_FILE)
        check_apart(out, [data, tokenizer])
        return f"'{out}' can be written"

    return [
        Check("output", output),
        Check("tokenizer", network),
        Check("metrics", metrics),
        Check("videos", lambda: counted(len(find_videos(data, trial.limit)), "video")),
    ]


def repeat_tokenizer(
    record: EvaluationRecord, progress: Progress | None = None
) -> EvaluationRecord:
    """Put a recorded tokenizer on the same trial again.

    Args:
        record: what was recorded.
        progress: called with the videos done and the videos in all.

    Raises:
        ConfigError: the weights or the videos are no longer what they were, or the record is
            damaged.
        MissingFileError: the tokenizer or the videos are gone.
    """
    inputs = record.inputs
    try:
        trial = TokenizerTrial(
            tuple(str(name) for name in inputs["metrics"]),
            inputs["suite"],
            inputs["window_frames"],
            inputs["max_frames"],
            inputs["limit"],
        )
        folder, data = Path(inputs["tokenizer"]), Path(inputs["data"])
        weights, videos = inputs["model"]["weights_sha256"], dict(inputs["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The inputs in '{record.place}' are damaged: {str(error).rstrip('.')}. "
            "Evaluate the tokenizer again."
        ) from error
    now = {
        "weights": file_sha256(exported_folder(folder) / WEIGHTS_FILE),
        "videos": {video.name: video.sha256() for video in find_videos(data, trial.limit)},
    }
    for what, before in (("weights", weights), ("videos", videos)):
        if now[what] != before:
            raise ConfigError(
                f"The {what} are not those of '{record.place}' any more. Restore them, or "
                "evaluate again."
            )
    _, again = evaluate_tokenizer(folder, data, trial, progress=progress)
    return as_record(again, "the repetition")


def _describe(network: VideoTokenizer, folder: Path) -> dict[str, Any]:
    """What identifies a tokenizer in a record, and what its numbers are to be read by."""
    config = network.config
    return {
        "name": config.name,
        "kind": config.kind,
        "compression": f"{config.temporal_factor}x{config.spatial_factor}x{config.spatial_factor}",
        "codebook_size": math.prod(config.fsq_levels) if config.discrete else None,
        "latent_channels": None if config.discrete else config.latent_channels,
        "num_parameters": sum(weight.numel() for weight in network.net.parameters()),
        "weights_sha256": file_sha256(folder / WEIGHTS_FILE),
        "config_sha256": file_sha256(folder / CONFIG_FILE),
    }


def _source(
    video: VideoSource,
    network: VideoTokenizer,
    trial: TokenizerTrial,
    model: Mapping[str, Any],
    out: Path | None,
) -> Source:
    """A video and its reconstruction, with all that decides their scores."""
    protocol = None if trial.protocol is None else trial.protocol.name
    options = [protocol, trial.window, trial.max_frames]
    about = [TOKENIZER, model["weights_sha256"], model["config_sha256"], video.stamp, options]

    def read() -> Case:
        truth = video.read()
        frames_THWC = truth.frames_THWC[: trial.max_frames]
        if trial.protocol is not None:
            frames_THWC = trial.protocol.prepare(frames_THWC, truth.fps)
        made = reconstruct(network, frames_THWC, trial.window)
        if out is not None:
            shown = {"truth": frames_THWC, "reconstruction": made.frames_THWC}
            _keep(out, video.name, shown, truth.fps)
        codes = None
        if made.codes is not None:
            codes = CodeCounts.of(made.codes, int(model["codebook_size"]))
        return Case(video.name, made.frames_THWC, frames_THWC, codes=codes)

    return Source(about, read)


_FOLDERS = {"truth": "truth", "reconstruction": "through the tokenizer"}
"""Folder below ``videos`` -> the label in the report."""


def _keep(out: Path, name: str, videos: Mapping[str, Frames], fps: float) -> None:
    """Write both videos for the report; scores are of the frames before this compression."""
    for folder, frames_THWC in videos.items():
        place = out / "videos" / folder
        place.mkdir(parents=True, exist_ok=True)
        encode_video(place / f"{name}.mp4", Video(frames_THWC, fps))


def _kept(out: Path, names: Iterable[str]) -> dict[str, dict[str, Path]]:
    """The videos that a trial kept, by name and label."""
    return {
        name: {
            label: file
            for folder, label in _FOLDERS.items()
            if (file := out / "videos" / folder / f"{name}.mp4").is_file()
        }
        for name in names
    }
