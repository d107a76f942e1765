"""One array of a signal: what its rows are, how they are cut and joined, and what they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import (
    ConfigError,
    NumericsError,
    SampleError,
    counted,
)

TimeAxis: TypeAlias = Literal["frame", "step"] | None
"""What a row is: of each of T frames, of each of T - 1 steps between them, or not along time."""

_TIME_AXES: tuple[TimeAxis, ...] = ("frame", "step", None)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ROW_OF = {"frame": "for each frame", "step": "between every two frames"}


@dataclass(frozen=True)
class SignalArray:
    """One array of a signal.

    Attributes:
        name: its name in the ``.npz``; of an ``.npy``, the signal's name.
        time: what a row is; ``None`` if the array holds for the whole clip.
        shape: sizes of the axes after time, where ``None`` stands for any size; ``None`` for any
            shape.
        units: unit of the numbers, such as ``"m"``, for people.
        convention: frame and axes of the numbers, for people.
        max_abs: largest magnitude that is plausible; a larger one is an error of scale or units.
        is_numeric: whether it holds numbers; no model reads others, such as texts and flags.
        is_required: whether a file without it is damaged.
        join: makes one row of several steps in a row, ``(T, S, ...)`` to ``(T, ...)``, given the
            sample's JSON; None where steps cannot be joined.
        columns: the name of each number of a row, for messages.
    """

    name: str
    time: TimeAxis = None
    shape: tuple[int | None, ...] | None = None
    units: str = ""
    convention: str = ""
    max_abs: float | None = None
    is_numeric: bool = True
    is_required: bool = True
    join: Callable[[Array, Mapping[str, Any]], Array] | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.time not in _TIME_AXES:
            raise ConfigError(
                f"The array '{self.name}' has time axis {self.time!r}; expected 'frame' (a row for "
                "each frame), 'step' (a row between two frames) or None."
            )

    def num_rows(self, num_frames: int) -> int:
        """Rows that belong to ``num_frames`` consecutive frames."""
        return num_frames - (self.time == "step")

    def cut(self, array: Array, first_frame: int, num_frames: int) -> Array:
        """Return the rows of a window, which must lie inside the array."""
        if self.time is None:
            return array
        return array[first_frame : first_frame + self.num_rows(num_frames)]

    def pick(
        self,
        array: Array,
        first_frame: int,
        num_frames: int,
        speed: int,
        record: Mapping[str, Any],
    ) -> Array:
        """Return the rows of every ``speed``-th frame; the steps between two are joined.

        Args:
            array: the array of a whole clip.
            first_frame: the first frame that is picked.
            num_frames: how many are picked.
            speed: frames from one to the next.
            record: the sample's JSON.

        Raises:
            SampleError: nobody has said how steps are joined.
        """
        if self.time is None or speed == 1:
            return self.cut(array, first_frame, num_frames)
        end = first_frame + (num_frames - 1) * speed
        if self.time == "frame":
            return array[first_frame : end + 1 : speed]
        if self.join is None:
            raise SampleError(
                f"has steps in '{self.name}' that nobody knows how to join into longer ones. "
                "Declare SignalArray(join=...), tokenize at speed 1, or leave the file out."
            )
        steps = array[first_frame:end]
        return self.join(steps.reshape(num_frames - 1, speed, *array.shape[1:]), record)

    def check(self, array: Array, num_frames: int, label: str) -> None:
        """Check rows, shape and values.

        Args:
            array: the array of a whole clip.
            num_frames: frames of the clip.
            label: what to call the array in messages.

        Raises:
            SampleError: it has another number of rows or another shape.
            NumericsError: no numbers, NaN, infinity or an implausible magnitude.
        """
        rows = array.shape[0] if array.ndim else 0
        if self.time is not None and (not array.ndim or rows != self.num_rows(num_frames)):
            raise SampleError(
                f"{label} has {counted(rows, 'row')}; expected {self.num_rows(num_frames)} for "
                f"{counted(num_frames, 'frame')}, one {_ROW_OF[self.time]}. Align the recording "
                "with the "
                "video, or leave it out."
            )
        found = array.shape[1:] if self.time is not None else array.shape
        if self.shape is not None and not _fits(found, self.shape):
            rows_first = () if self.time is None else (self.num_rows(num_frames),)
            sizes = ("any" if size is None else str(size) for size in (*rows_first, *self.shape))
            raise SampleError(
                f"{label} has shape {array.shape}; expected ({', '.join(sizes)})"
                f"{self._in_words()}. Write the recording again in that form, or leave it out."
            )
        if (problem := self.bad_values(array)) is not None:
            raise NumericsError(
                f"{label} {problem}. Repair the recording (its type, units or scale), or leave the "
                "clip out."
            )

    def bad_values(self, array: Array) -> str | None:
        """Say what is wrong with an array's numbers; None where nothing is.

        Returns:
            the rest of a sentence, such as ``"holds NaN or infinity"``.
        """
        if array.dtype.kind not in "fiuc" and not self.is_numeric:
            return None
        if array.dtype.kind not in "fiu" and self.is_numeric:
            return f"is of type {array.dtype}, not numbers"
        if not np.isfinite(array).all():
            return f"holds NaN or infinity{self._row_of(~np.isfinite(array))}"
        largest = _largest(array)
        if largest > _FLOAT32_MAX and self.is_numeric:
            return f"reaches a magnitude of {largest:g}, which float32 cannot hold"
        if self.max_abs is not None and largest > self.max_abs:
            units = f" {self.units}" if self.units else ""
            return (
                f"reaches a magnitude of {largest:g}{self._row_of(np.abs(array) == largest)}; "
                f"expected at most {self.max_abs:g}{units}, so its units or its scale are others"
            )
        return None

    def _in_words(self) -> str:
        """The numbers of a row by name, where they have names."""
        return f": {', '.join(self.columns)}" if self.columns else ""

    def _row_of(self, is_bad: Array) -> str:
        """Where the first bad value is, in words; empty for an array without rows."""
        if self.time is None or not is_bad.any():
            return ""
        row, *place = (int(number) for number in np.argwhere(is_bad)[0])
        name = f" ({self.columns[place[0]]})" if len(place) == 1 and self.columns else ""
        return f" in row {row}{name}"


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(
        want in (None, have) for have, want in zip(found, expected, strict=True)
    )


def _largest(array: Array) -> float:
    return float(np.abs(array).max()) if array.size else 0.0
