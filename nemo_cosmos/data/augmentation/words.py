"""Words of a mirrored clip: what was to the left is to the right."""

from __future__ import annotations

import re

_OPPOSITES = {
    "left": "right",
    "leftmost": "rightmost",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "clockwise": "counterclockwise",
}
_SWAPPED = _OPPOSITES | {after: before for before, after in _OPPOSITES.items()}
# Other spellings, which become the usual one.
_SWAPPED |= {"anticlockwise": "clockwise", "counter-clockwise": "clockwise"}
_SIDE = re.compile(
    rf"(?<![\w-])(?:{'|'.join(sorted(_SWAPPED, key=len, reverse=True))})(?!\w)", re.I
)

_NO_SIDE = re.compile(
    r"\b(?:all right|right (?:away|now|after|before|angles?|at|in front|behind|above|below|next)"
    r"|left (?:over|behind|alone|open|unattended|in|on)"
    r"|(?:is|are|was|were|be|been|being|has|have|had|he|she|it|they|who|that) left)\b",
    re.I,
)
"""Uses of the words that name no side, or might name none."""


def names_a_side(text: str) -> bool:
    """Whether a text speaks of left and right, so that it is wrong for a mirrored clip."""
    return _SIDE.search(text) is not None


def mirror_words(text: str) -> str | None:
    """Return a text as it is true of the mirrored clip; None where that is not certain.

    Args:
        text: a caption, in English.
    """
    if _NO_SIDE.search(text):
        return None
    return _SIDE.sub(lambda match: _as_cased(_SWAPPED[match[0].lower()], match[0]), text)


def _as_cased(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
