"""Inflections and misspellings of listed words are seen, and English words stay what they are."""

from __future__ import annotations

import pytest

from nemo_cosmos.guardrails.text.lexicon import Lexicon

LEXICON = Lexicon(["stab", "knife", "cocaine", "terrorist", "pornography", "suicide", "heroin"])


@pytest.mark.parametrize(
    ("word", "listed"),
    [
        ("stabbing", "stab"),
        ("stabbed", "stab"),
        ("knives", "knife"),
        ("terrorists", "terrorist"),
        ("terorist", "terrorist"),
        ("terorists", "terrorist"),
        ("suicde", "suicide"),
        ("siucide", "suicide"),
        ("cocain", "cocaine"),
        ("pornografy", "pornography"),
    ],
)
def test_forms_and_misspellings_of_a_listed_word(word, listed):
    assert listed in LEXICON.forms(word)


@pytest.mark.parametrize(
    "word", ["heroine", "heroes", "table", "territory", "terrace", "decide", "scab", "zuicide", ""]
)
def test_other_words_are_not_taken_for_a_listed_one(word):
    assert LEXICON.forms(word).isdisjoint(LEXICON._vocabulary)


def test_pieces_of_a_listed_word_are_joined_and_whole_words_stay():
    assert LEXICON.mend(("a", "kn", "ife", "and", "coc", "aine")) == (
        "a",
        "knife",
        "and",
        "cocaine",
    )
    assert LEXICON.mend(("the", "car", "park")) == ("the", "car", "park")
    assert LEXICON.mend(()) == ()


@pytest.mark.parametrize(
    ("word", "listed"),
    [("mudrer", "murder"), ("mudrered", "murder"), ("bmob", "bomb"), ("kinfe", "knife")],
)
def test_scrambled_letters_are_read(word, listed):
    assert listed in Lexicon(["murder", "bomb", "knife"]).forms(word)


@pytest.mark.parametrize("word", ["bomb", "form", "barge", "ring", "bmo"])
def test_english_words_and_short_ones_are_no_scrambles(word):
    assert (
        Lexicon(["from", "grab", "grin", "mob"])
        .forms(word)
        .isdisjoint({"from", "grab", "grin", "mob"})
    )
