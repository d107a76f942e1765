"""Undo the usual ways to hide a word: one text in, a few plain readings out.

Covered: case, spacing (``b o m b``), punctuation (``b.o-m.b``), leetspeak (``b0m8``), zero-width
characters, combining marks, look-alike letters of other scripts, enclosed and full-width letters,
stretched letters (``boooomb``).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable

#: Letters that look like a Latin one and that Unicode normalisation leaves alone. Capitals come
#: first, because Н looks like H while its small form н does not look like h.
_LOOK_ALIKES = {
    "a": "АΑаαɑᴀ", "b": "ВΒвβʙ", "c": "СсᴄϹϲ", "d": "ԁɗđᴅ", "e": "ЕΕеεᴇ", "f": "ꜰƒ", "g": "ɡɢ",
    "h": "НΗһɦħʜ", "i": "ІΙіιıɪɩ", "j": "ЈјᴊϳȷЈ", "k": "КΚкκᴋ", "l": "Ӏӏłʟƚ", "m": "МΜмᴍ",
    "n": "Νηɴпᴎ", "o": "ОΟоοσøᴏօ", "p": "РΡрρᴘ", "q": "ԛգ", "r": "ʀгᴦ", "s": "Ѕѕꜱʂ", "t": "ТΤтτᴛ",
    "u": "υᴜսц", "v": "νᴠѵ", "w": "ԝωᴡш", "x": "ХΧхχ", "y": "УΥуγʏү", "z": "Ζᴢʐ",
}  # fmt: skip
_HOMOGLYPHS = {
    ord(look): latin for latin, looks in _LOOK_ALIKES.items() for look in dict.fromkeys(looks)
}
#: Leetspeak; a one may stand for i or l, so there are two tables.
_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g"}
_LEET |= {"@": "a", "$": "s", "€": "e", "+": "t", "£": "l"}
LEET_TABLES = (
    str.maketrans(_LEET | {"1": "i", "!": "i", "|": "i"}),
    str.maketrans(_LEET | {"1": "l", "!": "l", "|": "l"}),
)
#: Arabic's sign that only stretches a word.
_STRETCH = "\u0640"
#: Fillers of Hangul and the empty pattern of Braille: letters and signs that nobody sees.
_BLANKS = "\u115f\u1160\u3164\uffa0\u2800"
#: First and last code point of each alphabet of letters in squares and circles.
_ENCLOSED = ((0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189), (0x1F1E6, 0x1F1FF))
_ENCLOSED_TABLE = {
    code: ord("a") + code - first for first, last in _ENCLOSED for code in range(first, last + 1)
}

#: Short words of ordinary sentences; other short pieces hint at a split word.
_SHORT_WORDS_TEXT = """
a i am an as at be by do go he if in is it me my no of on or so to up us we the and for its his her
our out off all any one two are was has had not but can you who how see
"""
_SHORT_WORDS = frozenset(_SHORT_WORDS_TEXT.split())


def spaced(text: str) -> str:
    """Return the text with a space for each letter that is shown as one."""
    return re.sub(f"[{_BLANKS}]", " ", text)


def plain(text: str) -> str:
    """Fold case, look-alikes, marks and invisible characters; keep punctuation and spaces."""
    text = spaced(text).translate(_ENCLOSED_TABLE)
    text = unicodedata.normalize("NFKD", text)
    kept = [
        c for c in text if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Cc") or c.isspace()
    ]
    # Twice, because folding the case may turn another letter into a look-alike.
    return "".join(kept).translate(_HOMOGLYPHS).casefold().translate(_HOMOGLYPHS)


def legible(text: str) -> str:
    """Return one text for a classifier: disguises are undone where a word is surely disguised.

    Digits and signs become letters only between letters (``b0mb``, not ``4k``), spelled-out words
    are closed up (``b o m b``), look-alikes are folded in words of Latin letters; punctuation and
    the letters of other scripts stay.
    """
    chunks = [
        _unleet(chunk, LEET_TABLES[0]) if re.search(r"[a-z][0-9@$!|+]+[a-z]", chunk) else chunk
        for chunk in _folded(text).replace("_", "-").split(" ")
    ]
    closed = re.sub(r"(?<=[a-z])[^\w\s](?=[a-z]\b)", "", " ".join(chunks))
    return re.sub(
        r"\b[^\W\d_](?: [^\W\d_]){2,}\b", lambda match: match.group().replace(" ", ""), closed
    )


def _folded(text: str) -> str:
    """Fold case and invisible characters, and look-alikes in words of Latin letters."""
    text = unicodedata.normalize("NFKC", spaced(text).translate(_ENCLOSED_TABLE))
    text = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc"))
    text = text.replace(_STRETCH, "")
    # Marks that are left after a Latin letter belong to no language; other scripts need theirs.
    text = re.sub(r"(?<=[a-zA-Z])[\u0300-\u036f\u20d0-\u20ff]+", "", text).casefold()
    num_latin = sum(map(_is_latin, text))
    mostly_latin = 2 * num_latin > sum(map(str.isalpha, text))
    return re.sub(r"[^\W\d_]+", lambda match: _fold_word(match.group(), mostly_latin), text)


def _fold_word(word: str, mostly_latin: bool) -> str:
    """Fold the look-alikes of a word that has Latin letters, or stands among such words."""
    folded = word.translate(_HOMOGLYPHS).casefold()
    if word == folded or not folded.isascii():
        return word
    return folded if mostly_latin or any(map(_is_latin, word)) else word


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalpha()


def readings(text: str) -> list[tuple[str, ...]]:
    """Return the plain readings of a text, each a sequence of words of letters and digits.

    The first reading is the ordinary one: punctuation separates words, and nothing is guessed.
    """
    # An apostrophe does not separate words, and a genitive s is not part of the next word.
    base = re.sub(r"(?<=\w)['’](s\b)?", "", plain(text))
    found: dict[tuple[str, ...], None] = {}
    for table in (None, *LEET_TABLES):
        chunks = [_unleet(chunk, table) for chunk in base.split()]
        apart = [word for chunk in chunks for word in re.findall(r"[^\W_]+", chunk)]
        joined = [word for chunk in chunks if (word := re.sub(r"[\W_]", "", chunk))]
        for words in (apart, joined):
            for keep in (0, 1, 2):
                unstretched = [_unstretch(word, keep) for word in words] if keep else words
                found[tuple(unstretched)] = None
                found[tuple(_join_letters(unstretched)[0])] = None
    return list(found)


def spelled_out(words: tuple[str, ...]) -> list[str]:
    """Return the strings that runs of three or more single letters (``k i l l``) spell."""
    return _join_letters(words)[1]


def _join_letters(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words with every run of single letters joined, and those runs alone."""
    joined: list[str] = []
    runs: list[str] = []
    for is_letter, group in itertools.groupby(words, key=lambda word: len(word) == 1):
        pieces = list(group)
        if is_letter and len(pieces) >= 3:
            runs.append("".join(pieces))
            joined.append(runs[-1])
        else:
            joined.extend(pieces)
    return joined, runs


