"""Evaluate a folder of generated videos against a folder of true ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.evaluation.files.matching import (
    compare_frame_rates,
    match_videos,
    prompt_of,
    read_prompts,
)
from nemo_cosmos.evaluation.files.pairs import Alignment, FileNeeds, file_source
from nemo_cosmos.evaluation.files.recorded import signal_files
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.page import Shown
from nemo_cosmos.evaluation.record import (
    EVALUATION_FILE,
    EvaluationRecord,
    as_record,
    make_record,
)
from nemo_cosmos.evaluation.registry import as_metrics, choose_metrics, default_motion
from nemo_cosmos.evaluation.report import write_report
from nemo_cosmos.evaluation.run import Part, score_parts
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.sharing import Crew, shared
from nemo_cosmos.progress import Progress
from nemo_cosmos.provenance.hashes import sha256_or_none
from nemo_cosmos.storage.outputs import (
    check_apart,
    check_output_file,
    check_output_folder,
    check_room,
    folder_bytes,
)
from nemo_cosmos.storage.run_curves import read_curves

FOLDERS = "folders"
"""Kind of the inputs in a record: two folders of videos."""


@dataclass(frozen=True)
class Comparison:
    """Two folders and what is computed of their videos.

    Attributes:
        generated: a folder of mp4 files, or one file.
        truth: a folder with files of the same names, or one file; None for metrics that need none.
        metrics: names of metrics; the default ones where empty.
        alignment: how a pair is made comparable; by default not at all.
        prompts: a JSON file with the prompt of each video by its name or stem.
        allow_mismatch: kinds of difference between two videos that are meant: ``frame_rate``.
        optional: names of metrics that may be left out where they cannot be computed.
    """

    generated: Path
    truth: Path | None = None
    metrics: tuple[str, ...] = ()
    alignment: Alignment = field(default_factory=Alignment)
    prompts: Path | None = None
    allow_mismatch: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()


def compare_folders(
    asked: Comparison,
    *,
    out: Path | None = None,
    workers: int = 1,
    launched: bool = False,
    training: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Score the videos of two folders and write the report.

    Args:
        asked: the folders, and what is computed.
        out: the folder of the report, where the same call goes on after a stop; None for none.
        workers: how many processes score, this one among them.
        launched: whether all processes that ``torchrun`` started call this and share the videos.
        training: the run that trained the model, whose curves the report shows beside the scores.
        progress: called with the videos done and the videos in all.

    Returns:
        the scores, and the content of ``evaluation.json``.

    Raises:
        ShareDone: this is not the first process, and its share is scored.
        As :func:`evaluate_folders`.
    """
    started_s = time.monotonic()
    with shared(partial(_score, asked), out, workers, launched) as (work, crew):
        evaluation = _score(asked, work=work, crew=crew, progress=progress)
        record = make_record(evaluation, describe_folders(asked), time.monotonic() - started_s)
        if out is not None:
            shown = {
                name: {"truth": pair.truth, "generated": pair.generated}
                if pair.truth is not None
                else {"generated": pair.generated}
                for name, pair in match_videos(asked.generated, asked.truth).items()
            }
            lines = read_curves(training) if training is not None else []
            write_report(evaluation, out, record, Shown(shown, training=lines))
    return evaluation, record


def evaluate_folders(
    generated: str | PathLike[str],
    truth: str | PathLike[str] | None,
    chosen: Iterable[Metric | str] | None = None,
    alignment: Alignment | None = None,
    prompts: Mapping[str, str] | None = None,
    work: Path | None = None,
    on_pair: Callable[[int, int], None] | None = None,
    allow_mismatch: Collection[str] = (),
    optional: Collection[str] = (),
    crew: Crew | None = None,
) -> Evaluation:
    """Every chosen metric of generated videos and the true ones of the same names.

    Args:
        generated: a folder of mp4 files, or one file.
        truth: a folder with files of the same names, or one file; None for metrics that need none.
        chosen: metrics, or their names; by default those that :func:`choose_metrics` gives.
        alignment: how a pair is made comparable; by default not at all.
        prompts: the prompt of each generated video, by file name or stem.
        work: a folder that keeps the scores of each video, so that the same call resumes.
        on_pair: called with (videos done, all videos) after each one.
        allow_mismatch: kinds of difference between two videos that are meant: ``frame_rate``.
        optional: names of metrics that may be left out where they cannot be computed.
        crew: the processes that share the videos.

    Returns:
        the scores; a video that cannot be compared is skipped with its reason.

    Raises:
        MissingFileError: a folder is missing or has no mp4, or a generated file has no truth.
        InputError: none of the videos can be compared, or there are too few for a set metric.
        ConfigError: so of none because of what was chosen, such as a metric that needs prompts.
    """
    metrics = as_metrics(chosen)
    generated, truth = Path(generated), None if truth is None else Path(truth)
    alignment = alignment or Alignment()
    pairs = match_videos(generated, truth)
    meant, skipped = compare_frame_rates(pairs, allow_mismatch)
    needs = FileNeeds.of(metrics, pairs)
    sources = {
        name: file_source(name, pair, alignment, prompt_of(name, prompts or {}), needs)
        for name, pair in pairs.items()
    }
    may_lack = frozenset(optional) | (default_motion() if chosen is None else frozenset())
    part = Part(sources, metrics, may_lack, alignment.skip_frames, skipped)
    (scored,) = score_parts([part], work=work, on_case=on_pair, crew=crew)
    return replace(scored.summarise(), allowed_mismatch=meant)


