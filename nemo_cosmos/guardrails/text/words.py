"""Which words of a prompt are read as English, and what language the others are in.

Scripts other than Latin show in the letters. In the Latin script, function words ("und", "para")
show a language; what remains is looked up in simplemma's dictionaries, English first. Other
dictionaries are slow to load and are opened only in doubt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache

import simplemma

from nemo_cosmos.guardrails.text.function_words import FUNCTION_WORDS, PARTICLES, TECHNICAL
from nemo_cosmos.guardrails.text.normalise import LEET_TABLES, plain, spaced

UNKNOWN = "unknown"
#: Names of languages for people, by ISO 639-1 code.
LANGUAGES = {
    "en": "English", "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech",
    "da": "Danish", "de": "German",
    "el": "Greek", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ka": "Georgian", "ko": "Korean", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish",
    "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish",
    "ar-latn": "Arabic in Latin letters", "hi-latn": "Hindi in Latin letters",
    "ru-latn": "Russian in Latin letters", "mixed": "a mix of scripts within a word",
    "be": "Belarusian", "kk": "Kazakh", "ku": "Kurdish", "mk": "Macedonian", "mr": "Marathi",
    "ne": "Nepali", "ps": "Pashto", "sr": "Serbian",
    "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
_SCRIPTS = {
    "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "KATAKANA-HIRAGANA": "ja", "HANGUL": "ko",
    "CYRILLIC": "ru", "ARABIC": "ar", "DEVANAGARI": "hi", "HEBREW": "he", "GREEK": "el",
    "THAI": "th", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "ARMENIAN": "hy",
    "GEORGIAN": "ka",
}  # fmt: skip
#: Letters of the one language that the guards read in a script.
_ALPHABETS = {
    "ru": frozenset("абвгдеёжзийклмнопрстуфхцчшщъыьэюя"),
    "ar": frozenset("ابتثجحخدذرزسشصضطظعغفقكلمنهويءآأإؤئىةٱ"),
}
#: Letters that tell one of the other languages of a script, the rarest first.
_TELLING = {
    "ru": {"be": "ў", "mk": "ѓќѕ", "sr": "ђћџљњј", "kk": "әғқңұһө", "uk": "їєґі"},
    "ar": {"ps": "ټډړږښڼۍ", "ku": "ڕڵێۆ", "ur": "ٹڈڑےںہھ", "fa": "پچژگکی"},
    "hi": {"mr": "ळ"},
}
#: Letters of the Latin script that only some languages have.
_TELLING_LATIN = {
    "vi": "ăơưđạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ", "pl": "łąężźśćńó", "tr": "ığşçöü",
    "ro": "ăâîșțşţ", "hu": "őűáéíóöúü", "cs": "řěůčšžýťďňíáé", "da": "øæå", "sv": "åäö",
    "fi": "äö",
}  # fmt: skip
#: Letters besides a to z of the languages that have a dictionary here.
_DICTIONARY_LETTERS = frozenset("àáâãäæçèéêëìíîïñòóôõöœùúûüÿßª°º")
_TELLING_WORDS_TEXT = {
    "mr": "आहे आणि आहेत नाही करतो करते होते",
    "ne": "छ छन् गर्छ हुन्छ गर्दै भएको लाई",
    "bg": "със като който която това ще съм са един една убива към върху",
}
#: Words that tell a language from the one that the guards read in its script, by both codes.
_TELLING_WORDS = {
    (code, "ru" if code == "bg" else "hi"): frozenset(words.split())
    for code, words in _TELLING_WORDS_TEXT.items()
}
#: The languages whose dictionaries are opened in doubt, quick and common ones first.
_DICTIONARIES = ("es", "fr", "pt", "it", "nl", "de")
#: A dictionary that has this many words, and no word less, is the right one.
_SURE_WORDS = 3
_STRETCH = "\u0640"
_PREFIXES = ("un", "re", "non", "pre", "over", "under", "out", "sub", "super", "semi", "multi")
_SUFFIXES = ("s", "es", "ed", "d", "ing", "er", "ers", "ly", "less", "able", "like", "ish", "y")


@dataclass
class Reading:
    """The words of a prompt by what is known of them.

    Attributes:
        num_words: all words.
        num_names: capitalised words that no dictionary of English has.
        function_words: function words of other languages, each with the codes of those languages.
        unread: other words that are not English.
        scripts: words in other scripts than the Latin one, by the language's code.
    """

    num_words: int = 0
    num_names: int = 0
    function_words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    scripts: dict[str, list[str]] = field(default_factory=dict)


def read_words(text: str) -> Reading:
    """Sort the words of a prompt.

    Disguised English counts as read: look-alike letters, digits among letters, spelled-out words.
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in spaced(text) if unicodedata.category(c) != "Cf")
    text = re.sub(r"\b(l|d|j|m|t|s|c|n|qu)[’'](?=\w{2})", r"\1' ", text)  # "l'école"
    shouted = text.upper() == text
    reading = Reading()
    words: list[str] = []
    for word in re.findall(r"[^\W_][\w\u0300-\u036f]*(?:[’'][^\W\d_]+)?", _attach_marks(text)):
        if _is_other_script(word):
            _add_script(reading, word)
        elif _is_arabizi(word):
            reading.function_words[word.lower()] = ("ar-latn",)
        elif word.isalpha() or "'" in word or "’" in word:
            words.append(word.lower() if shouted else word)
    written = frozenset(re.findall(r"[^\s.,;:!?।]+", text.lower()))
    for (code, read), telling in _TELLING_WORDS.items():
        if read in reading.scripts and not written.isdisjoint(telling):
            reading.scripts[code] = reading.scripts.pop(read)
    reading.num_words = len(words)
    names = [_is_name(word) for word in words]
    for index, word in enumerate(words):
        lower = word.lower().replace("’", "'")
        if names[index]:
            reading.num_names += 1
        elif lower in FUNCTION_WORDS:
            if not (lower in PARTICLES and _in_name(words, names, index)):
                reading.function_words[lower] = FUNCTION_WORDS[lower]
        elif not is_english(lower):
            reading.unread.append(lower)
    return reading


