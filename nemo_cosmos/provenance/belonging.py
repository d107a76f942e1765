"""Whether what is joined belongs together: the one comparison, for every command that joins.

Latents of one tokenizer look like those of another, any text embedding of the right width fits, and
weights load into a network that counts time in another way: each of these works to its end and is
worthless. So what was made records what made it, as :class:`Parts`: tokenised data in
``dataset.json``, worlds in ``config.json``, checkpoints in ``nemo_cosmos.json``. Whoever joins two
of them calls :func:`check_together`, which names both values; whoever means a difference allows its
kind by name, which is recorded.

Nothing heavy is imported here, and no file is read: each room reads its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import ConfigError

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer"
TEXT_ENCODER = "text_encoder"
TEXT_LENGTH = "text_length"
MODEL = "model"
CONTROLS = "controls"
FRAME_RATE = "frame_rate"
WEIGHTS = "weights"
"""Of an adapter and its base, which is compared where an adapter is put on a world."""
KINDS = (TOKENIZER, TEXT_ENCODER, TEXT_LENGTH, MODEL, CONTROLS, FRAME_RATE, WEIGHTS)
"""What may differ, and what ``--allow-mismatch`` takes."""

ALLOWED_KEY = "allowed_mismatch"
"""Where a record lists the differences that were meant."""

SAME_RATE = 0.01
"""Rates that differ by less than this share count as the same: 29.97 and 30 Hz."""
SAME_DIRECTION = 0.999
"""Cosine between what one text encoder makes of a text in float32 and in bfloat16, at least."""


@dataclass(frozen=True)
class Parts:
    """What something was made of; what is None or empty is not recorded, and not compared.

    Attributes:
        place: where this is recorded, for messages.
        tokenizer: ``tokenizer_name``, ``encoder_sha256`` and ``latent_stats``.
        text_encoder: the specification of the text encoder, with what it makes of a known text.
        text_length: tokens that a text embedding is padded to.
        family: the family of the model.
        model: the settings that weights fix, by name.
        controls: the options of each control by its name.
        fps: frame rate in Hz of the video.
    """

    place: str
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    text_encoder: Mapping[str, Any] = field(default_factory=dict)
    text_length: int | None = None
    family: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fps: float | None = None


@dataclass(frozen=True)
class Mismatch:
    """Two records that differ.

    Attributes:
        kind: one of :data:`KINDS`.
        text: both values, and where each is recorded.
    """

    kind: str
    text: str


def is_same_rate(fps: float, other_fps: float) -> bool:
    """Whether two frame rates in Hz count as the same, as 29.97 and 30 do."""
    return abs(fps / other_fps - 1) <= SAME_RATE


def check_kinds(allowed: Collection[str]) -> None:
    """Refuse to allow what is no kind of difference.

    Raises:
        ConfigError: lists them all.
    """
    if isinstance(allowed, str):
        raise ConfigError(f"allow_mismatch is '{allowed}'; it must be a list: ['{allowed}'].")
    for kind in allowed:
        if kind not in KINDS:
            raise ConfigError(
                f"--allow-mismatch has '{kind}', which is no kind of difference. Valid are "
                f"{', '.join(repr(name) for name in KINDS)}."
            )


def check_together(parts: Sequence[Parts], allowed: Collection[str] = ()) -> list[str]:
    """Require things that are joined to belong together.

    Args:
        parts: what each was made of; all are compared with the first that records a part.
        allowed: kinds of difference that are meant; they are logged.

    Returns:
        the differences that were allowed, for the record.

    Raises:
        ConfigError: two differ, or an unknown kind is allowed.
    """
    check_kinds(allowed)
    meant = []
    for found in differences(parts):
        if found.kind not in allowed:
            raise ConfigError(
                f"{found.text} What mixes them is worthless, and no loss shows it; nothing has "
                f"been done. If you mean it, add --allow-mismatch {found.kind} (in Python "
                f"allow_mismatch=['{found.kind}'])."
            )
        logger.warning("Allowed by --allow-mismatch %s: %s", found.kind, found.text)
        meant.append(f"{found.kind}: {found.text}")
    return meant


def differences(parts: Sequence[Parts]) -> Iterator[Mismatch]:
    """Yield what differs between the first of each kind and the others."""
    for number, other in enumerate(parts):
        for one in parts[:number]:
            found = list(_between(one, other))
            yield from found
            if found:
                break


def _between(one: Parts, other: Parts) -> Iterator[Mismatch]:
    places = f"'{one.place}' and '{other.place}'"
    yield from _tokenizers(one, other, places)
    yield from _text_encoders(one, other, places)
    if one.text_length and other.text_length and one.text_length != other.text_length:
        yield Mismatch(
            TEXT_LENGTH,
            f"'{one.place}' has texts of {one.text_length} tokens, '{other.place}' of "
            f"{other.text_length}; a model attends to padding, too.",
        )
    yield from _models(one, other)
    yield from _controls(one, other)
    if one.fps and other.fps and not is_same_rate(one.fps, other.fps):
        yield Mismatch(
            FRAME_RATE,
            f"The frames of {places} are of different times: {one.fps:g} and {other.fps:g} frames "
            "a second.",
        )


def _tokenizers(one: Parts, other: Parts, places: str) -> Iterator[Mismatch]:
    names = [parts.tokenizer.get("tokenizer_name") for parts in (one, other)]
    reason = next(
        (
            words
            for key, words in (
                ("encoder_sha256", "their weights differ"),
                ("latent_stats", "the statistics of their latents differ"),
            )
            if _differ(one.tokenizer.get(key), other.tokenizer.get(key))
        ),
        None,
    )
    if reason is None and None not in names and names[0] != names[1]:
        known = [parts.tokenizer.keys() - {"tokenizer_name"} for parts in (one, other)]
        # The same weights may have been saved under two names.
        reason = None if known[0] & known[1] else "their names differ"
    if reason is not None:
        yield Mismatch(
            TOKENIZER,
            f"The latents of {places} are of two tokenizers ('{names[0]}' and '{names[1]}'; "
            f"{reason}).",
        )


def _text_encoders(one: Parts, other: Parts, places: str) -> Iterator[Mismatch]:
    if not one.text_encoder or not other.text_encoder:
        return
    here, there = (parts.text_encoder.get("probe") for parts in (one, other))
    probed = here is not None and there is not None
    texts = [_identity(parts.text_encoder, named=not probed) for parts in (one, other)]
    if any(texts[0][key] != texts[1][key] for key in texts[0].keys() & texts[1].keys()):
        yield Mismatch(
            TEXT_ENCODER,
            f"The text embeddings of {places} are of two encoders: {_listed(texts[0])} and "
            f"{_listed(texts[1])}.",
        )
    elif here is not None and there is not None and not same_probe(here, there):
        yield Mismatch(
            TEXT_ENCODER,
            f"The text embeddings of {places} are of two encoders: both are {_listed(texts[0])}, "
            "but they make different embeddings of the same text.",
        )


def _identity(spec: Mapping[str, Any], named: bool) -> dict[str, Any]:
    """What identifies a text encoder; of its path the last part, as machines differ in the rest.

    Args:
        spec: the specification.
        named: whether to go by the name; not needed where both record what they make of a text.
    """
    path = spec.get("path") if named else None
    known = {"kind": spec.get("kind"), "dim": spec.get("dim")}
    known["path"] = None if path is None else Path(str(path)).name
    return {name: value for name, value in known.items() if value is not None}


def same_probe(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two records of what a text encoder makes of a known text are of one encoder.

    They may have been computed in two precisions, so the direction decides.
    """
    if len(one) != len(other):
        return False
    size = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) >= SAME_DIRECTION * size


