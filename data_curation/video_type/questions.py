"""What a vision-language model is asked to sort a clip, and how its answer is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from data_curation.video_type.taxonomy import UNKNOWN, Label

#: Of an answer that should be one label.
MAX_TOKENS = 256
_ABOUT = {"video_type": "What kind of video is it?", "environment": "Where was it taken?"}


def question(aspect: str, labels: Mapping[str, Label]) -> str:
    """Ask for one label, of frames of one clip."""
    lines = "\n".join(f"- {name}: {label.prompt}" for name, label in labels.items())
    return (
        f"These are frames of one video, in order. {_ABOUT[aspect]} Choose one of these labels:\n"
        f"{lines}\n- {UNKNOWN}: none of them, or unclear\n"
        "Answer with the label alone."
    )


def reminder(asked: str, said: str) -> str:
    """Ask again, after an answer that was none of the labels."""
    return f"{asked}\nYou answered {said[:100]!r}, which is not one label of the list."


def chosen_label(said: str, labels: Collection[str]) -> str | None:
    """The label that an answer names; None when it names none, or several."""
    words = re.sub(r"[^a-z0-9]+", "_", said.lower())
    named = [label for label in (*labels, UNKNOWN) if re.search(rf"(?:^|_){label}(?:_|$)", words)]
    # "driving" is named within "night_driving" as well: the longest one is meant.
    named = [one for one in named if not any(one != other and one in other for other in named)]
    return named[0] if len(named) == 1 else None
