"""``nemo-cosmos trial data-engine``: what a world model's episodes teach another network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.options import (
    AsJson,
    DisableGuard,
    listed,
    named_values,
    number,
    whole_numbers,
)
from nemo_cosmos.cli.training.trial import Model, Out, Require, require_scores, show_record
from nemo_cosmos.progress import show_progress


def command(
    model: Model,
    data: Annotated[
        Path,
        typer.Option(help="Recorded episodes to learn from: a folder with actions, or shards."),
    ],
    held_out: Annotated[Path, typer.Option(help="Recorded episodes to test on; none of --data.")],
    out: Out,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Numbers of recorded episodes: 4,8,16. By default doubled from 4 to all."
        ),
    ] = None,
    others: Annotated[
        int, number("Generated episodes a first frame that are told others' actions.", least=0)
    ] = 2,
    seeds: Annotated[str, typer.Option(help="Seeds of the networks.")] = "1,2,3",
    limit: Annotated[
        int | None, number("Use this many recordings at most, on either side.", least=2)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An option of the generation: steps=12. Repeatable."
        ),
    ] = None,
    disable_guard: DisableGuard = None,
    require: Require = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Let a world model make episodes, and see what they teach another network.

    A small inverse-dynamics network reads the action off two neighbouring frames. It learns from
    recorded episodes; from as many generated ones, made from their first frames and actions; and
    from generated ones, told others' actions, too, followed by the recorded ones. All are tested
    on the same held-out recordings, at several numbers of recorded episodes.

    "ratio.N" is the error after N generated episodes over that after N recorded ones, "gain.N" the
    share of the error that generated episodes take away from N recorded ones. Both have 95 %
    bootstrap intervals over the held-out recordings. --out gets data_engine.json and .md, curves,
    predictions, film strips, and the generated episodes, which curate reads.

    Examples:
        nemo-cosmos trial data-engine --model W --data real --held-out held_out --out outputs/engine
        nemo-cosmos trial data-engine --model W --data D --held-out H --out O --sizes 8,32
        nemo-cosmos trial data-engine --model W --data D --held-out H --out O --require 'gain.8>0'
    """
    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.guardrails.site import site_policy
    from post_training.robotics.usefulness.data_engine import EngineTrial
    from post_training.robotics.usefulness.data_engine_report import (
        engine_checks,
        try_data_engine,
    )

    requirements = [Requirement.parse(text) for text in require or ()]
    guards = site_policy(listed(disable_guard))
    trial = EngineTrial(
        whole_numbers(sizes, "--sizes") if sizes is not None else (),
        others,
        whole_numbers(seeds, "--seeds"),
        limit,
        named_values(option or ()),
    )
    checks = engine_checks(model, data, held_out, out, trial, requirements)
    look_first(checks, check, as_json)
    with show_progress("Trying", "videos and networks", "json" if as_json else "people") as update:
        record = try_data_engine(model, data, held_out, out, trial, guards=guards, progress=update)
    show_record(record, as_json)
    require_scores(record, requirements)
