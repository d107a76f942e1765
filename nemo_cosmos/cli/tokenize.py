"""``nemo-cosmos tokenize``: curated shards to shards of latents and text embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.cli.sizes import parse_size
from nemo_cosmos.storage import claim_place, is_bucket, mirror_folder

if TYPE_CHECKING:
    from nemo_cosmos.data.tokenize.run import TokenizeConfig
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer


def command(
    shards: Annotated[
        list[str], typer.Argument(help="Curated shards, or folders of them; or buckets' URLs.")
    ],
    out: Annotated[
        str, typer.Argument(help="Folder to write, or to go on writing; or a bucket's URL.")
    ],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer folder.")],
    window_frames: Annotated[int, typer.Option(help="Frames of a window, 1 + f n.")] = 17,
    window_stride: Annotated[int, typer.Option(help="Frames between windows.")] = 8,
    size: Annotated[
        str, typer.Option(help="HEIGHTxWIDTH of a window; of several, a clip takes the nearest.")
    ] = "96x128",
    text_encoder: Annotated[
        str, typer.Option(help="'embedded', or a T5 folder or hub name.")
    ] = "embedded",
    text_length: Annotated[int, typer.Option(help="Most tokens of a caption.")] = 512,
    batch_size: Annotated[int, typer.Option(help="Windows encoded at once.")] = 4,
    keep_video: Annotated[bool, typer.Option(help="Write each window as mp4, too.")] = False,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder that a run for a bucket works in; by default in the cache."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print dataset.json.")] = False,
) -> None:
    """Encode clips into latents and captions into embeddings, once, for training.

    A continuous tokenizer gives latents, a discrete one code indices (codes.safetensors).

    Clips are cut into windows of exactly the given number of frames; sidecars such as actions are
    cut along. A stopped run goes on when the same command is given again. If the tokenizer folder
    has no latent statistics yet, they are measured on the clips and written into it first.

    Examples:
      nemo-cosmos tokenize data/robot data/robot-latents --tokenizer outputs/tokenizer/export

      nemo-cosmos tokenize data/a data/b latents --tokenizer tok --window-frames 121 --size 704x1280

      nemo-cosmos tokenize s3://data/a s3://data/latents --tokenizer tok --size 96x128,128x96

      nemo-cosmos tokenize data/a images --tokenizer tok --window-frames 1 --window-stride 24
    """
    from data_curation.run_folder import run_folder_of
    from nemo_cosmos.data.shards.index import INDEX_SUFFIX
    from nemo_cosmos.data.tokenize.dataset_info import DATASET_FILE
    from nemo_cosmos.data.tokenize.run import TokenizeConfig, tokenize_shards
    from nemo_cosmos.models.common.text import load_text_encoder
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    sizes = tuple(parse_size(each) for each in size.split(","))
    config = TokenizeConfig(
        window_frames=window_frames,
        window_stride=window_stride,
        size=sizes[0],
        more_sizes=sizes[1:],
        batch_size=batch_size,
        keep_video=keep_video,
    )
    video_tokenizer = VideoTokenizer.from_folder(tokenizer)
    for each in config.sizes:
        video_tokenizer.latent_shape(window_frames, *each)  # refuses illegal windows at once
    folder = run_folder_of(out, work)
    if is_bucket(out):
        claim_place(folder, out)
    video_tokenizer = with_latent_stats(video_tokenizer, tokenizer, shards, config)
    text = load_text_encoder(text_encoder_spec(text_encoder, text_length))
    with _Bar() as bar:
        dataset = tokenize_shards(
            shards,
            folder,
            encode=video_tokenizer.encode,
            encode_text=text.encode,
            config=config,
            describe=describe(video_tokenizer, tokenizer, text),
            on_clip=bar.update,
            moved_to=out,
        )
    if is_bucket(out):
        indexes = {str(path.relative_to(folder)) for path in folder.rglob(f"*{INDEX_SUFFIX}")}
        mirror_folder(folder, out, DATASET_FILE, indexes)  # they hold for the local files only
    if as_json:
        typer.echo(json.dumps(dataset))
    else:
        _print_summary(dataset, out)


def text_encoder_spec(name: str, max_length: int) -> dict[str, Any]:
    """The configuration of a text encoder from its name on the command line."""
    if name == "embedded":
        return {"kind": "embedded", "max_length": max_length}
    return {"kind": "t5", "path": name, "max_length": max_length}


def with_latent_stats(
    tokenizer: VideoTokenizer, folder: Path, shards: list[str], config: TokenizeConfig
) -> VideoTokenizer:
    """Measure latent statistics and save them into the folder, unless they are there."""
    from nemo_cosmos.data.tokenize.run import sample_videos
    from nemo_cosmos.models.tokenizer.latent_stats import compute_latent_stats
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    if tokenizer.config.discrete or tokenizer.stats is not None:
        return tokenizer
    stats = compute_latent_stats(tokenizer.net, sample_videos(list(shards), config))
    measured = VideoTokenizer(tokenizer.net, stats)
    measured.save(folder)
    return measured


def describe(tokenizer: VideoTokenizer, folder: Path, text: Any) -> dict[str, Any]:
    """What ``dataset.json`` says of the encoders."""
    stats = tokenizer.stats
    return {
        "tokenizer": str(folder),
        "tokenizer_name": tokenizer.config.name,
        "latent_stats": None
        if stats is None
        else {"mean": stats.mean.tolist(), "std": stats.std.tolist()},
        "text_encoder": text.spec(),
    }


def _print_summary(dataset: dict[str, Any], out: str) -> None:
    shape = "x".join(str(number) for number in dataset["latent_shape"])
    line = f"{dataset['num_samples']} windows of {dataset['num_clips']} clips, latents {shape}"
    skipped = ", ".join(f"{count} {reason}" for reason, count in dataset["skipped"].items())
    typer.echo(f"{line}{f'; skipped: {skipped}' if skipped else ''}. Written to '{out}'.")


class _Bar:
    """Progress in clips, with rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("tokenize"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("tokenize", total=None, rate="clips")

    def update(self, done: int, total: int) -> None:
        """Show how many clips are done."""
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed:.1f} clips/s" if speed else "clips"
        self._progress.update(self._task, completed=done, total=total, rate=rate)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
