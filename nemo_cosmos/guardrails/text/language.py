"""The language guard: refuses prompts that the embedded guards cannot read.

The keyword lists and the text classifier read English. A harmful prompt in another language would
pass them unseen, so words that they cannot read are a reason to refuse. Names, technical terms and
a misspelt word are not. A site that reads other languages by other means (``qwen3guard``) lets them
pass with the setting ``languages``.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.guardrails.base import SAFE, GuardKind, Verdict
from nemo_cosmos.guardrails.settings import where_to_set
from nemo_cosmos.guardrails.text.prompt import refuse_unreadable
from nemo_cosmos.guardrails.text.words import (
    LANGUAGES,
    UNKNOWN,
    Reading,
    read_words,
    recognise,
)

CATEGORY = "language"
ANY = "any"
#: Share of unread words from which on a prompt is foreign, whether a dictionary has them or not.
UNREAD_SHARE = 0.5
_SHOWN_WORDS = 4


class LanguageGuard:
    """Refuses prompts with words that are not English and not names.

    Args:
        languages: codes of the languages that may pass, separated by commas ("en,de"); "any" lets
            every prompt pass. English may always pass. By default English only.

    Raises:
        ConfigError: an unknown code.
    """

    name = "language"
    kind: GuardKind = "prompt"

    def __init__(self, languages: str | None = None) -> None:
        codes = [code.strip().lower() for code in (languages or "en").split(",") if code.strip()]
        for code in codes:
            if code not in LANGUAGES and code != ANY:
                raise ConfigError(
                    f"The guard 'language' does not know the language '{code}'. Set "
                    f"{where_to_set('languages')}, to codes such as 'en,de' or to '{ANY}'"
                    f"{nearest_names(code, [*LANGUAGES, ANY])}"
                )
        self._allowed = frozenset({*codes, "en"})

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge one prompt."""
        refusal = refuse_unreadable(self.name, x)
        if refusal is not None:
            return refusal
        if ANY in self._allowed:
            return Verdict(True, self.name, SAFE, "every language may pass by the setting")
        found = foreign_languages(read_words(str(x)))
        barred = {code: words for code, words in found.items() if code not in self._allowed}
        if barred:
            return Verdict(False, self.name, CATEGORY, _reason(barred))
        if found:
            names = ", ".join(LANGUAGES[code] for code in found)
            return Verdict(True, self.name, SAFE, f"{names} may pass by the setting")
        return Verdict(True, self.name, SAFE, "English")


def foreign_languages(reading: Reading) -> dict[str, list[str]]:
    """Return the languages other than English of a prompt, each with words that show it.

    Args:
        reading: the prompt's words, sorted into those that are read and those that are not.

    Returns:
        Words by the language's code; :data:`UNKNOWN` for a language without a known name.
    """
    found = {code: list(words) for code, words in reading.scripts.items()}
    words = [*reading.function_words, *reading.unread]
    if not words:
        return found
    # A word like "der" shows its language only with company: another one, or an unread word.
    grammar = len(reading.function_words) >= 2 or (reading.function_words and reading.unread)
    num_foreign = len(words) + reading.num_names
    mostly = num_foreign >= UNREAD_SHARE * reading.num_words and len(reading.unread) >= 1
    code = _by_function_words(reading) if grammar else None
    if code is None and (grammar or mostly or len(reading.unread) >= 2):
        code = recognise(words, needed=1 if mostly or grammar else 2)
    if code is None and (grammar or (mostly and len(words) >= UNREAD_SHARE * reading.num_words)):
        code = UNKNOWN
    if code is not None:
        found.setdefault(code, []).extend(words)
    return found


def _by_function_words(reading: Reading) -> str | None:
    """Return the language that most of the function words belong to; None for a tie."""
    counts = Counter(code for codes in reading.function_words.values() for code in codes)
    (first, most), *rest = counts.most_common(2) or [(UNKNOWN, 0)]
    return first if not rest or rest[0][1] < most else None


def _reason(barred: dict[str, list[str]]) -> str:
    names = " and ".join(
        LANGUAGES[code] if code != UNKNOWN else "a language other than English" for code in barred
    )
    words = [word for found in barred.values() for word in found]
    shown = ", ".join(f"'{word}'" for word in list(dict.fromkeys(words))[:_SHOWN_WORDS])
    codes = ",".join(["en", *(code for code in barred if code != UNKNOWN)])
    value = f"'{codes}'" if UNKNOWN not in barred else f"'{ANY}'"
    return (
        f"it has words in {names} ({shown}), which the guards cannot read; write it in English, or "
        "enable a guard that reads the language (guardrails.enabled=[qwen3guard]) and set "
        f"{where_to_set('languages')}, to {value}"
    )
