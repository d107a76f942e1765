"""Changed copies of windows, tokenised beside the windows themselves.

Training reads latents, and the latent of a mirrored picture is no mirrored latent: pictures are
changed before they are encoded, here, or not at all. Each copy is a sample like any other, with its
own caption and its signals changed along, so that training knows nothing of it.

Shape suffixes: T frames of H x W pixels, C colours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.controls import CAMERA, decode_arrays
from nemo_cosmos.controls.embodiment import Embodiment, find_embodiment
from nemo_cosmos.data.augmentation.change import Change, choose_axis, draw_change, speeds_that_fit
from nemo_cosmos.data.augmentation.settings import Variants
from nemo_cosmos.data.augmentation.words import mirror_words, names_a_side
from nemo_cosmos.data.loading.buckets import content_box
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.schema import AUGMENTATION, PADDING_BOX, ClipRecord
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.windows import (
    MAX_DECODED_BYTES,
    Window,
    cut_signals,
    decode_frames,
    window_record,
    window_starts,
)
from nemo_cosmos.errors import SampleError
from nemo_cosmos.video import resize_and_pad


def cut_variants(
    clip: Sample, config: TokenizeConfig, variants: Variants, texts_are_stored: bool
) -> Iterator[Window]:
    """Decode a clip and yield the changed copies of its windows.

    Args:
        clip: a curated sample.
        config: settings of windows.
        variants: what may be changed.
        texts_are_stored: whether the clip's text embedding is taken as it is. A clip whose words
            name a side is then not mirrored, nor is one whose words cannot be mirrored for certain.

    Raises:
        SampleError: the clip is damaged, has another number of frames than its JSON says, or a
            signal that cannot follow.
    """
    record = clip.record
    if len(record.views) > 1:
        raise SampleError(
            f"{clip.where} has {len(record.views)} cameras, of which no changed copies are made: a "
            "mirrored car has its left cameras on the right. Tokenize without --variants."
        )
    num_frames = config.window_frames
    starts = window_starts(record.num_frames, num_frames, config.window_stride)
    caption = mirrored_caption(record, texts_are_stored)
    if not starts:
        return
    axis = choose_axis(variants.mirror_axis, _poses(clip)) if variants.flip else 0
    _check_signals(clip, config, variants, axis)
    encoded = clip.read("mp4")
    frames_at_once = MAX_DECODED_BYTES // (3 * record.height * record.width)
    longest = (num_frames - 1) * max(variants.speed) + 1
    while starts:
        first = starts[0]
        last = first + max(frames_at_once, longest)
        group = [start for start in starts if start + longest <= last]
        end = min(group[-1] + longest, record.num_frames)
        frames_THWC = decode_frames(encoded, np.arange(first, end), None, clip.where)
        for start in group:
            for number in range(1, variants.number + 1):
                change = _drawn(variants, record, num_frames, start, number, axis)
                if caption is None:
                    change = change.without_mirror()
                picked_THWC = frames_THWC[start - first :: change.speed][:num_frames]
                yield _variant(clip, config, start, number, change, caption, picked_THWC)
        starts = starts[len(group) :]


def _check_signals(clip: Sample, config: TokenizeConfig, variants: Variants, axis: int) -> None:
    """Try the furthest change, so that a signal which cannot follow is refused by the first clip.

    Chance would else decide how far a run gets.

    Raises:
        SampleError: nobody has said what becomes of a signal.
    """
    num_frames = config.window_frames
    furthest = Change(
        is_mirrored=variants.flip > 0,
        kept=1 - variants.crop,
        speed=max(speeds_that_fit(variants, num_frames, clip.record.num_frames)),
        mirror_axis=axis,
        embodiment=_embodiment(variants.embodiment),
    )
    record = window_record(clip.record, 0, num_frames, config.size_of(clip), furthest.speed)
    cut_signals(Window(clip, record, 0, np.empty((0, 0, 0, 3), np.uint8), furthest))


def mirrored_caption(record: ClipRecord, texts_are_stored: bool) -> str | None:
    """The caption of a clip when it is mirrored; None if it cannot be mirrored."""
    if texts_are_stored:
        return None if names_a_side(record.caption) else record.caption
    return mirror_words(record.caption)


def _drawn(
    variants: Variants, record: ClipRecord, num_frames: int, start: int, number: int, axis: int
) -> Change:
    """The change of one copy: the same in every run, whatever else is tokenised."""
    digest = hashlib.sha256(f"{record.key} {start} {number}".encode()).digest()
    random = np.random.default_rng([variants.seed, int.from_bytes(digest[:8], "little")])
    speeds = speeds_that_fit(variants, num_frames, record.num_frames - start)
    change = draw_change(variants, random, speeds)
    return replace(change, mirror_axis=axis, embodiment=_embodiment(variants.embodiment))


@cache
def _embodiment(given: str | None) -> Embodiment | None:
    """What the actions are of, as a person has said; read once, since every copy asks."""
    return None if given is None else find_embodiment(given)


def _variant(
    clip: Sample,
    config: TokenizeConfig,
    start: int,
    number: int,
    change: Change,
    caption: str | None,
    picked_THWC: NDArray[np.uint8],
) -> Window:
    """One changed copy of a window."""
    source = (clip.record.height, clip.record.width)
    shown_THWC = change.colours(change.picture(source).frames(picked_THWC))
    size = config.size_of(clip)
    frames_THWC, mask_HW = resize_and_pad(shown_THWC, size)
    record = window_record(clip.record, start, config.window_frames, size, change.speed)
    told: JsonObject = {AUGMENTATION: {"variant": number, **change.describe(source)}}
    told[PADDING_BOX] = list(content_box(mask_HW))
    if change.is_mirrored:
        told["caption"] = caption
        instruction = record.extra.get("instruction")
        if isinstance(instruction, str):
            told["instruction"] = mirror_words(instruction) or instruction
    changed = record.with_changes(key=f"{record.key}-a{number}", **told)
    return Window(clip, changed, start, frames_THWC, change)


def _poses(clip: Sample) -> Array | None:
    """The camera's poses, where the clip has them."""
    if CAMERA.suffix not in clip.members:
        return None
    values = decode_arrays(CAMERA.suffix, clip.read(CAMERA.suffix), clip.where)
    CAMERA.check(values, clip.record.num_frames, clip.where)
    return values["poses"]
