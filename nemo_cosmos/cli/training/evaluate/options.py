"""The options of ``nemo-cosmos evaluate``, by what they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.options import number

Generated = Annotated[
    Path | None, typer.Argument(help="Folder of generated mp4 files, or one file.")
]
Truth = Annotated[
    Path | None,
    typer.Argument(help="Folder of true mp4 files of the same names; judges need none."),
]

# What is computed and where it goes.
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "--metrics",
        "-m",
        help="Metric to compute. Repeatable. Default: all of a pair that need no weights.",
    ),
]
Suite = Annotated[str | None, typer.Option(help="A named set of metrics; --list shows them.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for evaluation.json, curves, pictures, and --model's videos."),
]
Training = Annotated[
    Path | None,
    typer.Option(
        help="Run folder, or its metrics.jsonl, whose training curves the report shows; for "
        "--model found beside it."
    ),
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME>NUMBER",
        help="End with code 3 unless the whole interval of a score lies there. Repeatable.",
    ),
]

Workers = Annotated[int, number("Processes that score; each needs as much memory as one.", least=1)]

# How two folders are compared.
SkipFrames = Annotated[
    int, number("Leave out the first frames, which were given.", least=0, most=1e6)
]
Trim = Annotated[bool, typer.Option(help="Cut both to the shorter one.")]
Resize = Annotated[bool, typer.Option(help="Resize the truth to the generated size.")]
Prompts = Annotated[
    Path | None,
    typer.Option(help="JSON file with the prompt of each video by its name, for judges."),
]

# How a world is put on trial.
Model = Annotated[
    Path | None,
    typer.Option(help="World folder to put on trial: it makes the videos of --data itself."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="A folder or shards: recorded episodes with their signals for --model, videos for "
        "--tokenizer."
    ),
]
Seeds = Annotated[str, typer.Option(help="Seeds of the noise for --model: 1,2,3.")]
Limit = Annotated[
    int | None, number("Use this many episodes or videos of --data at most.", least=1)
]
GenerationOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="An option of the generation for --model: steps=12. Repeatable.",
    ),
]

# How a tokenizer is put on trial.
Tokenizer = Annotated[
    Path | None,
    typer.Option(help="Tokenizer folder to put on trial: it reconstructs the videos of --data."),
]
WindowFrames = Annotated[
    int | None,
    number(
        "Frames that --tokenizer encodes on their own, 1 + f n. Default: the whole video; with "
        "--suite tokenbench or davis 17.",
        least=1,
    ),
]
MaxFrames = Annotated[
    int | None, number("First frames of each video for --tokenizer. Default: all.", least=1)
]

# What else can be done.
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="A B", help="Compare two evaluation.json files, paired by video."),
]
Repeat = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Compute a recorded evaluation.json again."),
]
ListMetrics = Annotated[bool, typer.Option("--list", help="List every metric and suite, and stop.")]
