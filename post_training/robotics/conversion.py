"""Turn a robot data set into the episode layout (``bridge.py``, ``lerobot.py``)."""

from __future__ import annotations

from functools import partial

from post_training.conversion import ConversionReport, Write
from post_training.conversion import convert_all as convert_recordings
from post_training.robotics.episodes import EPISODES

__all__ = ["ConversionReport", "Write", "convert_all"]

convert_all = partial(convert_recordings, EPISODES)
