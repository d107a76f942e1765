"""A signal: one file beside a video, its arrays, and what a row of each array means.

A row belongs to a frame, or to the step between two frames, or an array holds for the whole clip.
This is said once, here, and curation, tokenising, loading and inference all cut and check by it::

    ACTION = Signal("action.npy", (SignalArray("action", "step", (7,)),))
    values = ACTION.values(actions)      # arrays by name
    ACTION.check(values, num_frames=25)  # 24 rows of 7 numbers, finite
    ACTION.cut(values, first_frame=8, num_frames=9)

Shape suffixes: T frames of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.signal_array import SignalArray, TimeAxis
from nemo_cosmos.controls.signal_files import ENDINGS, Values, name_of, read_signal
from nemo_cosmos.errors import (
    ConfigError,
    NumericsError,
    SampleError,
)

TimeAxes: TypeAlias = Mapping[str, TimeAxis]
"""The time axis of each array of a file, as a sample's JSON records them."""


@dataclass(frozen=True)
class Signal:
    """One file of a sample that steers a model, such as ``{key}.action.npy``.

    Attributes:
        suffix: the file's name after the sample's key: ``action.npy``, ``camera.npz``.
        arrays: what the file holds. An ``.npz`` may hold others, too, which models do not read.
        find_fault: says what is wrong with arrays that pass the checks of shape and size: one
            sentence with the fix, or None.
        rescale: gives the arrays of more or less of the same, as :meth:`scaled` describes; None for
            a signal whose zero is to do nothing, such as velocities.
        in_picture: gives the arrays of the clip whose pictures are cut or mirrored, as
            :meth:`follow` describes; None where nobody knows. :func:`unaffected` for what is true
            of any part of a picture and of its mirror image.
        complete: puts into the arrays what the sample's JSON says of them, as :meth:`completed`
            describes; None for arrays that say everything themselves.
        kind_of: says which of several kinds arrays are of, such as which robot's actions; None
            where there is one. Arrays of one kind may stand for each other.
    """

    suffix: str
    arrays: tuple[SignalArray, ...]
    find_fault: Callable[[Values], str | None] | None = None
    rescale: Callable[[Values, float], Values] | None = None
    in_picture: Callable[[Values, PictureChange], Values] | None = None
    complete: Callable[[Values, Mapping[str, Any], str], Values] | None = None
    kind_of: Callable[[Values], str] | None = None

    def __post_init__(self) -> None:
        if not self.suffix.endswith(ENDINGS):
            raise ConfigError(
                f"The signal '{self.suffix}' has no known ending; expected {' or '.join(ENDINGS)}."
            )
        if self.is_single and [array.name for array in self.arrays] != [self.name]:
            raise ConfigError(
                f"The signal '{self.suffix}' is an .npy file, which holds one array; expected "
                f"arrays=(SignalArray('{self.name}', ...),). Use .npz for several."
            )

    @property
    def name(self) -> str:
        """What people call it: ``action`` for ``action.npy``."""
        return name_of(self.suffix)

    @property
    def is_single(self) -> bool:
        """Whether the file is an ``.npy`` with one array."""
        return self.suffix.endswith(".npy")

    @property
    def time_axes(self) -> dict[str, TimeAxis]:
        """The time axis of each array by name."""
        return {array.name: array.time for array in self.arrays}

    def scaled(self, values: Values, scale: float) -> Values:
        """More or less of the same: 0 is to do nothing, 0.5 half of it, 1 the same.

        Args:
            values: the arrays of the file.
            scale: the factor.
        """
        if scale == 1.0:
            return values
        if self.rescale is not None:
            return self.rescale(values, scale)
        axes = self.time_axes
        return {
            name: (array * scale).astype(array.dtype) if axes.get(name) is not None else array
            for name, array in values.items()
        }

    def completed(self, values: Values, record: Mapping[str, Any], where: str = "") -> Values:
        """Return the arrays as a model is told them, from those of a file and its record.

        Arrays that are complete stay as they are.

        Args:
            values: the arrays of the file.
            record: the sample's JSON, or what a request says in its place.
            where: the sample or file, for messages.

        Raises:
            SampleError: arrays and record do not go together.
        """
        return values if self.complete is None else self.complete(values, record, where)

    def batch_key(self, array: SignalArray) -> str:
        """Name of an array in a batch: ``action``, or ``camera_poses`` of ``camera.npz``."""
        return self.name if self.is_single else f"{self.name}_{array.name}"

    def values(self, given: Array | Values | str | PathLike[str]) -> dict[str, Array]:
        """Return arrays by name from what a caller gives.

        Args:
            given: one array, several by name, or the path of an ``.npy`` or ``.npz`` file.

        Raises:
            MissingFileError: there is no such file.
            SampleError: one array where the signal has several, or the other way round.
        """
        if isinstance(given, str | PathLike):
            given = read_signal(given)
        if isinstance(given, Mapping):
            if self.is_single and list(given) == [self.name]:
                return {self.name: self._as_array(given[self.name])}
            if self.is_single:
                raise SampleError(
                    f"The signal '{self.name}' is one array, but what was given holds "
                    f"{_named(given)}. Give the array itself, an .npy file, or an .npz file with "
                    f"the array '{self.name}' alone."
                )
            return {name: self._as_array(array) for name, array in given.items()}
        if not self.is_single:
            raise SampleError(
                f"The signal '{self.name}' holds {_named(self.time_axes)}, but one array without a "
                "name was given. Give a dictionary of arrays by name, or an .npz file."
            )
        return {self.name: self._as_array(given)}

    def _as_array(self, given: object) -> Array:
        """What NumPy makes of a value; lists of unequal lengths are no array."""
        try:
            return np.asarray(given)
        except (ValueError, TypeError) as error:
            raise SampleError(
                f"The signal '{self.name}' is no array of numbers: {str(error).rstrip('.')}. Give "
                "rows of one length."
            ) from error

    def check(self, values: Values, num_frames: int, where: str = "") -> None:
        """Check all arrays of a whole clip.

        Args:
            values: the arrays by name.
            num_frames: frames of the clip.
            where: the sample or file, for messages.

        Raises:
            SampleError: an array is missing, or has other rows or another shape, or the arrays are
                not what the signal says they are.
            NumericsError: NaN, infinity or an implausible magnitude.
        """
        of = f" of {where}" if where else ""
        missing = [
            array.name for array in self.arrays if array.is_required and array.name not in values
        ]
        if missing:
            raise SampleError(
                f"'{self.suffix}'{of} has no array '{missing[0]}' (it has: "
                f"{', '.join(sorted(values)) or 'none'}). Write the file again with it."
            )
        for array in self._present(values):
            part = "" if self.is_single else f"'{array.name}' in "
            array.check(values[array.name], num_frames, f"{part}'{self.suffix}'{of}")
        if self.find_fault is not None and (fault := self.find_fault(values)) is not None:
            raise SampleError(f"'{self.suffix}'{of} {fault}")

    def check_given(self, values: Values, num_frames: int, where: str = "") -> None:
        """As :meth:`check`, of what a person gave: numbers that cannot be meant are wrong input.

        Raises:
            SampleError: the arrays do not fit, or hold NaN, infinity or implausible magnitudes.
        """
        try:
            self.check(values, num_frames, where)
        except NumericsError as error:
            raise SampleError(str(error)) from error

    def cut(self, values: Values, first_frame: int, num_frames: int) -> dict[str, Array]:
        """Return the part of each array that belongs to a window of the clip.

        Args:
            values: the arrays of the clip, as :meth:`check` accepts them. Those that the signal
                does not declare are left out.
            first_frame: first frame of the window.
            num_frames: frames of the window.
        """
        return {
            array.name: array.cut(values[array.name], first_frame, num_frames)
            for array in self._present(values)
        }

    def pick(
        self,
        values: Values,
        first_frame: int,
        num_frames: int,
        speed: int,
        record: Mapping[str, Any],
    ) -> dict[str, Array]:
        """Return the part of each array that belongs to every ``speed``-th frame of a window.

        Args:
            values: the arrays of the clip, as :meth:`check` accepts them. Those that the signal
                does not declare are left out.
            first_frame: the first frame that is picked.
            num_frames: how many are picked.
            speed: frames from one to the next; at 1, this is :meth:`cut`.
            record: the sample's JSON.

        Raises:
            SampleError: an array has steps that cannot be joined.
        """
        return {
            array.name: array.pick(values[array.name], first_frame, num_frames, speed, record)
            for array in self._present(values)
        }

    def follow(self, values: Values, change: PictureChange) -> Values:
        """Return the arrays that are true of changed pictures.

        Args:
            values: the arrays of the file.
            change: what becomes of the pictures.

        Raises:
            SampleError: nobody has said what becomes of this signal, or not of such arrays.
        """
        if self.in_picture is None:
            raise SampleError(
                "belongs to pictures that are to be cut or mirrored, and nobody has said what "
                "becomes of it then. Declare Signal(in_picture=...), tokenize without crop and "
                "flip, or leave the file out."
            )
        return self.in_picture(values, change)

    def batch(
        self, values: Values, first_frame: int, num_frames: int
    ) -> dict[str, NDArray[np.float32]]:
        """Return the arrays of a window by batch key, float32.

        Args:
            values: the arrays of the clip, as :meth:`check` accepts them.
            first_frame: first frame of the window.
            num_frames: frames of the window.
        """
        cut = self.cut(values, first_frame, num_frames)
        return {
            self.batch_key(array): np.ascontiguousarray(cut[array.name], np.float32)
            for array in self._present(cut)
            if array.is_numeric
        }

    def _present(self, values: Values) -> list[SignalArray]:
        """The arrays that a file may leave out are checked and cut where they are there."""
        return [array for array in self.arrays if array.is_required or array.name in values]


