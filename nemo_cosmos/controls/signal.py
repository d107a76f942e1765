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

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.errors import (
    ConfigError,
    MissingFileError,
    NemoCosmosError,
    NumericsError,
    SampleError,
    counted,
)

TimeAxis: TypeAlias = Literal["frame", "step"] | None
"""What a row is: of each of T frames, of each of T - 1 steps between them, or not along time."""

Values: TypeAlias = Mapping[str, Array]
"""The arrays of a signal by name; an ``.npy`` has one, named as the signal."""

TimeAxes: TypeAlias = Mapping[str, TimeAxis]
"""The time axis of each array of a file, as a sample's JSON records them."""

_TIME_AXES: tuple[TimeAxis, ...] = ("frame", "step", None)
_ENDINGS = (".npy", ".npz")


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
    """

    suffix: str
    arrays: tuple[SignalArray, ...]
    find_fault: Callable[[Values], str | None] | None = None
    rescale: Callable[[Values, float], Values] | None = None
    in_picture: Callable[[Values, PictureChange], Values] | None = None

    def __post_init__(self) -> None:
        if not self.suffix.endswith(_ENDINGS):
            raise ConfigError(
                f"The signal '{self.suffix}' has no known ending; expected {' or '.join(_ENDINGS)}."
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


def name_of(suffix: str) -> str:
    """Name of the signal in a file: ``action`` for ``action.npy``."""
    return suffix.rsplit(".", 1)[0]


def decode_arrays(suffix: str, content: bytes, where: str) -> dict[str, Array]:
    """Decode an ``.npy`` or ``.npz`` file; pickled objects are refused.

    Args:
        suffix: the file's name after the sample's key.
        content: the file's bytes.
        where: the sample or file, for messages.

    Raises:
        SampleError: it is damaged, or is of another kind.
    """
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if suffix.endswith(".npy"):
                return {name_of(suffix): loaded}
            raise ValueError("it is a single array (.npy)")
        with loaded:  # an .npz decodes an array when it is taken, so errors surface in here
            if suffix.endswith(".npz"):
                return {name: loaded[name] for name in loaded.files}
        raise ValueError("it holds several arrays (.npz)")
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, NemoCosmosError):
            raise
        # NumPy's own message advises to load pickles, which could run code.
        reason = "it holds Python objects" if "pickle" in str(error) else str(error).rstrip(".")
        raise SampleError(
            f"'{suffix}' of {where} cannot be read as an array of numbers: {reason}. Write it "
            "again with numpy.save or numpy.savez (no objects), or leave it out."
        ) from error


def encode_arrays(suffix: str, values: Values) -> bytes:
    """Return the content of an ``.npy`` or ``.npz`` file."""
    buffer = io.BytesIO()
    if suffix.endswith(".npy"):
        (array,) = values.values()
        np.save(buffer, array, allow_pickle=False)
    else:
        # Masks of objects are mostly zeros.
        np.savez_compressed(buffer, **cast("dict[str, Any]", dict(values)))
    return buffer.getvalue()


def read_signal(path: str | PathLike[str]) -> Array | dict[str, Array]:
    """Read a person's signal file, as generation takes it.

    Args:
        path: an ``.npy`` or ``.npz`` file on disk.

    Returns:
        The array of an ``.npy``; the arrays by name of an ``.npz``.

    Raises:
        MissingFileError: there is no such file.
        SampleError: it is of another kind, or damaged.
    """
    file = Path(path)
    if file.suffix not in _ENDINGS:
        raise SampleError(
            f"'{file}' is not a signal file: expected the ending {' or '.join(_ENDINGS)}. Write "
            "one with numpy.save or numpy.savez."
        )
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file '{file}'. Check the spelling.") from error
    except OSError as error:
        raise SampleError(f"'{file}' cannot be read: {error}. Check its permissions.") from error
    arrays = decode_arrays(file.name, content, f"'{file.parent}'")
    return arrays if file.suffix == ".npz" else next(iter(arrays.values()))


_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ROW_OF = {"frame": "for each frame", "step": "between every two frames"}


def _named(names: Iterable[str]) -> str:
    """Arrays by name in words: ``the array 'a'``, ``the arrays 'a' and 'b'``, ``no array``."""
    *first, last = [f"'{name}'" for name in names] or [""]
    if not last:
        return "no array"
    return f"the arrays {', '.join(first)} and {last}" if first else f"the array {last}"


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(
        want in (None, have) for have, want in zip(found, expected, strict=True)
    )


def _largest(array: Array) -> float:
    return float(np.abs(array).max()) if array.size else 0.0
