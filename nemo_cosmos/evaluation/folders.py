"""Evaluate a folder of generated videos against a folder of true ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    NemoCosmosError,
    counted,
)
from nemo_cosmos.evaluation.file_pairs import Alignment, FileNeeds, FilePair, file_source
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.record import (
    EVALUATION_FILE,
    EvaluationRecord,
    as_record,
    make_record,
)
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.run import Part, score_parts
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.views import without_views
from nemo_cosmos.provenance.belonging import Parts, check_kinds, check_together
from nemo_cosmos.provenance.hashes import file_sha256
from nemo_cosmos.storage.outputs import (
    check_output_file,
    check_output_folder,
    check_room,
    folder_bytes,
)
from nemo_cosmos.video import probe

FOLDERS = "folders"
"""Kind of the inputs in a record: two folders of videos."""


def evaluate_folders(
    generated: Path,
    truth: Path | None,
    chosen: Iterable[Metric] | None = None,
    alignment: Alignment | None = None,
    prompts: Mapping[str, str] | None = None,
    work: Path | None = None,
    on_pair: Callable[[int, int], None] | None = None,
    allow_mismatch: Collection[str] = (),
    optional: Collection[str] = (),
) -> Evaluation:
    """Every chosen metric of generated videos and the true ones of the same names.

    Args:
        generated: a folder of mp4 files, or one file.
        truth: a folder with files of the same names, or one file; None for metrics that need none.
        chosen: metrics; by default those that :func:`choose_metrics` gives.
        alignment: how a pair is made comparable; by default not at all.
        prompts: the prompt of each generated video, by file name or stem.
        work: a folder that keeps the scores of each video, so that the same call resumes.
        on_pair: called with (videos done, all videos) after each one.
        allow_mismatch: kinds of difference between two videos that are meant: ``frame_rate``.
        optional: names of metrics that may be left out where they cannot be computed.

    Returns:
        the scores; a video that cannot be compared is skipped with its reason.

    Raises:
        MissingFileError: a folder is missing or has no mp4, or a generated file has no truth.
        InputError: none of the videos can be compared, or there are too few for a set metric.
        ConfigError: so of none because of what was chosen, such as a metric that needs prompts.
    """
    metrics = list(chosen) if chosen is not None else choose_metrics()
    alignment = alignment or Alignment()
    pairs = match_videos(generated, truth)
    meant, skipped = compare_frame_rates(pairs, allow_mismatch)
    needs = FileNeeds.of(metrics, pairs)
    sources = {
        name: file_source(name, pair, alignment, _prompt_of(name, prompts or {}), needs)
        for name, pair in pairs.items()
    }
    part = Part(sources, metrics, frozenset(optional), alignment.skip_frames, skipped)
    (scored,) = score_parts([part], work=work, on_case=on_pair)
    return replace(scored.summarise(), allowed_mismatch=meant)


def describe_folders(
    generated: Path,
    truth: Path | None,
    alignment: Alignment,
    prompts: Path | None = None,
    allow_mismatch: Collection[str] = (),
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """Return the inputs of :func:`evaluate_folders` for the record: files, hashes and options.

    Args:
        generated: the generated files.
        truth: the true ones.
        alignment: how a pair is made comparable.
        prompts: the file of prompts.
        allow_mismatch: kinds of difference that are meant.
        optional: names of metrics that may be left out.
    """
    pairs = match_videos(generated, truth)
    return {
        "kind": FOLDERS,
        "generated": str(generated.resolve()),
        "truth": None if truth is None else str(truth.resolve()),
        "prompts": None if prompts is None else str(prompts.resolve()),
        "alignment": asdict(alignment),
        "allow_mismatch": list(allow_mismatch),
        "optional": sorted(optional),
        "sha256": {
            name: [
                file_sha256(file) for one in (pair, *pair.views().values()) for file in one.files
            ]
            for name, pair in pairs.items()
        },
    }


def repeat_folders(
    record: EvaluationRecord, on_pair: Callable[[int, int], None] | None = None
) -> EvaluationRecord:
    """Do a recorded evaluation of folders again.

    Args:
        record: what was recorded.
        on_pair: called with (videos done, all videos) after each one.

    Raises:
        ConfigError: a file is no longer what it was, or the record is damaged.
        MissingFileError: a file is gone.
    """
    inputs = record.inputs
    try:
        generated = Path(inputs["generated"])
        truth = None if inputs["truth"] is None else Path(inputs["truth"])
        prompts = None if inputs["prompts"] is None else Path(inputs["prompts"])
        alignment, allowed = Alignment(**inputs["alignment"]), inputs["allow_mismatch"]
        hashes = dict(inputs["sha256"])
        optional = [str(name) for name in inputs.get("optional", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The inputs in '{record.place}' are damaged: {error}. Evaluate the folders again."
        ) from error
    again = describe_folders(generated, truth, alignment, prompts, allowed, optional)
    changed = [name for name in hashes if again["sha256"].get(name) != hashes[name]]
    changed += [name for name in again["sha256"] if name not in hashes]
    if changed:
        raise ConfigError(
            f"{len(changed)} of {len(hashes)} videos are not those of '{record.place}' any more; "
            f"the first is '{changed[0]}'. Restore the files, or evaluate again."
        )
    evaluation = evaluate_folders(
        generated,
        truth,
        choose_metrics(record.scores),
        alignment,
        prompts=read_prompts(prompts) if prompts is not None else None,
        on_pair=on_pair,
        allow_mismatch=allowed,
        optional=optional,
    )
    return as_record(make_record(evaluation, again), "the repetition")


def evaluation_checks(
    generated: Path,
    truth: Path | None,
    metrics: Sequence[str] = (),
    prompts: Path | None = None,
    out: Path | None = None,
    allow_mismatch: Collection[str] = (),
) -> list[Check]:
    """Return what to look at before a video is decoded.

    Args:
        generated: a folder of mp4 files, or one file.
        truth: a folder with files of the same names, or one file; None for metrics without.
        metrics: names of metrics; the default ones where empty.
        prompts: the file of prompts.
        out: the folder of the report; None for none.
        allow_mismatch: kinds of difference between two videos that are meant.
    """

    def output() -> str:
        if out is None:
            return "nothing is written"
        check_output_folder(out)
        check_output_file(out / EVALUATION_FILE)
        return f"'{out}' can be written"

    def rates() -> str:
        pairs = match_videos(generated, truth)
        meant, refused = compare_frame_rates(pairs, allow_mismatch)
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
        Check("metrics", lambda: ", ".join(one.name for one in choose_metrics(metrics or None))),
        Check("videos", videos),
    ]
    if prompts is not None:
        checks.append(Check("prompts", lambda: counted(len(read_prompts(prompts)), "prompt")))
    checks.append(Check("belonging", rates))
    if out is not None:
        size = folder_bytes(generated) + folder_bytes(truth or generated)
        checks.append(Check("room", lambda: check_room(out, size / 10, "scores and plots")))
    return checks


def compare_frame_rates(
    pairs: Mapping[str, FilePair], allowed: Collection[str] = ()
) -> tuple[list[str], dict[str, NemoCosmosError]]:
    """Whether the frames of each pair are of the same times, before anything is decoded.

    Args:
        pairs: the files by name.
        allowed: kinds of difference that are meant.

    Returns:
        the differences that were allowed, and what is wrong with each pair that cannot be compared.

    Raises:
        ConfigError: an unknown kind is allowed, or every pair has two frame rates.
        VideoError: no file is a video.
    """
    meant: list[str] = []
    refused: dict[str, NemoCosmosError] = {}
    check_kinds(allowed)
    for name, pair in pairs.items():
        if pair.truth is None:
            continue
        try:
            both = [Parts(str(file), fps=probe(file).fps) for file in (pair.generated, pair.truth)]
            meant += check_together(both, allowed)
        except InputError as error:
            refused[name] = error
    if refused and len(refused) == len(pairs):
        raise next(iter(refused.values()))
    return meant, refused


def match_videos(generated: Path, truth: Path | None) -> dict[str, FilePair]:
    """Pairs of files with the same name (or two single files), in order of name.

    Args:
        generated: a folder of mp4 files, or one file.
        truth: a folder with files of the same names, or one file; None where there is no truth.

    Raises:
        MissingFileError: a folder is missing or has no mp4, or a generated file has no truth.
    """
    for path in (generated, truth):
        if path is not None and not path.exists():
            raise MissingFileError(
                f"There is no file or folder '{path}'. Name a folder of mp4 files, or one file."
            )
    if generated.is_file() and truth is not None and truth.is_file():
        return {generated.name: FilePair(generated, truth)}
    generated_files = (
        [generated] if generated.is_file() else without_views(sorted(generated.glob("*.mp4")))
    )
    if not generated_files:
        raise MissingFileError(
            f"The folder '{generated}' contains no .mp4 file. Generate some first, for example "
            "with 'nemo-cosmos predict', or name another folder."
        )
    if truth is None:
        return {file.name: FilePair(file, None) for file in generated_files}
    lonely = [file.name for file in generated_files if not (truth / file.name).is_file()]
    if lonely:
        raise MissingFileError(
            f"{len(lonely)} of {len(generated_files)} generated videos have no counterpart in "
            f"'{truth}'; the first is '{lonely[0]}'. Files are matched by name: rename them, or "
            "take those out of the folder."
        )
    return {file.name: FilePair(file, truth / file.name) for file in generated_files}


def read_prompts(file: Path) -> dict[str, str]:
    """The prompts of videos, from a JSON object of file names (or stems) and texts.

    Args:
        file: the JSON file.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it contains something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"There is no file of prompts '{file}'. Name a JSON file such as "
            '{"video.mp4": "a robot waves"}.'
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The prompts in '{file}' cannot be read: {error}. Expected a JSON object such as "
            '{"video.mp4": "a robot waves"}.'
        ) from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ConfigError(
            f"'{file}' does not hold a prompt for each name. Expected a JSON object such as "
            '{"video.mp4": "a robot waves"}.'
        )
    return found


def _prompt_of(name: str, prompts: Mapping[str, str]) -> str | None:
    return prompts.get(name, prompts.get(Path(name).stem))
