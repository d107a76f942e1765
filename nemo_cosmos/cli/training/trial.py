"""``nemo-cosmos trial``: whether a world model is of use to a robot, beyond its looks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.options import AsJson, DisableGuard, listed, number
from nemo_cosmos.cli.main import TRAINING, CommandEntry, CommandGroup
from nemo_cosmos.errors import RequirementError
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from nemo_cosmos.evaluation.gate import Requirement

TRIAL = CommandGroup(
    """Try what a world model is good for: good pictures do not make a useful model.

    Each command takes a world that was post-trained on a robot's actions. "ranking" and "planning"
    measure it by the simulator of [bold]nemo-cosmos simulate[/bold], "data-engine" by recordings.

    Examples:
        nemo-cosmos trial ranking --model action_world/export --out outputs/ranking
        nemo-cosmos trial planning --model action_world/export --out outputs/planning
        nemo-cosmos trial data-engine --model W --data real --held-out held_out --out outputs/engine
    """,
    {
        "ranking": CommandEntry(
            "training.trial:ranking",
            TRAINING,
            "Rank policies in the world model, and see whether the simulator agrees.",
        ),
        "planning": CommandEntry(
            "training.trial:planning",
            TRAINING,
            "Plan in the world model, and act in the simulator.",
        ),
        "data-engine": CommandEntry(
            "training.data_engine:command",
            TRAINING,
            "Let the world model make episodes, and see what they teach another network.",
        ),
    },
)

Model = Annotated[
    Path, typer.Option(help="World folder, post-trained on actions, or the run that exported it.")
]
Out = Annotated[Path, typer.Option(help="Folder of the report; a run that was stopped resumes.")]
Seed = Annotated[
    int, number("Seed of scenes and chance; not one of the training data.", least=0, most=2**31)
]
ControlGuidance = Annotated[
    float, number("How strongly to follow the actions; 0 is faster.", least=0, most=1000)
]
Steps = Annotated[int, number("Sampling steps of a chunk of actions.", least=1, most=1000)]
Batch = Annotated[int, number("Rollouts in one run of the model.", least=1, most=4096)]
Renderer = Annotated[
    str, typer.Option(help="auto, egl, osmesa, or software, which needs no system library.")
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME>NUMBER",
        help="End with code 3 unless the whole interval of a score lies there. Repeatable.",
    ),
]


def ranking(
    model: Model,
    out: Out,
    episodes: Annotated[
        int, number("Held-out scenes that each policy starts from.", least=2, most=100000)
    ] = 16,
    chunks: Annotated[int, number("Chunks of actions in an episode.", least=1, most=1000)] = 2,
    seed: Seed = 1000,
    steps: Steps = 2,
    control_guidance: ControlGuidance = 0.0,
    batch: Batch = 16,
    renderer: Renderer = "auto",
    disable_guard: DisableGuard = None,
    require: Require = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Rank policies in a world model, and see whether the simulator ranks them alike.

    Thirteen scripted policies of different competence bring the gripper above a block. Each runs
    from the same scenes in the simulator and in the world model, and sees the table again before
    each chunk of actions. Success is judged from the pictures, in both by the same eye.

    "rank_correlation" is Spearman's correlation of their success rates, with its 95 % bootstrap
    interval over the scenes. --out gets ranking.json, ranking.md, ranking.png and pictures of each
    policy's first scene, which the guards saw.

    Examples:
        nemo-cosmos trial ranking --model action_world/export --out outputs/ranking
        nemo-cosmos trial ranking --model W --out O --episodes 32 --require 'rank_correlation>0.8'
    """
    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.guardrails.site import site_policy
    from post_training.robotics.usefulness.imagined import Imagination
    from post_training.robotics.usefulness.ranking import RankingTrial
    from post_training.robotics.usefulness.trial import (
        RANKING_FIGURES,
        Subject,
        rank_world,
        trial_checks,
    )

    requirements = [Requirement.parse(text) for text in require or ()]
    guards = site_policy(listed(disable_guard))
    subject = Subject(model, out, Imagination(steps, batch, control_guidance), guards, renderer)
    trial = RankingTrial(episodes, seed, chunks)
    look_first(trial_checks(subject, RANKING_FIGURES, requirements), check, as_json)
    with show_progress("Ranking", "episodes", "json" if as_json else "people") as update:
        record = rank_world(subject, trial, say=_say, progress=update)
    show_record(record, as_json)
    require_scores(record, requirements)