@cache
def is_english(word: str) -> bool:
    """Whether a lower-case word is English: listed, inflected, compound, or a technical term."""
    base = re.sub(r"'(s|t|re|ve|ll|d|m)$", "", word)
    if len(base) <= 2 or base in TECHNICAL or _known(base) or _known(plain(base)):  # "café"
        return True
    for suffix in _SUFFIXES:
        stem = base.removesuffix(suffix)
        if stem != base and len(stem) >= 4 and (_known(stem) or _known(stem + "e")):
            return True
    for prefix in _PREFIXES:
        rest = base.removeprefix(prefix)
        if rest != base and len(rest) >= 4 and _known(rest):
            return True
    halves = ((base[:at], base[at:]) for at in range(3, len(base) - 2))
    return any(len(base) >= 8 and _known(a) and _known(b) for a, b in halves)


def recognise(words: Iterable[str], needed: int, preferred: Collection[str] = ()) -> str | None:
    """Return the language whose dictionary has most of the words.

    Args:
        words: words that are not English, in lower case.
        needed: the number of words that it must have.
        preferred: codes of languages that win a tie.
    """
    listed = [word for word in words if len(word) >= 3]
    counts: dict[str, int] = {}
    for code in _DICTIONARIES if len(listed) >= needed else ():
        counts[code] = sum(_in_dictionary(word, code) for word in listed)
        if counts[code] == len(listed) >= _SURE_WORDS:
            break  # no later one has more; German and Dutch are the slowest to open
    best = max(counts, key=lambda code: (counts[code], code in preferred), default=None)
    # A chance hit among many words names no language.
    enough = max(needed, (len(listed) + 1) // 2)
    return best if best is not None and counts[best] >= enough else None


def name_by_letters(words: Iterable[str]) -> str | None:
    """Return the language whose own letters the words have; None for words of plain letters."""
    letters = {c for word in words for c in word.lower() if c.isalpha() and not c.isascii()}
    fitting = [code for code, own in _TELLING_LATIN.items() if letters and letters <= set(own)]
    return fitting[0] if len(fitting) == 1 or (fitting and fitting[0] == "vi") else None


def name_by_own_letters(words: Collection[str]) -> str | None:
    """Return the language of words of which half have letters that no dictionary here has.

    They need no dictionary, and opening all of them takes more than a second.
    """
    owns = [{c for c in word if c.isalpha() and not c.isascii()} for word in words]
    owns = [own for letters in owns if (own := letters - _DICTIONARY_LETTERS)]
    together = set().union(*owns)
    fitting = [code for code, letters in _TELLING_LATIN.items() if together <= set(letters)]
    return fitting[0] if len(fitting) == 1 and 2 * len(owns) >= len(words) else None


def is_foreign(word: str) -> bool:
    """Whether a lower-case word is in the dictionary of a Romance language that the guards read."""
    return any(simplemma.is_known(word, lang=code) for code in ("es", "pt", "fr"))


def is_read(words: Collection[str], code: str) -> bool:
    """Whether a third of the words is in a language's dictionary; yes if it has none."""
    listed = [word for word in words if len(word) >= 3]
    if code not in _DICTIONARIES or not listed:
        return True
    return 3 * sum(_in_dictionary(word, code) for word in listed) >= len(listed)


@cache
def _in_dictionary(word: str, code: str) -> bool:
    known: bool = simplemma.is_known(word, lang=code)
    return known or bool(simplemma.is_known(word.capitalize(), lang=code))


@cache
def _known(word: str) -> bool:
    known: bool = simplemma.is_known(word, lang="en")
    return known and word not in FUNCTION_WORDS


def _is_name(word: str) -> bool:
    """Whether a capitalised word is not an English one at the beginning of a sentence."""
    lower = word.lower().replace("’", "'")
    return word[0].isupper() and lower not in FUNCTION_WORDS and not is_english(lower)


def _in_name(words: list[str], names: list[bool], index: int) -> bool:
    """Whether a particle stands in a name: "Rio de Janeiro", "the Museo del Prado"."""
    while index + 1 < len(words) and words[index + 1].lower() in PARTICLES:
        index += 1
    return index + 1 < len(words) and words[index + 1][0].isupper()


def _attach_marks(text: str) -> str:
    """Drop marks that have no letter of their own in NFKC, so that they do not part words."""
    return "".join(c for c in text if not unicodedata.category(c).startswith("M"))


def _is_arabizi(word: str) -> bool:
    """Whether digits stand for Arabic's letters in a word ("3ayez", "a2tel"), and not for ours."""
    if not re.fullmatch(r"(?:[a-z]*[235789][a-z]{2,}){1,3}[235789]?|[a-z]+[235789][a-z]+", word):
        return False
    if len(word) < 5 or re.match(r"\d+(?:nd|rd|th|st|[a-z]{1,2}$)", word):
        return False
    return not any(is_english(word.translate(table)) for table in LEET_TABLES)


def _is_other_script(word: str) -> bool:
    """Whether a word is in another script than the Latin one, and no disguise of Latin letters."""
    others = [c for c in word if c.isalpha() and _script(c) != "LATIN"]
    if not others or (len(others) == 1 and _script(others[0]) == "GREEK"):  # "α", "μm", "Δt"
        return False
    folded = plain(word)
    disguised = folded.isascii() and (len(others) < len(word) or is_english(folded))
    return not disguised


@cache
def _script(letter: str) -> str:
    words = unicodedata.name(letter, "UNNAMED").split()
    return "LATIN" if words[0] in ("MODIFIER", "FEMININE", "MASCULINE", "MICRO") else words[0]


def _add_script(reading: Reading, word: str) -> None:
    scripts = {_script(c) for c in word if c.isalpha()}
    codes = [_SCRIPTS.get(_script(c), UNKNOWN) for c in word if c.isalpha()]
    code = "ja" if "ja" in codes else next((c for c in codes if c != UNKNOWN), UNKNOWN)
    if "LATIN" in scripts and scripts & {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}:
        code = "mixed"  # no language writes so, but a disguise does
    telling = _TELLING.get(code, {})
    named = next((c for c, letters in telling.items() if set(letters) & set(word.lower())), None)
    letters = {c for c in word.lower() if c.isalpha()} - {_STRETCH}
    if named is None and code in _ALPHABETS and not letters <= _ALPHABETS[code]:
        named = UNKNOWN
    reading.scripts.setdefault(named or code, []).append(word)


def english_share(text: str) -> float:
    """Return the share of a text's words that are English, or names of any kind."""
    reading = read_words(text)
    num_scripts = sum(map(len, reading.scripts.values()))
    num_foreign = num_scripts + len(reading.function_words) + len(reading.unread)
    return 1.0 - num_foreign / max(1, reading.num_words + num_scripts)
