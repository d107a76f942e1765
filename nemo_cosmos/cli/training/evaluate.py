"""``nemo-cosmos evaluate``: score videos, compare scores, and compute recorded ones again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.options import AllowMismatch, AsJson, DisableGuard, listed, number
from nemo_cosmos.errors import ConfigError, RequirementError
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.evaluation.statistics import Score
    from nemo_cosmos.inference.trial_videos import Trial


def command(
    generated: Annotated[
        Path | None, typer.Argument(help="Folder of generated mp4 files, or one file.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Argument(help="Folder of true mp4 files of the same names; judges need none."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "--metrics",
            "-m",
            help="Metric to compute. Repeatable. Default: all of a pair that need no weights.",
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="A named set of metrics; --list shows them.")
    ] = None,
    skip_frames: Annotated[
        int, number("Leave out the first frames, which were given.", least=0, most=1e6)
    ] = 0,
    trim: Annotated[bool, typer.Option(help="Cut both to the shorter one.")] = False,
    resize: Annotated[bool, typer.Option(help="Resize the truth to the generated size.")] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON file with the prompt of each video by its name, for judges."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="World folder to put on trial: it makes the videos of --data itself."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Recorded episodes for --model: a folder, or shards, with their signals."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the noise for --model: 1,2,3.")] = "1",
    limit: Annotated[
        int | None, number("Evaluate --model on this many episodes at most.", least=1)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the generation for --model: steps=12. Repeatable.",
        ),
    ] = None,
    disable_guard: DisableGuard = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for evaluation.json, curves, pictures, and --model's videos."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME>NUMBER",
            help="End with code 3 unless the whole interval of a score lies there. Repeatable.",
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Compare two evaluation.json files, paired by video."),
    ] = None,
    repeat: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compute a recorded evaluation.json again."),
    ] = None,
    list_metrics: Annotated[
        bool, typer.Option("--list", help="List every metric and suite, and stop.")
    ] = False,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Score generated videos against real ones, matched by file name.

    Prints one line per clip, and below each metric's mean with its 95 % bootstrap interval over the
    clips. A clip that cannot be compared is skipped, counted and named. With --out, a run that was
    stopped resumes, and evaluation.json holds all that is needed to repeat it.

    With --model and --data the model continues the first frame of each episode, told its own
    control, another episode's, and multiples of its own. "action_sensitivity" is what following
    its own control gains over following another's: about 0 where the model ignores its actions.

    --compare says which of two evaluations is better and where no difference is shown. --repeat
    computes a recorded evaluation again and ends with code 1 where a score left its interval.

    Examples:
        nemo-cosmos evaluate outputs/generated data/test
        nemo-cosmos evaluate generated test --skip-frames 1 --trim --resize --out outputs/evaluation
        nemo-cosmos evaluate generated test --suite robotics --require 'motion_following>0.3'
        nemo-cosmos evaluate --model action_world/export --data raw/held_out --out outputs/trial
        nemo-cosmos evaluate --model W --data D --seeds 1,2 --require 'action_sensitivity>0'
        nemo-cosmos evaluate --compare before/evaluation.json after/evaluation.json
        nemo-cosmos evaluate --repeat outputs/evaluation/evaluation.json
        nemo-cosmos evaluate --list
    """
    modes = {
        "--list": list_metrics,
        "--compare": compare is not None,
        "--repeat": repeat is not None,
        "--model with --data": model is not None or data is not None,
        "a folder of videos": generated is not None,
    }
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) != 1:
        raise ConfigError(
            f"Expected one of {', '.join(modes)}; got {' and '.join(chosen) or 'none'}. See "
            "'nemo-cosmos evaluate --help' for examples."
        )
    if list_metrics:
        _list(as_json)
    elif compare is not None:
        _compare(*compare, as_json)
    elif repeat is not None:
        _repeat(repeat, as_json)
    elif model is not None or data is not None:
        folder_only = {
            "--skip-frames": skip_frames,
            "--trim": trim,
            "--resize": resize,
            "--prompts": prompts,
        }
        _refuse_unused(folder_only, "two folders of videos")
        trial = _trial(listed(metric), suite, seeds, limit, option)
        asked = _WorldOptions(model, data, out, listed(disable_guard), tuple(require or ()))
        _score_world(trial, asked, check, as_json)
    elif generated is not None:
        trial_only = {"--limit": limit, "--option": option, "--disable-guard": disable_guard}
        _refuse_unused(trial_only, "a model (--model)")
        options = _FolderOptions(
            listed(metric), suite, skip_frames, trim, resize, prompts, out, listed(allow_mismatch)
        )
        _score_folders(generated, truth, options, tuple(require or ()), check, as_json)