def split_words(words: tuple[str, ...], max_pieces: int = 5) -> dict[str, tuple[int, int]]:
    """Return words that neighbouring short pieces may spell (``bo mb``), with the pieces' span.

    A candidate has at least one piece of one to three letters that is not an ordinary short word;
    one of up to four letters has no other pieces ("go re-enter" is not "gore").
    """
    candidates: dict[str, tuple[int, int]] = {}
    for first in range(len(words)):
        for last in range(first + 2, min(first + max_pieces, len(words)) + 1):
            pieces = words[first:last]
            if any(len(piece) > 5 for piece in pieces):
                break
            odd = [len(piece) <= 3 and piece not in _SHORT_WORDS for piece in pieces]
            spelled = "".join(pieces)
            if all(odd) or (any(odd) and len(spelled) > 4):
                candidates[spelled] = (first, last)
    return candidates


def _unleet(chunk: str, table: dict[int, str] | None) -> str:
    """Read digits and signs as letters in a chunk with a letter (a price stays a price)."""
    if table is None or not any(c.isalpha() for c in chunk):
        return chunk
    return chunk.strip(".,;:!?\"'()[]{}").translate(table)


def _unstretch(word: str, keep: int) -> str:
    """Shorten runs of three or more equal letters."""
    return re.sub(r"(.)\1{2,}", lambda match: match.group(1) * keep, word)
