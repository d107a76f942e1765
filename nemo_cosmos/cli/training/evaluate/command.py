"""The command line of ``nemo-cosmos evaluate``: which of its modes is meant, and with what."""

from __future__ import annotations

from collections.abc import Mapping

from nemo_cosmos.cli.kit.checking import CheckOnly
from nemo_cosmos.cli.kit.launching import launchable
from nemo_cosmos.cli.kit.options import AllowMismatch, AsJson, DisableGuard, Offload, listed
from nemo_cosmos.cli.training.evaluate import options as of
from nemo_cosmos.errors import ConfigError


@launchable(shared=True)
def command(
    generated: of.Generated = None,
    truth: of.Truth = None,
    metric: of.MetricNames = None,
    suite: of.Suite = None,
    skip_frames: of.SkipFrames = 0,
    trim: of.Trim = False,
    resize: of.Resize = False,
    prompts: of.Prompts = None,
    model: of.Model = None,
    data: of.Data = None,
    seeds: of.Seeds = "1",
    limit: of.Limit = None,
    option: of.GenerationOption = None,
    disable_guard: DisableGuard = None,
    offload: Offload = None,
    tokenizer: of.Tokenizer = None,
    window_frames: of.WindowFrames = None,
    max_frames: of.MaxFrames = None,
    out: of.Out = None,
    require: of.Require = None,
    workers: of.Workers = 1,
    training: of.Training = None,
    compare: of.Compare = None,
    repeat: of.Repeat = None,
    list_metrics: of.ListMetrics = False,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Score generated videos against real ones, matched by file name.

    Prints one line per clip, and below each metric's mean with its 95 % bootstrap interval over the
    clips. A clip that cannot be compared is skipped, counted and named. With --out, a run that was
    stopped resumes, and evaluation.json holds all that is needed to repeat it. Several processes
    share the videos with --workers, or under torchrun.

    With --model and --data the model continues the first frame of each episode, told its own
    control, another episode's, and multiples of its own. "action_sensitivity" is what following
    its own control gains over following another's: about 0 where the model ignores its actions.

    With --tokenizer and --data the tokenizer reconstructs the videos and each is scored against
    itself; of a discrete one also how it uses its codebook. --suite tokenbench and --suite davis
    prepare the videos as those benchmarks do.

    --compare says which of two evaluations is better and where no difference is shown. --repeat
    computes a recorded evaluation again and ends with code 1 where a score left its interval; what
    has moved is named beside it (--model, --data, GENERATED TRUTH).

    Examples:
        nemo-cosmos evaluate outputs/generated data/test
        nemo-cosmos evaluate generated test --skip-frames 1 --trim --resize --out outputs/evaluation
        nemo-cosmos evaluate generated test --suite robotics --require 'motion_following>0.3'
        nemo-cosmos evaluate --model action_world/export --data raw/held_out --out outputs/trial
        nemo-cosmos evaluate --model W --data D --seeds 1,2 --require 'action_sensitivity>0'
        nemo-cosmos evaluate generated test --workers 8 --out outputs/evaluation
        torchrun --nproc-per-node 8 -m nemo_cosmos evaluate --model W --data D --out outputs/trial
        nemo-cosmos evaluate --tokenizer tokenizer/export --data videos --suite tokenizer --out O
        nemo-cosmos evaluate --compare before/evaluation.json after/evaluation.json
        nemo-cosmos evaluate --repeat outputs/evaluation/evaluation.json
        nemo-cosmos evaluate --repeat outputs/trial/evaluation.json --model W --data D
        nemo-cosmos evaluate --list
    """
    from nemo_cosmos.cli.training.evaluate import folders, listing, records, world
    from nemo_cosmos.cli.training.evaluate import tokenizer as of_tokenizer
    from nemo_cosmos.cli.training.evaluate.showing import Asked
    from nemo_cosmos.storage.run_curves import check_curves

    is_tokenizer = tokenizer is not None
    is_world = model is not None or (data is not None and not is_tokenizer)
    _check_one_mode(
        {
            "--list": list_metrics,
            "--compare": compare is not None,
            "--repeat": repeat is not None,
            # With --repeat these say where the recorded inputs are now.
            "--model with --data": is_world and repeat is None,
            "--tokenizer with --data": is_tokenizer and repeat is None,
            "a folder of videos": generated is not None and repeat is None,
        }
    )
    of_folders = {
        "--skip-frames": skip_frames,
        "--trim": trim,
        "--resize": resize,
        "--prompts": prompts,
    }
    of_world = {"--option": option, "--disable-guard": disable_guard, "--offload": offload}
    of_tokenizers = {"--window-frames": window_frames, "--max-frames": max_frames}
    of_scoring = {
        "--require": require,
        "--metric": metric,
        "--suite": suite,
        "--out": out,
        "--workers": workers if workers != 1 else None,
        "--training": training,
        "--limit": limit,
        "--allow-mismatch": allow_mismatch,
        "--check": check,
        **of_folders,
        **of_world,
        **of_tokenizers,
    }
    if list_metrics or compare is not None or repeat is not None:
        _refuse_unused(of_scoring, "an evaluation of videos, a model or a tokenizer")
    required = tuple(require or ())
    if training is not None:
        check_curves(training)
    asked = Asked(listed(metric), suite, out, required, check, as_json, workers, training)
    if list_metrics:
        listing.show_all(as_json)
    elif compare is not None:
        records.compare(*compare, as_json)
    elif repeat is not None:
        places = {"world": model, "data": data, "tokenizer": tokenizer}
        records.repeat(repeat, {**places, "generated": generated, "truth": truth}, as_json)
    elif tokenizer is not None:
        _refuse_unused(of_folders, "two folders of videos")
        _refuse_unused({**of_world, "--training": training}, "a model (--model)")
        of_tokenizer.score(asked, tokenizer, data, window_frames, max_frames, limit)
    elif is_world:
        _refuse_unused(of_folders, "two folders of videos")
        _refuse_unused(of_tokenizers, "a tokenizer (--tokenizer)")
        off, waiting = listed(disable_guard), listed(offload)
        tried = world.Tried(model, data, seeds, limit, option or [], off, waiting)
        world.score(asked, tried)
    elif generated is not None:
        _refuse_unused(of_tokenizers, "a tokenizer (--tokenizer)")
        _refuse_unused({"--limit": limit, **of_world}, "a model (--model)")
        allowed = listed(allow_mismatch)
        compared = folders.Compared(skip_frames, trim, resize, prompts, allowed)
        folders.score(asked, generated, truth, compared)


def _check_one_mode(modes: Mapping[str, bool]) -> None:
    """Refuse a command line that asks for nothing, or for two things.

    Raises:
        ConfigError: so it does.
    """
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) != 1:
        raise ConfigError(
            f"Expected one of {', '.join(modes)}; got {' and '.join(chosen) or 'none'}. See "
            "'nemo-cosmos evaluate --help' for examples."
        )


def _refuse_unused(options: Mapping[str, object], owner: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: one was given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        takes, it = ("takes", "it") if len(given) == 1 else ("take", "them")
        raise ConfigError(
            f"{' and '.join(given)} {takes} effect only with {owner}. Leave {it} out."
        )