def _refuse_unused(options: Mapping[str, object], owner: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: one was given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        raise ConfigError(f"{' and '.join(given)} takes effect only with {owner}. Leave it out.")


def _trial(
    metrics: tuple[str, ...],
    suite: str | None,
    seeds: str,
    limit: int | None,
    options: list[str] | None,
) -> Trial:
    """What a world is tried on, from the words of the command line."""
    from nemo_cosmos.evaluation.suites import chosen_names
    from nemo_cosmos.inference.trial_videos import Trial

    try:
        numbers = tuple(int(seed) for seed in seeds.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--seeds is '{seeds}'; expected whole numbers with commas between, such as 1,2,3."
        ) from error
    return Trial(
        chosen_names(metrics, suite), numbers, limit=limit, options=_named_values(options or [])
    )


def _named_values(words: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE, where a value is a number, true, false or text."""
    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise ConfigError(f"--option {word} is not NAME=VALUE, such as --option steps=12.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


class _WorldOptions(NamedTuple):
    """Options of a trial of a world, as the command line takes them."""

    model: Path | None
    data: Path | None
    out: Path | None
    disabled_guards: tuple[str, ...]
    require: tuple[str, ...]


def _score_world(trial: Trial, options: _WorldOptions, check: bool, as_json: bool) -> None:
    """Put a world on trial, show its scores and hold the requirements."""
    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.evaluation.report import metrics_table
    from nemo_cosmos.guardrails.site import site_policy
    from nemo_cosmos.inference.trial import evaluate_world, trial_checks

    model, data, out = options.model, options.data, options.out
    if model is None or data is None:
        raise ConfigError(
            "A model is tried on recorded episodes: give both --model WORLD and --data EPISODES."
        )
    requirements = [Requirement.parse(text) for text in options.require]
    guards = site_policy(options.disabled_guards)
    required = [one.name for one in requirements]
    look_first(trial_checks(model, data, trial, out, required), check, as_json)
    with show_progress("Trying", "videos", "json" if as_json else "people") as update:
        evaluation, record = evaluate_world(
            model, data, trial, guards=guards, out=out, progress=update
        )
    _show(record if as_json else metrics_table(evaluation), as_json)
    _require(requirements, evaluation.scores)


class _FolderOptions(NamedTuple):
    """Options of a comparison of two folders, as the command line takes them."""

    metrics: tuple[str, ...]
    suite: str | None
    skip_frames: int
    trim: bool
    resize: bool
    prompts: Path | None
    out: Path | None
    allow_mismatch: tuple[str, ...]


def _score_folders(
    generated: Path,
    truth: Path | None,
    options: _FolderOptions,
    require: tuple[str, ...],
    check: bool,
    as_json: bool,
) -> None:
    """Compare two folders, write the report and hold the requirements."""
    from nemo_cosmos.evaluation import (
        Alignment,
        choose_metrics,
        evaluate_folders,
        match_videos,
        read_prompts,
        scores_table,
        write_report,
    )
    from nemo_cosmos.evaluation.folders import describe_folders, evaluation_checks
    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.evaluation.record import make_record
    from nemo_cosmos.evaluation.suites import chosen_names

    requirements = [Requirement.parse(text) for text in require]
    required = [one.name for one in requirements]
    names = chosen_names(options.metrics, options.suite, required)
    out, prompts, allowed = options.out, options.prompts, options.allow_mismatch
    look_first(evaluation_checks(generated, truth, names, prompts, out, allowed), check, as_json)
    started_s = time.monotonic()
    alignment = Alignment(options.skip_frames, options.trim, options.resize)
    with show_progress("Evaluating", "videos", "json" if as_json else "people") as update:
        evaluation = evaluate_folders(
            generated,
            truth,
            choose_metrics(names or None),
            alignment,
            prompts=read_prompts(prompts) if prompts is not None else None,
            work=out / ".work" / "scores" if out is not None else None,
            on_pair=update,
            allow_mismatch=allowed,
        )
    inputs = describe_folders(generated, truth, alignment, prompts, allowed)
    record = make_record(evaluation, inputs, time.monotonic() - started_s)
    if out is not None:
        shown = {
            name: {"truth": pair.truth, "generated": pair.generated}
            if pair.truth is not None
            else {"generated": pair.generated}
            for name, pair in match_videos(generated, truth).items()
        }
        write_report(evaluation, out, record, shown)
    _show(record if as_json else scores_table(evaluation), as_json)
    _require(requirements, evaluation.scores)


def _list(as_json: bool) -> None:
    """Show what can be computed, and what it needs."""
    from nemo_cosmos.evaluation import metrics
    from nemo_cosmos.evaluation.record import describe
    from nemo_cosmos.evaluation.suites import SUITES

    known = {name: describe(metric, with_features=False) for name, metric in metrics().items()}
    if as_json:
        _show({"metrics": known, "suites": SUITES}, as_json)
        return
    from rich.table import Table

    table = Table("metric", "of", "unit", "better", "needs", "what it says")
    for name, about in known.items():
        direction = "higher" if about["higher_is_better"] else "lower"
        needs = ", ".join(about["needs"])
        table.add_row(name, about["kind"], about["unit"], direction, needs, about["description"])
    _show(table, as_json)
    suites = Table("suite", "metrics")
    for name, members in SUITES.items():
        suites.add_row(name, ", ".join(members))
    _show(suites, as_json)


def _compare(first: Path, second: Path, as_json: bool) -> None:
    """Show the paired differences of two evaluations."""
    from nemo_cosmos.evaluation.comparison import compare, differences_table
    from nemo_cosmos.evaluation.record import read_record

    differences = compare(read_record(first), read_record(second))
    shown = [one.to_json() for one in differences] if as_json else differences_table(differences)
    _show(shown, as_json)


def _repeat(file: Path, as_json: bool) -> None:
    """Compute a recorded evaluation again; code 1 where a score left its interval."""
    from nemo_cosmos.cli.main import Exit
    from nemo_cosmos.evaluation.comparison import check_repetition, repetition_table
    from nemo_cosmos.evaluation.folders import repeat_folders
    from nemo_cosmos.evaluation.record import read_record
    from nemo_cosmos.guardrails.site import site_policy
    from nemo_cosmos.inference.trial import repeat_trial
    from nemo_cosmos.inference.trial_videos import WORLD

    before = read_record(file)
    with show_progress("Evaluating", "videos", "json" if as_json else "people") as update:
        if before.inputs.get("kind") == WORLD:
            now = repeat_trial(before, site_policy(), update)
        else:
            now = repeat_folders(before, update)
    found = check_repetition(before, now)
    _show([one.to_json() for one in found] if as_json else repetition_table(found), as_json)
    if not all(one.comes_out for one in found):
        raise typer.Exit(Exit.FAILED)


def _require(requirements: list[Requirement], scores: dict[str, Score]) -> None:
    """End with code 3 where a requirement does not hold."""
    from nemo_cosmos.evaluation.gate import failures

    wrong = failures(requirements, scores)
    if wrong:
        raise RequirementError(" ".join(wrong))


def _show(content: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(content))
        return
    from rich.console import Console

    Console().print(content)
