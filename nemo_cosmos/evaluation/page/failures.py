"""What failed and why: the same reason of many videos is said once, with their number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_NAMES = 5
_OF_ONE = re.compile(r"'[^']*'|\d+(?:\.\d+)?")


@dataclass
class Reason:
    """Why some videos or metrics have no number.

    Attributes:
        text: what is said of the first.
        names: all of them.
    """

    text: str
    names: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The first names, and how many more there are."""
        more = len(self.names) - MAX_NAMES
        return ", ".join(self.names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def by_reason(reasons: Mapping[str, str]) -> list[Reason]:
    """Put names with the same reason together, the most frequent first.

    Names and numbers in a reason belong to the one video, and make no other reason.

    Args:
        reasons: a reason for each name.
    """
    found: dict[str, Reason] = {}
    for name, text in reasons.items():
        found.setdefault(_OF_ONE.sub("#", text), Reason(text)).names.append(name)
    return sorted(found.values(), key=lambda reason: -len(reason.names))
