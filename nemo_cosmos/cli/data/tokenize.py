"""``nemo-cosmos tokenize``: curated shards to shards of latents and text embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.launching import launchable
from nemo_cosmos.cli.kit.options import (
    AllowMismatch,
    AsJson,
    Work,
    listed,
    number,
    parse_size,
    with_options,
)
from nemo_cosmos.data.augmentation.settings import Variants
from nemo_cosmos.errors import counted
from nemo_cosmos.options import build_options
from nemo_cosmos.progress import show_progress

DEFAULT_SIZE = "96x128"


@launchable(shared=False)
@with_options(**{"Changed copies": Variants})
def command(
    shards: Annotated[
        list[str], typer.Argument(help="Curated shards, or folders of them; or buckets' URLs.")
    ],
    out: Annotated[str, typer.Argument(help="Folder to write or to resume; or a bucket's URL.")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer folder.")],
    window_frames: Annotated[
        int, number("Frames of a window, 1 + f n.", least=1, most=100000)
    ] = 17,
    window_stride: Annotated[int, number("Frames between windows.", least=1, most=100000)] = 8,
    size: Annotated[
        list[str] | None,
        typer.Option(help="HEIGHTxWIDTH of a window. Repeatable: a clip takes the nearest."),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            help="'embedded', or a T5 folder or hub name; by default that of the world in whose "
            "folder the tokenizer is, else embedded."
        ),
    ] = None,
    text_length: Annotated[
        int | None,
        number(
            "Longest caption, in tokens; by default the world's, else 512.", least=1, most=65536
        ),
    ] = None,
    stored_text: Annotated[
        bool,
        typer.Option(help="Use the shards' text embeddings; --text-encoder names what made them."),
    ] = False,
    batch_size: Annotated[int, number("Windows encoded at once.", least=1, most=4096)] = 4,
    keep_video: Annotated[bool, typer.Option(help="Also write each window as mp4.")] = False,
    allow_mismatch: AllowMismatch = None,
    work: Work = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
) -> None:
    """Encode clips into latents and captions into embeddings, once, for training.

    A continuous tokenizer gives latents, a discrete one code indices (codes.safetensors).

    Clips are cut into windows of exactly the given number of frames, and sidecars such as actions
    with them. Run the same command again to resume. If the tokenizer folder has no latent
    statistics yet, they are measured on the clips and written into it first.

    Examples:
        nemo-cosmos tokenize data/robot data/robot-latents --tokenizer outputs/tokenizer/export
        nemo-cosmos tokenize data/a data/b latents --tokenizer tok --window-frames 121 --size 704x1280
        nemo-cosmos tokenize s3://data/a s3://data/latents --tokenizer tok --size 96x128,128x96
        nemo-cosmos tokenize data/a images --tokenizer tok --window-frames 1 --window-stride 24
        nemo-cosmos tokenize data/a latents --tokenizer tok --flip 0.5 --crop 0.1
    """  # noqa: E501 - a command stays on one line
    from nemo_cosmos import api
    from nemo_cosmos.data.tokenize.config import TokenizeConfig

    given = {name: value for name, value in options.items() if value not in (None, [])}
    sizes = tuple(parse_size(each) for each in listed(size) or (DEFAULT_SIZE,))
    config = TokenizeConfig(
        window_frames=window_frames,
        window_stride=window_stride,
        size=sizes[0],
        more_sizes=sizes[1:],
        batch_size=batch_size,
        keep_video=keep_video,
        variants=build_options(Variants, given) if given else None,
    )
    if check:
        from nemo_cosmos.tokenizing.checks import tokenize_checks

        checks = tokenize_checks(
            shards,
            out,
            tokenizer,
            config,
            work=work,
            allow_mismatch=listed(allow_mismatch),
        )
        look_first(checks, check, as_json)
    with show_progress("Tokenizing", "clips", "json" if as_json else "people") as update:
        dataset = api.tokenize(
            shards,
            out,
            tokenizer,
            config,
            text_encoder=text_encoder,
            text_length=text_length,
            stored_text=stored_text,
            work=work,
            on_clip=update,
            allow_mismatch=listed(allow_mismatch),
        )
    if as_json:
        typer.echo(json.dumps(dataset))
    else:
        _print_summary(dataset, out)


def _print_summary(dataset: Mapping[str, Any], out: str) -> None:
    shape = "x".join(str(number) for number in dataset["latent_shape"])
    line = (
        f"{counted(dataset['num_samples'], 'window')} of {counted(dataset['num_clips'], 'clip')}, "
        f"latents {shape}"
    )
    skipped = ", ".join(f"{count} {reason}" for reason, count in dataset["skipped"].items())
    typer.echo(f"{line}{f'; skipped: {skipped}' if skipped else ''}. Written to '{out}'.")