def _models(one: Parts, other: Parts) -> Iterator[Mismatch]:
    if one.family and other.family and one.family != other.family:
        yield Mismatch(
            MODEL,
            f"'{one.place}' is a {one.family} model, '{other.place}' a {other.family} model.",
        )
        return
    for name in one.model:
        if name in other.model and _plain(one.model[name]) != _plain(other.model[name]):
            yield Mismatch(
                MODEL,
                f"'{one.place}' has {name}={_plain(one.model[name])}, but '{other.place}' has "
                f"{name}={_plain(other.model[name])}.",
            )


def _controls(one: Parts, other: Parts) -> Iterator[Mismatch]:
    for name in one.controls:
        if name not in other.controls:
            continue
        here, there = one.controls[name], other.controls[name]
        for option in sorted(here.keys() | there.keys()):
            values = _plain(here.get(option)), _plain(there.get(option))
            if values[0] != values[1]:
                yield Mismatch(
                    CONTROLS,
                    f"The control '{name}' has {option}={values[0]} in '{one.place}', but "
                    f"{option}={values[1]} in '{other.place}': the same signal would mean "
                    "something else.",
                )


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and _plain(one) != _plain(other)


def _plain(value: Any) -> Any:
    """The value with tuples as lists, as JSON reads it back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
