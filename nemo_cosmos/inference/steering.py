"""What steers a video beside its text: arrays of controls, cameras, layout videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np

from nemo_cosmos.batch import DEFAULT_VIEWS
from nemo_cosmos.controls import LAYOUT, RIG, Signal, Values
from nemo_cosmos.controls.embodiment import EMBODIMENT
from nemo_cosmos.errors import ConfigError, InputError, SampleError, counted
from nemo_cosmos.inference.given import GivenFrames, fit_cameras
from nemo_cosmos.inference.layouts import GivenLayouts
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.inference.request import Controls, Request, Task
from nemo_cosmos.inference.views import Rig, rig_arrays


@dataclass(frozen=True)
class Steering:
    """What steers a video beside its text.

    Attributes:
        signals: the signals by name.
        values: the arrays of each, for the whole video.
        layouts: layout videos of each camera, in the order of the cameras.
    """

    signals: Mapping[str, Signal]
    values: Mapping[str, Values]
    layouts: Mapping[str, np.ndarray]


def steering_of(
    request: Request,
    signals: Mapping[str, Signal],
    rig: Rig | None,
    options: GenerationOptions,
    num_frames: int,
    decode: bool,
) -> Steering:
    """Check what steers the video.

    Args:
        request: the request.
        signals: the signals of the model's controls by name.
        rig: the cameras of a model of several.
        options: the options, completed.
        num_frames: the frames of the whole video.
        decode: whether to decode layout videos.

    Raises:
        InputError: controls that are not the model's.
        ConfigError: an embodiment for a model that no action steers.
        SampleError: arrays of another number of rows than the video needs, or of numbers that
            cannot be meant.
    """
    fps, height, width = options.fps or 0, options.height or 0, options.width or 0
    control = request.control
    if rig is not None and (arrays := rig_arrays(rig, height, width)):
        # The cameras' numbers are a signal of every model of several.
        signals, control = {**signals, RIG.name: RIG}, {**control, RIG.name: arrays}
    layouts: dict[str, np.ndarray] = {}
    if LAYOUT.name in signals and LAYOUT.name in control:
        views = DEFAULT_VIEWS if rig is None else rig.views
        videos = GivenLayouts.open(control[LAYOUT.name], views)
        if videos is not None:  # what is left are arrays
            videos.check(num_frames, fps)
            read = videos.read(num_frames, fps, (height, width)) if decode else {}
            layouts = {view: read[view] for view in views if decode}
            signals = {name: one for name, one in signals.items() if name != LAYOUT.name}
            control = {name: one for name, one in control.items() if name != LAYOUT.name}
    values = fit_cameras(
        _check_control(control, signals, num_frames, request.task, options.embodiment),
        request.frames if rig is None and isinstance(request.frames, GivenFrames) else None,
        (height, width),
    )
    return Steering(signals, values, layouts)


def _check_control(
    control: Controls,
    signals: Mapping[str, Signal],
    num_frames: int,
    task: Task,
    embodiment: str | None = None,
) -> dict[str, Values]:
    """Return the arrays of each signal; they must be for exactly the frames of the video."""
    if sorted(control) != sorted(signals):
        raise InputError(
            f"The model takes {_listed(signals)} as control, but got {_listed(control)}. "
            "Give exactly those; a model learns a control in post-training."
        )
    if embodiment is not None and all(one.complete is None for one in signals.values()):
        raise ConfigError(
            f"The embodiment '{embodiment}' is asked for, but no action steers this model. Leave "
            "it out, or use a model that was post-trained on actions."
        )
    record = {} if embodiment is None else {EMBODIMENT: embodiment}
    values: dict[str, Values] = {}
    for name, signal in signals.items():
        given = control[name]
        where = f" of '{given}'" if isinstance(given, str | PathLike) else ""
        values[name] = signal.completed(signal.values(given), record, where.removeprefix(" of "))
        _check_rows(signal, values[name], num_frames, task, where)
        _check_numbers(signal, values[name], where)
        signal.check(values[name], num_frames, where.removeprefix(" of "))
    return values


def _check_rows(
    signal: Signal, values: Values, num_frames: int, task: Task, where: str = ""
) -> None:
    """Refuse missing and surplus rows in words that fit a generation."""
    longer = (
        "another num_frames or number of chunks"
        if task == "extend"
        else "another num_frames; 'extend' makes longer videos"
    )
    for array in signal.arrays:
        if array.time is None or array.name not in values or values[array.name].ndim == 0:
            continue
        rows, expected = len(values[array.name]), array.num_rows(num_frames)
        if rows != expected:
            raise SampleError(
                f"The control '{array.name}'{where} has {counted(rows, 'row')}, but this video of "
                f"{num_frames} frames takes {expected}, the first of them for the first given "
                f"frame. Give {expected} rows, or ask for {longer}."
            )


def _check_numbers(signal: Signal, values: Values, where: str = "") -> None:
    """Refuse numbers that cannot be meant: what a person gave is wrong, not our arithmetic."""
    for array in signal.arrays:
        if array.name in values and (problem := array.bad_values(values[array.name])) is not None:
            raise SampleError(
                f"The control '{array.name}'{where} {problem}. Give the numbers that the model was "
                "trained on."
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"
