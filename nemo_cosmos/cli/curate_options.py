"""Options of ``nemo-cosmos curate`` that are of the run; those of the stages are their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="Folder, video, 'glob pattern' or .txt list; or a bucket's URL."
    ),
]
Output = Annotated[str, typer.Argument(help="Folder for shards and report; or a bucket's URL.")]
Skip = Annotated[
    str, typer.Option(help="Stages to leave out, such as 'text_overlay,embed', or 'all'.")
]
Decoder = Annotated[
    str, typer.Option(help="Of video: 'pyav', 'torchcodec', 'dali', or 'auto' (DALI on GPUs).")
]
ShardMegabytes = Annotated[float, typer.Option(help="Size of a tar in MB.")]
Name = Annotated[
    str | None, typer.Option(help="Of the data set in the catalogue; else the folder's.")
]
CatalogueLocation = Annotated[
    str | None,
    typer.Option(help="File or mongodb:// URL of the catalogue; the site's by default."),
]
ExecutorName = Annotated[
    str, typer.Option(help="Where to work: 'processes' of this machine, 'ray', or 'inline'.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="How many processes (1), or most Ray actors of a kind (what fits)."),
]
MinWorkers = Annotated[int, typer.Option(help="Least Ray actors of a kind.")]
Address = Annotated[
    str,
    typer.Option(help="Of the Ray cluster: 'local' starts one, 'auto' finds one, HOST:PORT."),
]
WorkerMemory = Annotated[
    float, typer.Option(help="A process that takes more is replaced; 0 sets no limit.")
]
RetryDead = Annotated[bool, typer.Option("--retry-dead", help="Try again what was given up.")]
Work = Annotated[
    Path | None,
    typer.Option(help="Folder that a run for a bucket works in; by default in the cache."),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object; progress as JSON lines on stderr."),
]
