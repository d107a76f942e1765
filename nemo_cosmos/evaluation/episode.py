"""An episode that a world model is tried on: what happened, and what the model may be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.controls import Values
from nemo_cosmos.evaluation.metric import Frames


@dataclass(frozen=True)
class FurtherView:
    """What a further camera of a recording saw.

    Attributes:
        truth_THWC: uint8 RGB frames, as :class:`Episode` has them.
        recorded: the arrays of signals of this camera, such as its own ``camera``.
    """

    truth_THWC: Frames
    recorded: Mapping[str, Values] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """A recording, at the size, length and rate of the model's videos.

    Attributes:
        truth_THWC: uint8 RGB frames.
        fps: frame rate in Hz.
        prompt: what happens, in words; None where nobody said.
        control: the arrays of each signal by its name, as the model is told them.
        recorded: the arrays of further signals, for metrics alone.
        views: names of the cameras, of which ``truth_THWC`` is the first's.
        further: what the further cameras saw and recorded, by the camera's name.
    """

    truth_THWC: Frames
    fps: float
    prompt: str | None = None
    control: Mapping[str, Values] = field(default_factory=dict)
    recorded: Mapping[str, Values] = field(default_factory=dict)
    views: Views = DEFAULT_VIEWS
    further: Mapping[str, FurtherView] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeSource:
    """A recording that is read when it is needed.

    Attributes:
        name: its name, unique in the set.
        stamp: what changes when the recording does; anything that JSON can hold.
        read: reads all of it.
        read_control: reads the arrays of its signals alone.
    """

    name: str
    stamp: object
    read: Callable[[], Episode]
    read_control: Callable[[], Mapping[str, Values]]
