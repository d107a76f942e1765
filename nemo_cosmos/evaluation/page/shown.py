"""What a page can show besides figures: videos, the control of each, and curves of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_cosmos.controls import Values

VideosOf = Mapping[str, Mapping[str, Path]]
"""For each video's name, the files to show side by side by their label."""

Controls = Callable[[str], Mapping[str, Values]]
"""Gives what a video was told, by its name: the arrays of each signal."""


@dataclass(frozen=True)
class Shown:
    """What a page can show.

    Attributes:
        videos: the files of each video.
        control: gives what a video was told; None where nothing was.
        training: the lines of the run that trained the model; none where it is not known.
    """

    videos: VideosOf = field(default_factory=dict)
    control: Controls | None = None
    training: Sequence[Mapping[str, Any]] = ()
