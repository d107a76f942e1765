"""The plots of a page, as SVG that takes its ink from the page, so that it suits light and dark.

Shape suffixes: T frames, D numbers of a signal.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nemo_cosmos.controls import CAMERA, Values
from nemo_cosmos.evaluation.drift import PER_FRAMES
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.page.camera_path import draw_camera_path
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.statistics import Score

GREEN, GREY, INK = "#76a900", "#8b968f", "#010203"
_COLOURS = (GREEN, "#3a7bd5", "#c2410c", "#8b5cf6", "#0d9488", "#be185d", "#a16207", GREY)
MANY = 30
"""With more videos a curve shows how they are spread, not each."""
MAX_COLUMNS = 8
"""Numbers of a signal that are drawn; more are too many to tell apart."""
_STYLE: Any = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
)


def told_plot(metric: Metric, scores: Mapping[str, Score], others: Sequence[str]) -> str:
    """Bars of a metric's mean by what the model was told, with intervals.

    Args:
        metric: the metric of the own control.
        scores: all scores.
        others: names of the metric told something else, such as ``psnr.x0``.
    """
    names = [metric.name, *others]
    figure, axes = _axes()
    for place, name in enumerate(names):
        score = scores[name]
        axes.bar(place, score.value, color=GREEN if place == 0 else GREY, width=0.7)
        if score.low is not None and score.high is not None:
            axes.plot([place, place], [score.low, score.high], color=INK, linewidth=1.5)
    labels = ["own", *(name.removeprefix(f"{metric.name}.") for name in others)]
    axes.set_xticks(range(len(names)), labels)
    direction = "higher" if metric.higher_is_better else "lower"
    axes.set_title(f"{metric.name} ({direction} is better)", fontsize=10, color=INK)
    _zoom(axes, [scores[name] for name in names])
    return _svg(figure)


def curve_plot(evaluation: Evaluation, metric: Metric, slope: Score) -> str:
    """The numbers of each frame: the mean thick, and each video thin or, of many, their spread."""
    figure, axes = _axes()
    curves = [
        clip.curves[metric.name] for clip in evaluation.clips.values() if metric.name in clip.curves
    ]
    first, shortest = evaluation.first_frame, min(map(len, curves))
    frames = np.arange(first, first + shortest)
    cut_NT = np.array([curve[:shortest] for curve in curves])
    if len(curves) > MANY:
        low, high = np.quantile(cut_NT, [0.1, 0.9], axis=0)
        axes.fill_between(frames, low, high, color=GREY, alpha=0.35, linewidth=0)
    else:
        for curve in curves:
            numbers = range(first, first + len(curve))
            axes.plot(numbers, curve, color=GREY, linewidth=0.6, alpha=0.7)
    axes.plot(frames, cut_NT.mean(axis=0), color=GREEN, linewidth=2)
    axes.set_xlabel("frame")
    axes.set_ylabel(f"{metric.name}, {metric.unit}" if metric.unit else metric.name)
    axes.set_title(f"{slope.value:+.2f} in {PER_FRAMES} frames", fontsize=10, color=INK)
    return _svg(figure)


def training_plots(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Curves of a run: its losses, and the scores that it measured, with their intervals.

    Args:
        lines: what the run logged; a score has its interval in ``NAME_low`` and ``NAME_high``.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    scores = [name for name in names if {f"{name}_low", f"{name}_high"} <= names.keys()]
    losses = [name for name in names if "loss" in name and name not in scores]
    plots = []
    for name in (*losses, *scores):
        points = _points(lines, name)
        if len(points) < 2:
            continue
        figure, axes = _axes()
        steps, values = np.array(points).T
        axes.plot(steps, values, color=GREY, linewidth=0.7, alpha=0.8)
        window = max(1, len(values) // 20)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color=GREEN, linewidth=2)
        ends = _points(lines, f"{name}_low"), _points(lines, f"{name}_high")
        if name in scores and all(len(end) == len(points) for end in ends):
            low, high = (np.array(end)[:, 1] for end in ends)
            axes.fill_between(steps, low, high, color=GREEN, alpha=0.2, linewidth=0)
        elif values.min() > 0 and values.max() > 5 * values.min():
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        plots.append(_svg(figure))
    return plots


def control_plots(control: Mapping[str, Values]) -> list[str]:
    """What a video was told over its frames: a plot for each array of each signal.

    A camera is drawn as its path, which its matrices' numbers would not show.

    Args:
        control: the arrays of each signal; those that do not change in time are left out.
    """
    plots = []
    for signal, values in control.items():
        if signal == CAMERA.name and {"poses", "intrinsics", "size"} <= values.keys():
            plots.append(_camera_plot(values))
            continue
        for name, array in values.items():
            found = np.asarray(array)
            if found.ndim == 0 or len(found) < 2 or not np.issubdtype(found.dtype, np.number):
                continue
            label = signal if name == signal else f"{signal}: {name}"
            plots.append(_control_plot(label, found.reshape(len(found), -1)))
    return plots


def _camera_plot(values: Values) -> str:
    with rc_context({**_STYLE, "font.size": 6}):
        figure = Figure(figsize=(4.6, 2.2), layout="constrained")
        top, side = figure.subplots(1, 2)
        draw_camera_path(top, side, values)
    poses_T44 = np.asarray(values["poses"], np.float64)
    turn = np.clip((np.trace(poses_T44[0, :3, :3].T @ poses_T44[-1, :3, :3]) - 1) / 2, -1, 1)
    top.set_title("camera, from above", fontsize=8, color=INK, loc="left")
    side.set_title(f"from the left; turns {np.degrees(np.arccos(turn)):.1f} degrees in all",
                   fontsize=8, color=INK, loc="left")  # fmt: skip
    return _svg(figure)


def _control_plot(label: str, values_TD: NDArray[np.floating]) -> str:
    figure, axes = _axes(height=1.2)
    varies = [column for column in values_TD.T if np.ptp(column) > 0]
    shown = (varies or list(values_TD.T))[:MAX_COLUMNS]
    for column, colour in zip(shown, _COLOURS, strict=False):
        axes.plot(column, color=colour, linewidth=1.2)
    left_out = len(varies or values_TD.T) - len(shown)
    note = f" ({left_out} more not drawn)" if left_out else ""
    axes.set_title(f"{label}{note}", fontsize=8, color=INK, loc="left")
    axes.tick_params(labelsize=7)
    axes.margins(x=0)
    return _svg(figure)


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """The finite values of a curve by step; a line may be damaged."""
    pairs = [(line.get("step"), line.get(name)) for line in lines]
    return [(float(s), float(v)) for s, v in pairs if _is_number(s) and _is_number(v)]


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _zoom(axes: Axes, scores: Sequence[Score]) -> None:
    """Start the axis near the lowest value where bars from zero would all look alike."""
    found = [end for score in scores for end in (score.low, score.high, score.value)]
    ends = [end for end in found if end is not None]
    low, high = min(ends), max(ends)
    if low > 0 and high - low < 0.5 * high:
        margin = 0.3 * (high - low) or 0.1 * high
        axes.set_ylim(low - margin, high + margin / 2)


def _axes(height: float = 2.6) -> tuple[Figure, Axes]:
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format="svg", transparent=True)
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :].replace(INK, "currentColor")