def planning(
    model: Model,
    out: Out,
    episodes: Annotated[
        int, number("Held-out scenes, each with a goal.", least=2, most=100000)
    ] = 16,
    goal: Annotated[
        str, typer.Option(help="pose, or picture: what a planner is given of its goal.")
    ] = "pose",
    plans: Annotated[
        int, number("Chunks planned and carried out in an episode.", least=1, most=1000)
    ] = 2,
    candidates: Annotated[
        int, number("Candidates of an iteration of the search.", least=2, most=100000)
    ] = 24,
    iterations: Annotated[int, number("Iterations of a search.", least=1, most=1000)] = 3,
    seed: Seed = 2000,
    steps: Steps = 2,
    control_guidance: ControlGuidance = 0.0,
    batch: Batch = 24,
    renderer: Renderer = "auto",
    require: Require = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Plan in a world model, act in the simulator: do plans hold that were made in imagination?

    From what the camera sees, a search by the cross-entropy method finds the chunk of actions whose
    imagined end is nearest to the goal. The simulator carries it out, and the next plan begins at
    what the camera sees then.

    "success_world" is the share of episodes that truly end within 5 cm of the goal;
    "success_simulator" that of the same search in the simulator with the same budget, and
    "success_random" that of chunks drawn at random. "success_ratio" compares the first two. With
    --goal picture, distances are across the line of sight: a picture hardly shows depth. --out
    gets planning.json, planning.md, planning.png and pictures of each episode.

    Examples:
        nemo-cosmos trial planning --model action_world/export --out outputs/planning
        nemo-cosmos trial planning --model W --out O --goal picture --require 'success_gain>0'
    """
    from nemo_cosmos.evaluation.gate import Requirement
    from post_training.robotics.usefulness.cem import Budget
    from post_training.robotics.usefulness.imagined import Imagination
    from post_training.robotics.usefulness.planning import PlanningTrial
    from post_training.robotics.usefulness.trial import (
        PLANNING_FIGURES,
        Subject,
        plan_world,
        trial_checks,
    )

    requirements = [Requirement.parse(text) for text in require or ()]
    subject = Subject(model, out, Imagination(steps, batch, control_guidance), renderer=renderer)
    budget = Budget.of(candidates, iterations)
    trial = PlanningTrial(episodes, seed, plans, goal, budget=budget)
    look_first(trial_checks(subject, PLANNING_FIGURES, requirements), check, as_json)
    with show_progress("Planning", "episodes", "json" if as_json else "people") as update:
        record = plan_world(subject, trial, say=_say, progress=update)
    show_record(record, as_json)
    require_scores(record, requirements)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def show_record(record: Mapping[str, Any], as_json: bool) -> None:
    """Print a record: for machines whole, for people its tables."""
    if as_json:
        typer.echo(json.dumps(record))
        return
    from rich.console import Console
    from rich.table import Table

    rows = record["rows"]
    table = Table(*rows[0]) if rows else Table()
    for row in rows:
        cells = (
            f"{v:.2f}" if isinstance(v, float) else "-" if v is None else str(v)
            for v in row.values()
        )
        table.add_row(*cells)
    scores = Table("score", "value", "95 % interval", "unit", "what it says")
    for name, one in record["scores"].items():
        interval = "" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
        scores.add_row(name, f"{one['value']:.3f}", interval, one["unit"], one["description"])
    Console().print(table, scores)


def require_scores(record: Mapping[str, Any], requirements: Sequence[Requirement]) -> None:
    """End with code 3 where a requirement does not hold."""
    from nemo_cosmos.evaluation.gate import failures
    from nemo_cosmos.evaluation.statistics import Score

    scores = {
        name: Score(one["value"], one["low"], one["high"], one["num"])
        for name, one in record["scores"].items()
    }
    wrong = failures(requirements, scores)
    if wrong:
        raise RequirementError(" ".join(wrong))
