"""The keyword guard: lists of terms, matched through the usual disguises.

The lists are files with one term per line in the upstream layout, so that the official lists can be
used as they are::

    blocklist/custom/*.txt        words and phrases, matched in disguise, inflected, misspelled
    blocklist/disguised/*.txt     the same, but only where they are written in disguise
    blocklist/exact_match/*.txt   matched literally (whole words, any case)
    blocklist/whitelist/*.txt     words and phrases inside which nothing is blocked

``disguised`` is ours. It has words that ordinary prompts have as well ("a murder case"): in plain
sight, what they mean is left to the text classifier, but nobody disguises a harmless one.

The file's name is the verdict's category. Lines that begin with ``#`` are comments. If the lists
are unreadable or empty, the guard refuses everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import SAFE, GuardKind, Verdict
from nemo_cosmos.guardrails.settings import where_to_set
from nemo_cosmos.guardrails.text.hidden import with_hidden
from nemo_cosmos.guardrails.text.lexicon import Lexicon, is_word
from nemo_cosmos.guardrails.text.normalise import readings, spelled_out, split_words
from nemo_cosmos.guardrails.text.prompt import refuse_unreadable

SHIPPED_BLOCKLIST = Path(__file__).parent / "blocklist"

#: Words that may stand inside a phrase without changing its meaning ("kill all the people").
_FILLERS_TEXT = """
a an the all some these those this that my his your our their its every any many of several more two
three really very
"""
_FILLERS = frozenset(_FILLERS_TEXT.split())
_MIN_SPELLED_OUT = 4


@dataclass(frozen=True)
class Term:
    """One line of a list: its words without fillers, and the category of its file."""

    words: tuple[str, ...]
    category: str
    exact: bool = False
    only_disguised: bool = False

    @property
    def text(self) -> str:
        """The term as people read it."""
        return " ".join(self.words)


class TermIndex:
    """Terms by their first word, so that matching takes time linear in the prompt's length."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._by_first: dict[str, list[Term]] = {}
        self.squeezed: dict[str, Term] = {}
        terms = list(terms)
        self._lexicon = Lexicon(word for term in terms for word in term.words)
        for term in terms:
            self._by_first.setdefault(term.words[0], []).append(term)
            self.squeezed.setdefault("".join(term.words), term)

    def __len__(self) -> int:
        return len(self.squeezed)

    def mend(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the words with the pieces of listed words joined."""
        return self._lexicon.mend(words)

    def find(self, words: tuple[str, ...], inflect: bool) -> Iterator[tuple[Term, int, int]]:
        """Yield every term that occurs in the words, with the span of words that it covers."""
        lemmas = [self._lexicon.forms(word) if inflect else frozenset({word}) for word in words]
        for start, firsts in enumerate(lemmas):
            for first in firsts:
                for term in self._by_first.get(first, ()):
                    end = _match_rest(term.words, words, lemmas, start)
                    if end is not None:
                        yield term, start, end


class KeywordGuard:
    """Refuses prompts that contain a listed term, even in disguise; empty prompts too.

    Args:
        folder: the folder of the lists; by default the shipped ones.

    Raises:
        GuardrailError: the folder has no usable list.
    """

    name = "keywords"
    kind: GuardKind = "prompt"

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        root = Path(folder or SHIPPED_BLOCKLIST)
        custom = read_terms(root / "custom")
        custom += [replace(t, only_disguised=True) for t in read_terms(root / "disguised")]
        exact = read_terms(root / "exact_match", exact=True)
        if not custom and not exact:
            raise GuardrailError(
                f"The blocklist '{root}' has no term. Expected .txt files of one term per line in "
                f"'custom/' or 'exact_match/'. Set {where_to_set('blocklist')}, to "
                "such a folder, or leave it out to use the shipped lists."
            )
        self._custom = TermIndex(custom)
        self._exact = TermIndex(exact)
        self._whitelist = TermIndex(read_terms(root / "whitelist", exact=True))

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge one prompt."""
        refusal = refuse_unreadable(self.name, x)
        if refusal is not None:
            return refusal
        for text in with_hidden(str(x)):
            all_readings = readings(text)
            plain_words = frozenset(filter(is_word, all_readings[0]))
            mended = self._custom.mend(all_readings[0])
            for index, words in enumerate(dict.fromkeys([*all_readings, mended])):
                term = self._find(words, plain_words, ordinary=index == 0)
                if term is not None:
                    reason = f"it contains the blocked term '{term.text}'"
                    return Verdict(False, self.name, term.category, reason)
        return Verdict(True, self.name, SAFE, "no blocked term")

    def _find(
        self, words: tuple[str, ...], plain_words: frozenset[str], ordinary: bool
    ) -> Term | None:
        """Return the first blocked term of a reading that no whitelisted phrase covers.

        Args:
            words: the reading.
            plain_words: the prompt's English words as they are written.
            ordinary: whether nothing is guessed in the reading.
        """
        white = {
            position
            for _, start, end in self._whitelist.find(words, inflect=False)
            for position in range(start, end)
        }
        hits = [*self._exact.find(words, inflect=False)] if ordinary else []
        hits += [
            (term, start, end)
            for term, start, end in self._custom.find(words, inflect=True)
            if not (term.only_disguised and plain_words.issuperset(words[start:end]))
        ]
        hits += self._find_split(words)
        for term, start, end in hits:
            if not white.issuperset(range(start, end)):
                return term
        return None

    def _find_split(self, words: tuple[str, ...]) -> list[tuple[Term, int, int]]:
        """Find terms that pieces of words spell: ``bo mb``, ``p i p e b o m b``."""
        found = [
            (self._custom.squeezed[candidate], start, end)
            for candidate, (start, end) in split_words(words).items()
            if candidate in self._custom.squeezed
            and len(candidate) >= _MIN_SPELLED_OUT
            and not _are_words(words[start:end])
        ]
        for run in spelled_out(words):
            found += [
                (term, 0, len(words) + 1)
                for text, term in self._custom.squeezed.items()
                if len(text) >= _MIN_SPELLED_OUT and text in run
            ]
        return found


def read_terms(folder: Path, exact: bool = False) -> list[Term]:
    """Read every ``.txt`` file (or file without suffix) of one list; a missing folder is empty.

    Args:
        folder: ``custom``, ``exact_match`` or ``whitelist``.
        exact: whether terms are matched literally, which keeps their fillers.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix in ("", ".txt"))
    terms = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            found = readings(line) if not line.startswith("#") else []
            words = next(iter(found), ())
            kept = words if exact else _without_fillers(words)
            if kept:
                terms.append(Term(kept, file.stem, exact))
    return terms


def _are_words(pieces: tuple[str, ...]) -> bool:
    """Whether two neighbours are words by themselves ("pen is"), and not one word in two pieces."""
    return len(pieces) == 2 and all(len(piece) > 1 and is_word(piece) for piece in pieces)


def _without_fillers(words: tuple[str, ...]) -> tuple[str, ...]:
    """Drop fillers, but never shorten a phrase to one word ("kill all" to "kill")."""
    kept = tuple(word for word in words if word not in _FILLERS)
    return kept if len(kept) >= min(2, len(words)) else words


def _match_rest(
    term: tuple[str, ...], words: tuple[str, ...], lemmas: list[frozenset[str]], start: int
) -> int | None:
    """Return where a term ends whose first word is at ``start``; fillers may lie between."""
    position = start + 1
    for wanted in term[1:]:
        while position < len(words) and words[position] in _FILLERS and words[position] != wanted:
            position += 1
        if position >= len(words) or wanted not in lemmas[position]:
            return None
        position += 1
    return position