def unaffected(values: Values, change: PictureChange) -> Values:
    """The ``in_picture`` of a signal that no crop and no mirror changes, such as a speed."""
    return values


def infer_signal(
    suffix: str,
    values: Values,
    num_frames: int,
    declared: Signal | None = None,
    recorded: TimeAxes | None = None,
) -> Signal:
    """Describe all arrays of a file, whether or not anyone has declared them.

    An array takes its declaration; else the time axis that the sample's JSON records; else its
    number of rows decides: T rows are one a frame, T - 1 one a step, any other number none.

    Args:
        suffix: the file's name after the sample's key.
        values: its arrays, of a whole clip.
        num_frames: T.
        declared: the registered signal of this suffix, if there is one.
        recorded: time axes that were decided when the clip was cut from its source.
    """
    known = {array.name: array for array in declared.arrays} if declared else {}
    for name, array in values.items():
        if name in known:
            continue
        if recorded is not None and name in recorded:
            known[name] = SignalArray(name, recorded[name], is_numeric=False)
        else:
            # Only the whole recording shows this: a constant of 3 rows looks like poses in a clip
            # of 3 frames. So whoever cuts a clip first records the answer.
            rows = array.shape[0] if array.ndim else -1
            inferred: dict[int, TimeAxis] = {num_frames: "frame", num_frames - 1: "step"}
            known[name] = SignalArray(name, inferred.get(rows), is_numeric=False)
    if declared is not None:
        return replace(declared, arrays=tuple(known.values()))
    return Signal(suffix, tuple(known.values()))


def undeclared_axes(signal: Signal, declared: Signal | None) -> TimeAxes:
    """Return the time axes of the arrays that :func:`infer_signal` had to infer."""
    known = declared.time_axes if declared else {}
    return {name: axis for name, axis in signal.time_axes.items() if name not in known}


def _named(names: Iterable[str]) -> str:
    """Arrays by name in words: ``the array 'a'``, ``the arrays 'a' and 'b'``, ``no array``."""
    *first, last = [f"'{name}'" for name in names] or [""]
    if not last:
        return "no array"
    return f"the arrays {', '.join(first)} and {last}" if first else f"the array {last}"
