"""What else a written word may be: its dictionary form, a stem, or a misspelt listed word.

Only words that are not English count as misspelt: "heroine" and "Essex" are left alone, "suicde"
and "terorist" are corrected, and so are scrambled letters after the first ("mudrer").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

import simplemma
from rapidfuzz.distance import OSA

from nemo_cosmos.guardrails.text.words import is_foreign

#: Shorter words never count as misspelt: too many names are one letter from a term.
MIN_NEAR_LENGTH = 6
#: From this length on, two letters may be wrong.
TWO_ERRORS_LENGTH = 10
#: Shorter words with the same letters are too often abbreviations.
MIN_SCRAMBLED_LENGTH = 4
_SUFFIXES = ("s", "es", "ed", "d", "ing", "er", "ers", "r", "rs")


class Lexicon:
    """Relates written words to the words of a list of terms.

    Args:
        vocabulary: the words of all terms.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._vocabulary = frozenset(vocabulary)
        self._by_letter: defaultdict[str, list[str]] = defaultdict(list)
        for word in self._vocabulary:
            if len(word) >= MIN_NEAR_LENGTH:
                self._by_letter[word[0]].append(word)
        self._by_letters: defaultdict[str, set[str]] = defaultdict(set)
        for word in self._vocabulary:
            if len(word) >= MIN_SCRAMBLED_LENGTH:
                for form in (word, *_inflected(word)):
                    self._by_letters[_letters(form)].add(word)
        self._cached = lru_cache(maxsize=20_000)(self._forms)

    def forms(self, word: str) -> frozenset[str]:
        """Return the word, and those of the vocabulary that it may be a form or misspelling of."""
        return self._cached(word)

    def mend(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Join neighbours that spell a listed word only together (``kn ife``)."""
        mended: list[str] = []
        for word in words:
            joined = mended[-1] + word if mended else word
            broken = mended and not (is_word(mended[-1]) and is_word(word))
            if broken and not self._vocabulary.isdisjoint(self.forms(joined)):
                mended[-1] = joined
            else:
                mended.append(word)
        return tuple(mended)

    def _forms(self, word: str) -> frozenset[str]:
        found = {word, *(self._vocabulary & _stems(word))}
        if not word.isalpha():
            return frozenset(found)
        lemma = simplemma.lemmatize(word, lang="en")
        found.add(lemma)
        if found.isdisjoint(self._vocabulary) and not simplemma.is_known(word, lang="en"):
            meant = self._near(word) | self._near(word.removesuffix("s"))
            meant |= self._by_letters.get(_letters(word), set())
            # The Spanish "cocinera" is no misspelt drug; dictionaries are opened in doubt only.
            if meant and not is_foreign(word):
                found |= meant
        return frozenset(found)

    def _near(self, word: str) -> set[str]:
        """Return words with the same first letter that differ in one or two letters."""
        if len(word) < MIN_NEAR_LENGTH:
            return set()
        errors = 2 if len(word) >= TWO_ERRORS_LENGTH else 1
        return {
            term
            for term in self._by_letter.get(word[0], ())
            if abs(len(term) - len(word)) <= errors
            and OSA.distance(word, term, score_cutoff=errors) <= errors
        }


def _letters(word: str) -> str:
    """Return what a word shares with its scrambled forms: the first letter, and all in order."""
    return word[0] + "".join(sorted(word[1:]))


def _inflected(word: str) -> list[str]:
    """Return regular forms of a word, which may be scrambled as a whole ("mudrered")."""
    stem = word.removesuffix("e")
    return [word + "s", stem + "ed", stem + "er", stem + "ers", stem + "ing"]


def is_word(word: str) -> bool:
    """Whether a lower-case word is in the English dictionary."""
    known: bool = simplemma.is_known(word, lang="en")
    return known


def _stems(word: str) -> set[str]:
    """Return stems by rule, which also relate nouns to verbs: bombing and bombers -> bomb."""
    found = set()
    for suffix in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < 3:
            continue
        found.add(stem)
        if suffix in ("ing", "er", "ers"):
            found.add(stem + "e")
        if len(stem) > 3 and stem[-1] == stem[-2]:
            found.add(stem[:-1])
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    return found
