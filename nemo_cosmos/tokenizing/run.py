"""Tokenise curated shards: load the encoders, measure statistics, encode, publish.

:mod:`nemo_cosmos.data.tokenize` knows no models; here it is handed the tokenizer and the text
encoder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_cosmos.checklist import require
from nemo_cosmos.checkpoint.world.config import (
    TOKENIZER_FOLDER,
    TOKENIZER_FORMAT,
    format_of,
    read_config,
)
from nemo_cosmos.data.shards.index import INDEX_SUFFIX
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.dataset_info import DATASET_FILE
from nemo_cosmos.data.tokenize.run import (
    Location,
    sample_videos,
    stored_text_dim,
    tokenize_shards,
)
from nemo_cosmos.data.tokenize.shard_encoder import EncodeText
from nemo_cosmos.models.common.text import load_text_encoder, text_encoder_spec
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.options import Range, check_instance, check_place, check_value
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import (
    claim_place,
    exported_folder,
    is_bucket,
    mirror_folder,
    work_folder_of,
)
from nemo_cosmos.tokenizing.checks import tokenize_checks


def tokenize(
    shards: Location | Sequence[Location],
    out: Location,
    tokenizer: Location,
    config: TokenizeConfig | None = None,
    *,
    text_encoder: str | None = None,
    text_length: int | None = None,
    stored_text: bool = False,
    work: Location | None = None,
    on_clip: Progress | None = None,
    allow_mismatch: Collection[str] = (),
) -> Mapping[str, Any]:
    """Encode curated clips into latents (or codes) and captions into embeddings, once.

    Arguments, result and errors are those of :func:`nemo_cosmos.api.tokenize`.
    """
    config = TokenizeConfig() if config is None else config
    check_instance("config", config, TokenizeConfig, "Write TokenizeConfig(window_frames=17, ...).")
    sources = _as_list(shards)
    for name, value in (
        ("out", out),
        ("tokenizer", tokenizer),
        ("work", "." if work is None else work),
    ):
        check_place(name, value)
    check_value("text_encoder", text_encoder, str | None)
    check_value("text_length", text_length, int | None, Range(least=1))
    require(
        tokenize_checks(sources, out, tokenizer, config, work=work, allow_mismatch=allow_mismatch)
    )
    place = os.fspath(out)
    folder = work_folder_of(place, None if work is None else Path(work))
    video_tokenizer = VideoTokenizer.from_folder(tokenizer)
    if is_bucket(place):
        claim_place(folder, place)
    if not video_tokenizer.config.discrete and video_tokenizer.stats is None:
        video_tokenizer = video_tokenizer.with_measured_stats(sample_videos(sources, config))
        video_tokenizer.save(exported_folder(tokenizer))
    text = _text_spec(exported_folder(tokenizer), text_encoder, text_length, stored_text)
    spec, encode_text = _text_encoder(text, sources if stored_text else None)
    dataset = tokenize_shards(
        sources,
        folder,
        encode=video_tokenizer.encode,
        encode_text=encode_text,
        config=config,
        describe={
            "tokenizer": os.fspath(exported_folder(tokenizer)),
            **video_tokenizer.describe(),
            "text_encoder": spec,
        },
        on_clip=on_clip,
        moved_to=place,
        allow_mismatch=allow_mismatch,
    )
    if is_bucket(place):
        # Indexes hold byte offsets of the local files only; the bucket's readers build their own.
        indexes = {str(path.relative_to(folder)) for path in folder.rglob(f"*{INDEX_SUFFIX}")}
        mirror_folder(folder, place, DATASET_FILE, indexes)
    return dataset


def _as_list(shards: Location | Sequence[Location]) -> list[Location]:
    """Shards, or folders of them, as a list of paths and URLs.

    Raises:
        ConfigError: one is something else.
    """
    if isinstance(shards, str | os.PathLike) or not isinstance(shards, Sequence):
        shards = [shards]
    places = list(shards)
    for place in places:
        check_place("shards", place)
    return places


def _text_spec(
    tokenizer: Path, name: str | None, length: int | None, is_stored: bool
) -> dict[str, Any]:
    """The specification of the text encoder: what is named, and else that of the tokenizer's world.

    A world takes embeddings of its own encoder and length alone, so its tokenizer's latents are
    made for no other.

    Args:
        tokenizer: the tokenizer's folder, within its world's or elsewhere.
        name: ``"embedded"``, or the folder or hub name of a T5 encoder.
        length: the most tokens of a caption.
        is_stored: whether the embeddings are made already; by which encoder, no world can tell.
    """
    inside = tokenizer.resolve()
    world: dict[str, Any] = {}
    if inside.name == TOKENIZER_FOLDER and format_of(inside.parent) not in (None, TOKENIZER_FORMAT):
        world = dict(read_config(inside.parent).text_encoder)
    length = length or world.get("max_length") or REFERENCE_MAX_LENGTH
    if world and name is None and not is_stored:
        return {**world, "max_length": length}
    return text_encoder_spec(name or "embedded", length)


def _text_encoder(
    spec: Mapping[str, Any], stored: Sequence[Location] | None
) -> tuple[dict[str, object], EncodeText | None]:
    """What ``dataset.json`` says of the text encoder, and its function.

    Args:
        spec: the encoder's specification.
        stored: shards whose embeddings are taken as they are, so that no encoder is loaded.
    """
    if stored is None:
        text = load_text_encoder(spec)
        return text.spec(), text.encode
    known = {"kind": spec["kind"], "path": spec.get("path"), "max_length": spec["max_length"]}
    return {**known, "dim": stored_text_dim(stored)}, None
