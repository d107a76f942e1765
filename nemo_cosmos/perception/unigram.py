"""A SentencePiece unigram tokenizer: the most likely split of a text into pieces.

``tokenizers`` has the same, but takes seconds to build one of 250,000 pieces.
"""

from __future__ import annotations

import re

from nemo_cosmos.perception.packed_e5 import Vocabulary

_SPACE = "▁"
#: How much less likely an unknown character is than the least likely piece.
_UNKNOWN_PENALTY = 10.0


class UnigramTokenizer:
    """Splits texts into the pieces of a vocabulary.

    Args:
        vocabulary: pieces, scores and replaced characters.
        prefix: text before every text.
        max_tokens: most pieces of a text, with the ones for its begin and end.
    """

    def __init__(self, vocabulary: Vocabulary, prefix: str, max_tokens: int) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary.pieces)}
        self._scores = vocabulary.scores.tolist()
        self._longest = max(map(len, vocabulary.pieces))
        self._unknown_score = min(self._scores) - _UNKNOWN_PENALTY
        self._vocabulary, self._prefix, self._max_tokens = vocabulary, prefix, max_tokens

    def __call__(self, text: str) -> list[int]:
        """Return the numbers of the pieces, cut to the most tokens."""
        text = (self._prefix + text).translate(self._vocabulary.replaced)
        pieces = self._split(
            _SPACE + re.sub(" +", " ", text).removeprefix(" ").replace(" ", _SPACE)
        )
        kept = pieces[: self._max_tokens - 2]
        return [self._vocabulary.begin, *kept, self._vocabulary.end]

    def _split(self, text: str) -> list[int]:
        """Return the split of the highest sum of scores (Viterbi)."""
        best = [0.0] + [float("-inf")] * len(text)
        came = [(0, self._vocabulary.unknown)] * (len(text) + 1)
        for start in range(len(text)):
            for end in range(start + 1, min(start + self._longest, len(text)) + 1):
                number = self._numbers.get(text[start:end])
                if number is not None and best[start] + self._scores[number] > best[end]:
                    best[end] = best[start] + self._scores[number]
                    came[end] = (start, number)
            if best[start] + self._unknown_score > best[start + 1]:
                best[start + 1] = best[start] + self._unknown_score
                came[start + 1] = (start, self._vocabulary.unknown)
        pieces = []
        end = len(text)
        while end > 0:
            end, number = came[end]
            pieces.append(number)
        return pieces[::-1]
