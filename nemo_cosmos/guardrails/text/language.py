"""The language guard: refuses prompts that the embedded guards cannot read.

The text classifier is trained and measured in the languages of :data:`READ`. A harmful prompt in
another language might pass it unseen, so words in another one are a reason to refuse. Names,
technical terms and a misspelt word are not. A site that reads more languages by other means
(``qwen3guard``) lets them pass with the setting ``languages``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.guardrails.base import SAFE, GuardKind, Verdict
from nemo_cosmos.guardrails.settings import where_to_set
from nemo_cosmos.guardrails.text.hidden import with_hidden
from nemo_cosmos.guardrails.text.prompt import refuse_unreadable
from nemo_cosmos.guardrails.text.words import (
    LANGUAGES,
    UNKNOWN,
    Reading,
    is_read,
    name_by_letters,
    name_by_own_letters,
    read_words,
    recognise,
)

CATEGORY = "language"
ANY = "any"
#: The languages that the text classifier is measured in.
READ = ("en", "zh", "ja", "ko", "es", "fr", "de", "pt", "ru", "ar", "hi")
#: Share of unread words from which on a prompt is foreign, whether a dictionary has them or not.
UNREAD_SHARE = 0.5
_SHOWN_WORDS = 4


class LanguageGuard:
    """Refuses prompts with words of a language that the other guards do not read.

    Args:
        languages: codes of further languages that may pass, separated by commas ("it,nl"); "any"
            lets every prompt pass. Those of :data:`READ` may always pass.

    Raises:
        ConfigError: an unknown code.
    """

    name = "language"
    kind: GuardKind = "prompt"

    def __init__(self, languages: str | None = None) -> None:
        codes = [code.strip().lower() for code in (languages or "").split(",") if code.strip()]
        for code in codes:
            if code not in LANGUAGES and code != ANY:
                raise ConfigError(
                    f"The guard 'language' does not know the language '{code}'. Set "
                    f"{where_to_set('languages')}, to codes such as 'it,nl' or to '{ANY}'"
                    f"{nearest_names(code, [*LANGUAGES, ANY])}"
                )
        self._allowed = frozenset({*codes, *READ})

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge one prompt."""
        refusal = refuse_unreadable(self.name, x)
        if refusal is not None:
            return refusal
        if ANY in self._allowed:
            return Verdict(True, self.name, SAFE, "every language may pass by the setting")
        found: dict[str, list[str]] = {}
        for text in with_hidden(str(x)):
            found |= foreign_languages(read_words(text), self._allowed)
        barred = {code: words for code, words in found.items() if code not in self._allowed}
        if barred:
            return Verdict(False, self.name, CATEGORY, _reason(barred))
        if found:
            names = ", ".join(LANGUAGES[code] for code in found)
            return Verdict(True, self.name, SAFE, f"it has words in {names}, which may pass")
        return Verdict(True, self.name, SAFE, "English")


def foreign_languages(reading: Reading, allowed: Collection[str]) -> dict[str, list[str]]:
    """Return the languages other than English of a prompt, each with words that show it.

    Args:
        reading: the prompt's words, sorted into those that are English and those that are not.
        allowed: codes of languages that win a tie, since short prompts are in several ("bomba").

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
    code = _by_function_words(reading, allowed) if grammar else None
    if code not in allowed and (grammar or mostly or len(reading.unread) >= 2):
        listed = name_by_own_letters(words)
        listed = listed or recognise(words, 1 if mostly or grammar else 2, allowed)
        code = listed if code is None or listed in allowed else code
    if code is None and (grammar or (mostly and len(words) >= UNREAD_SHARE * reading.num_words)):
        code = name_by_letters(words) or UNKNOWN
    if code is not None:
        found.setdefault(code, []).extend(words)
    return found


def _by_function_words(reading: Reading, allowed: Collection[str]) -> str | None:
    """Return the language that most of the function words belong to; None if several have most."""
    counts = Counter(code for codes in reading.function_words.values() for code in codes)
    most = max(counts.values(), default=0)
    first = [code for code, count in counts.items() if count == most]
    readable = [code for code in first if code in allowed and is_read(reading.unread, code)]
    if readable:
        return readable[0]
    others = [code for code in first if code not in allowed] or first
    return others[0] if len(others) == 1 else None


def _reason(barred: dict[str, list[str]]) -> str:
    names = " and ".join(
        LANGUAGES[code] if code != UNKNOWN else "a language that is not known" for code in barred
    )
    words = [word for found in barred.values() for word in found]
    shown = ", ".join(f"'{word}'" for word in list(dict.fromkeys(words))[:_SHOWN_WORDS])
    codes = ",".join(code for code in barred if code != UNKNOWN)
    value = f"'{codes}'" if UNKNOWN not in barred else f"'{ANY}'"
    return (
        f"it has words in {names} ({shown}), which the guards cannot read; write it in English or "
        f"another language that they read ({', '.join(READ)}), or enable a guard that reads the "
        "language (guardrails.enabled=[qwen3guard]) and set "
        f"{where_to_set('languages')}, to {value}"
    )
