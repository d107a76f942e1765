"""What tokenising looks at before an encoder works: shards, tokenizer, windows, output, room."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from nemo_cosmos.checklist import Check
from nemo_cosmos.checkpoint.tokenizer.files import check_tokenizer_files
from nemo_cosmos.data.shards.writer import list_shards, read_shard
from nemo_cosmos.data.tokenize.config import LATENT_DTYPES, TokenizeConfig
from nemo_cosmos.data.tokenize.run import RUN_FILE, Location, check_same_run
from nemo_cosmos.errors import counted
from nemo_cosmos.models.tokenizer.tokenizer import (
    STATS_FILE,
    VideoTokenizer,
    read_tokenizer_config,
)
from nemo_cosmos.storage import exported_folder, is_url, work_folder_of
from nemo_cosmos.storage.outputs import check_apart, check_output_folder, check_room

TEXT_BYTES = 200_000
"""Of a caption's embedding, on average: a hundred tokens of a T5-11B."""
MP4_BYTES_PER_PIXEL = 0.1


def tokenize_checks(
    shards: Sequence[Location],
    out: Location,
    tokenizer: Location,
    config: TokenizeConfig,
    *,
    work: Location | None = None,
    allow_mismatch: Collection[str] = (),
) -> list[Check]:
    """Return what to look at before clips are encoded; the arguments are those of ``tokenize``."""
    place = exported_folder(tokenizer)
    found = cache(lambda: [shard for each in shards for shard in list_shards(each)])
    folder = cache(lambda: work_folder_of(os.fspath(out), None if work is None else Path(work)))
    network = cache(lambda: read_tokenizer_config(place))

    def windows() -> str:
        shapes = [network().latent_shape(config.window_frames, *size) for size in config.sizes]
        return "latents of " + ", ".join("x".join(map(str, shape)) for shape in shapes)

    def statistics() -> str:
        check_tokenizer_files(place)
        if network().discrete or (place / STATS_FILE).is_file():
            return f"'{place}', {network().name}"
        check_output_folder(place)
        return f"'{place}', {network().name}; statistics will be measured and written there"

    def output() -> str:
        # A second run would take the latents for shards of videos.
        check_apart(out, [each for each in shards if not is_url(each)])
        return f"'{check_output_folder(folder())}' can be written"

    def begun() -> str:
        if not (folder() / RUN_FILE).is_file():
            return "a new folder"
        # A path does not tell text encoders apart; what they make of a text does, once loaded.
        described = VideoTokenizer.from_folder(place).describe()
        check_same_run(folder(), config, described, shards, allow_mismatch)
        return "begun with the same tokenizer, windows and shards"

    def room() -> str:
        number = sum(_num_windows(shard, config) for shard in found() if not is_url(shard))
        values = max(
            math.prod(network().latent_shape(config.window_frames, *size)) for size in config.sizes
        )
        each = values * LATENT_DTYPES[config.latent_dtype].itemsize + TEXT_BYTES
        if config.keep_video:
            height, width = config.size
            each += int(config.window_frames * height * width * MP4_BYTES_PER_PIXEL)
        return check_room(folder(), number * each, f"latents of {counted(number, 'window')}")

    return [
        Check("shards", lambda: counted(len(found()), "shard")),
        Check("tokenizer", statistics),
        Check("windows", windows),
        Check("output", output),
        Check("belonging", begun),
        Check("room", room),
    ]


def _num_windows(shard: str, config: TokenizeConfig) -> int:
    lengths = (clip.record.num_frames for clip in read_shard(shard, ("json",)))
    copies = 1 if config.variants is None else 1 + config.variants.number
    return copies * sum(
        1 + -(-(length - config.window_frames) // config.window_stride)
        for length in lengths
        if length >= config.window_frames
    )