def describe_folders(asked: Comparison) -> dict[str, Any]:
    """Return what was evaluated for the record: files, hashes and options.

    Args:
        asked: the folders, and what is computed.
    """
    pairs = match_videos(asked.generated, asked.truth)
    places = {"generated": asked.generated, "truth": asked.truth, "prompts": asked.prompts}
    return {
        "kind": FOLDERS,
        **{name: None if one is None else str(one.resolve()) for name, one in places.items()},
        "alignment": asdict(asked.alignment),
        "allow_mismatch": list(asked.allow_mismatch),
        "optional": sorted(asked.optional),
        "sha256": {
            name: [
                sha256_or_none(file)
                for one in (pair, *pair.views().values())
                for file in (*one.files, *signal_files(one.files[-1]))
            ]
            for name, pair in pairs.items()
        },
    }


def repeat_folders(record: EvaluationRecord, progress: Progress | None = None) -> EvaluationRecord:
    """Do a recorded evaluation of folders again.

    Args:
        record: what was recorded.
        progress: called with (videos done, all videos) after each one.

    Raises:
        ConfigError: a file is no longer what it was, or the record is damaged.
        MissingFileError: a file is gone.
    """
    inputs = record.inputs
    if inputs.get("kind") != FOLDERS:
        raise ConfigError(
            f"'{record.place}' is an evaluation of the kind {inputs.get('kind')!r:.40}, which this "
            "nemo_cosmos cannot repeat. Evaluate again, or install the nemo_cosmos that wrote it: "
            f"{record.written_by}."
        )
    try:
        places = {
            name: None if inputs[name] is None else Path(inputs[name])
            for name in ("truth", "prompts")
        }
        asked = Comparison(
            Path(inputs["generated"]),
            metrics=tuple(record.scores),
            alignment=Alignment(**inputs["alignment"]),
            allow_mismatch=tuple(inputs["allow_mismatch"]),
            optional=frozenset(inputs.get("optional", ())),
            **places,
        )
        hashes = dict(inputs["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The inputs in '{record.place}' are damaged: {str(error).rstrip('.')}. "
            "Evaluate the folders again."
        ) from error
    again = describe_folders(asked)
    changed = [name for name in hashes if again["sha256"].get(name) != hashes[name]]
    changed += [name for name in again["sha256"] if name not in hashes]
    if changed:
        raise ConfigError(
            f"{len(changed)} of {len(hashes)} videos are not those of '{record.place}' any more; "
            f"the first is '{changed[0]}'. Restore the files, or evaluate again."
        )
    return as_record(make_record(_score(asked, progress=progress), again), "the repetition")


def evaluation_checks(asked: Comparison, out: Path | None = None) -> list[Check]:
    """Return what to look at before a video is decoded.

    Args:
        asked: the folders, and what is computed.
        out: the folder of the report; None for none.
    """
    generated, truth, prompts = asked.generated, asked.truth, asked.prompts

    def output() -> str:
        if out is None:
            return "nothing is written"
        check_output_folder(out)
        check_output_file(out / EVALUATION_FILE)
        check_apart(out, [place for place in (generated, truth) if place is not None])
        return f"'{out}' can be written"

    def metrics() -> str:
        return ", ".join(one.name for one in choose_metrics(asked.metrics or None))

    def rates() -> str:
        pairs = match_videos(generated, truth)
        meant, refused = compare_frame_rates(pairs, asked.allow_mismatch)
        if refused:
            first = next(iter(refused.values()))
            return f"{len(refused)} of {len(pairs)} videos will be skipped; the first: {first}"
        return f"allowed: {' '.join(meant)}" if meant else "the frames of each pair are of one rate"

    def videos() -> str:
        pairs = match_videos(generated, truth)
        num_views = sum(len(pair.views()) for pair in pairs.values())
        further = f" and {counted(num_views, 'view')} of further cameras" if num_views else ""
        return counted(len(pairs), "video") + further

    checks = [
        Check("output", output),
        Check("metrics", metrics),
        Check("videos", videos),
    ]
    if prompts is not None:
        checks.append(Check("prompts", lambda: counted(len(read_prompts(prompts)), "prompt")))
    checks.append(Check("belonging", rates))
    if out is not None:
        size = folder_bytes(generated) + folder_bytes(truth or generated)
        checks.append(Check("room", lambda: check_room(out, size / 10, "scores and plots")))
    return checks


def _score(
    asked: Comparison,
    work: Path | None = None,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score what was asked for; all processes of a crew call this alike."""
    return evaluate_folders(
        asked.generated,
        asked.truth,
        choose_metrics(asked.metrics or None),
        asked.alignment,
        prompts=read_prompts(asked.prompts) if asked.prompts is not None else None,
        work=work,
        on_pair=progress,
        allow_mismatch=asked.allow_mismatch,
        optional=asked.optional,
        crew=crew,
    )
