"""What a model is asked, and how its answer is read."""

from __future__ import annotations

import pytest

from data_curation.video_type.questions import chosen_label, question, reminder
from data_curation.video_type.taxonomy import load_taxonomy

LABELS = ("driving", "night_driving", "first_person_view", "other")


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("driving", "driving"),
        (" **Driving**.\n", "driving"),
        ("First-person view", "first_person_view"),
        ("The label is `night_driving`.", "night_driving"),
        ("unknown", "unknown"),
        ("cooking", None),
        ("driving or first_person_view", None),
        ("driving_range", "driving"),
        ("undriving", None),
        ("", None),
    ],
)
def test_an_answer_is_one_label_or_none(said, label):
    assert chosen_label(said, LABELS) == label


def test_the_question_holds_every_label_and_what_it_stands_for():
    labels = load_taxonomy().labels["environment"]
    asked = question("environment", labels)
    assert "Where was it taken?" in asked
    assert all(f"- {name}: {label.prompt}" in asked for name, label in labels.items())
    assert "- unknown:" in asked
    again = reminder(asked, "a bakery " * 99)
    assert again.startswith(asked) and len(again) < len(asked) + 200
