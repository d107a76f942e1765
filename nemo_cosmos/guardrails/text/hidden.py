"""Text that is hidden in a prompt: encoded in base64, hex, percent signs, escapes, or reversed.

Character codes in binary or decimal digits, invisible tag characters and emoji that stand for words
(``blocklist/emoji.tsv``: a knife, blood, who is hurt) are read, too.

A text encoder reads none of these as words, but a language model may, and so may a rewriting step
before it. Guards therefore judge the prompt and whatever can be decoded from it.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

EMOJI_FILE = Path(__file__).parent / "blocklist" / "emoji.tsv"
EMOJI_IDIOMS_FILE = EMOJI_FILE.with_name("emoji_idioms.tsv")

#: Shorter chunks are words and numbers more often than encoded sentences.
_MIN_BASE64, _MIN_HEX = 8, 16
#: What is decoded twice or three times is still found.
_MAX_DEPTH = 3
#: Fewer numbers are sizes, dates or colours.
_MIN_CODES = 6
_READABLE_SHARE = 0.85
#: What follows an emoji without changing what it shows: the style of the picture, colours of skin.
_EMOJI_VARIANTS = "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]"
_PICTURES = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff\ufe0e\ufe0f\u200d]+")
_RIGHT_TO_LEFT, _POP = "\u202e", "\u202c"


def with_hidden(text: str) -> list[str]:
    """Return the text, and every text that is hidden in it.

    Args:
        text: a prompt.
    """
    found = {text: None}
    fresh = [text]
    for _ in range(_MAX_DEPTH):
        fresh = [hidden for known in fresh for hidden in _hidden(known) if hidden not in found]
        found |= dict.fromkeys(fresh)
    return list(found)


def without_pictures(text: str) -> str:
    """Return the text without emoji; those that stand for words are read by :func:`with_hidden`.

    A sentence encoder has hardly seen any, and takes a sentence with one for an odd one.

    Args:
        text: a prompt, or a text that was hidden in it.
    """
    return _PICTURES.sub(" ", text)


def _hidden(text: str) -> Iterator[str]:
    """Yield what one decoding step makes of a text."""
    for pattern, decode in (
        (rf"[A-Za-z0-9+/_-]{{{_MIN_BASE64},}}={{0,2}}", _from_base64),
        (rf"\b(?:[0-9a-fA-F]{{2}}[\s:]?){{{_MIN_HEX // 2},}}", _from_hex),
        (r"\b(?:[A-Z2-7]{8}){2,}[A-Z2-7]*={0,6}", _from_base32),
        (rf"\b(?:[01]{{8}}[\s,]*){{{_MIN_CODES},}}", _from_binary),
        (rf"\b(?:1?[0-9]{{2}}[\s,]+){{{_MIN_CODES},}}1?[0-9]{{2}}\b", _from_decimal),
    ):
        chunks = [_decoded(chunk, decode) for chunk in re.findall(pattern, text)]
        if any(chunks):
            yield " ".join(filter(None, chunks))
    for whole in (
        unquote(text),
        html.unescape(text),
        _unescaped(text),
        _reversed_parts(text),
        _untagged(text),
        _emoji_read(text),
    ):
        if whole != text:
            yield whole


def _decoded(chunk: str, decode: Callable[[str], bytes]) -> str:
    """Return the readable text of an encoded chunk; an empty string if there is none."""
    try:
        text = decode(chunk).decode("utf-8")
    except (ValueError, binascii.Error):  # a UnicodeDecodeError is a ValueError, too
        return ""
    readable = sum(c.isspace() or unicodedata.category(c)[0] in "LMNP" for c in text)
    words = any(c.isalpha() for c in text)
    return text if words and readable >= _READABLE_SHARE * len(text) else ""


def _from_base64(chunk: str) -> bytes:
    chunk = chunk.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(chunk + "=" * (-len(chunk) % 4), validate=True)


def _from_base32(chunk: str) -> bytes:
    chunk = chunk.rstrip("=")
    return base64.b32decode(chunk + "=" * (-len(chunk) % 8))


def _from_binary(chunk: str) -> bytes:
    return bytes(int(octet, 2) for octet in re.findall(r"[01]{8}", chunk))


def _from_decimal(chunk: str) -> bytes:
    return bytes(int(code) for code in re.findall(r"\d+", chunk))


def _from_hex(chunk: str) -> bytes:
    return bytes.fromhex(re.sub(r"[\s:]", "", chunk))


def _unescaped(text: str) -> str:
    r"""Read ``\u0062`` and ``\x62`` as the characters that they stand for."""
    return re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))",
        lambda match: chr(int(match.group(1) or match.group(2), 16)),
        text,
    )


def _reversed_parts(text: str) -> str:
    """Return the text as it is shown where a right-to-left override turns letters round."""
    return re.sub(f"{_RIGHT_TO_LEFT}([^{_POP}]*){_POP}?", lambda match: match.group(1)[::-1], text)


def _untagged(text: str) -> str:
    """Return the text with invisible tag characters as the letters that they stand for."""
    flags = "\U0001f3f4[\U000e0020-\U000e007f]+"  # the flag of Scotland has them by right
    return re.sub(
        "[\U000e0020-\U000e007e]",
        lambda match: chr(ord(match.group()) - 0xE0000),
        re.sub(flags, "", text),
    )


def _emoji_read(text: str) -> str:
    """Return the text with words in the place of the emoji that stand for them."""
    words, pattern = _emoji_words()
    plain = re.sub(_EMOJI_VARIANTS, "", text)
    ornaments = _ornaments(plain)
    read, count = pattern.subn(
        lambda match: match[0] if match.start() in ornaments else f" {words[match[0]]} ", plain
    )
    return read if count > len(ornaments) else text


def _ornaments(text: str) -> set[int]:
    """Return the places of emoji that stand for no word: "so funny 💀", "chopping garlic 🔪🧄".

    Such a sign ends a sentence that shows by another word or sign what is meant. Beside a sign that
    stands for a word in any case, such as a person or blood, every sign does.
    """
    _, pattern = _emoji_words()
    cues = _emoji_cues()
    found: set[int] = set()
    for match in pattern.finditer(text):
        before = re.split(r"[.!?;\n]", text[: match.start()])[-1]
        after = re.split(r"[.!?;\n]", text[match.end() :])[0]
        sentence = {*re.findall(r"\w+", before.lower()), *before, *after}
        if re.search(r"\w", after) or sentence.isdisjoint(cues.get(match[0], ())):
            return set()
        found.add(match.start())
    return found


@cache
def _emoji_cues() -> dict[str, frozenset[str]]:
    """Return, by emoji, the words and signs beside which it is an ornament."""
    return {
        sign: frozenset(cues.split())
        for signs, cues in _rows(EMOJI_IDIOMS_FILE)
        for sign in signs.split()
    }


@cache
def _emoji_words() -> tuple[dict[str, str], re.Pattern[str]]:
    """Return the words by emoji, and a pattern of all emoji."""
    words = {sign: meaning for signs, meaning in _rows(EMOJI_FILE) for sign in signs.split()}
    longest_first = sorted(words, key=len, reverse=True)
    return words, re.compile("|".join(map(re.escape, longest_first)))


def _rows(file: Path) -> list[list[str]]:
    """Return the two columns of a table of emoji."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]
