"""Pictures for people: videos side by side, film strips and curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from nemo_cosmos.video import Video, encode_video

Frames = npt.NDArray[np.uint8]

LABEL_HEIGHT_PX = 28
GAP_PX = 8
MAX_IN_ROW = 3
PAPER = 255
INK = (40, 40, 40)


def side_by_side(labelled: Mapping[str, Frames], scale: int = 2) -> Frames:
    """Put videos side by side under their labels, playing in step.

    Args:
        labelled: label -> frames (T, H, W, 3) uint8, all of one height; a shorter one holds its
            last frame.
        scale: whole factor by which each is enlarged.

    Returns:
        Frames (T, H', W', 3) uint8.
    """
    num_frames = max(len(frames) for frames in labelled.values())
    columns = [
        _with_label(_hold_last(frames, num_frames), label, scale)
        for label, frames in labelled.items()
    ]
    gap = np.full((num_frames, columns[0].shape[1], GAP_PX, 3), PAPER, np.uint8)
    parts = [part for column in columns for part in (column, gap)][:-1]
    return np.concatenate(parts, axis=2)


def grid(labelled: Mapping[str, Frames]) -> Frames:
    """Put what several cameras see into rows, under their names, playing in step.

    Args:
        labelled: camera -> frames (T, H, W, 3) uint8, all of one size and length.

    Returns:
        Frames (T, H', W', 3) uint8; up to three cameras are one row, more are two.
    """
    names = list(labelled)
    columns = len(names) if len(names) <= MAX_IN_ROW else -(-len(names) // 2)
    rows = [
        side_by_side({name: labelled[name] for name in names[first : first + columns]}, scale=1)
        for first in range(0, len(names), columns)
    ]
    width = max(row.shape[2] for row in rows)
    padded = [
        np.pad(row, ((0, 0), (0, 0), (0, width - row.shape[2]), (0, 0)), constant_values=PAPER)
        for row in rows
    ]
    return np.concatenate(padded, axis=1)


def film_strip(frames_THWC: Frames, num_frames: int = 6) -> Frames:
    """A still of evenly spaced frames from first to last, (H, num_frames * W, 3) uint8."""
    chosen = np.linspace(0, len(frames_THWC) - 1, num_frames).round().astype(int)
    return np.concatenate([frames_THWC[index] for index in chosen], axis=1)


def video_uri(frames_THWC: Frames, fps: float, path: Path) -> str:
    """Encode the frames to ``path`` and return the file as a data URI for the page."""
    encode_video(path, Video(frames_THWC, fps=fps), crf=14)
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def png_bytes(image_HWC: Frames) -> bytes:
    """The picture as a PNG file's content."""
    done, buffer = cv2.imencode(".png", cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"a picture of shape {image_HWC.shape} cannot be written as PNG")
    return bytes(buffer)


def image_uri(image_HWC: Frames) -> str:
    """The picture as a PNG data URI."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image_HWC)).decode()}"


def curve_svg(points: Sequence[tuple[int, float]], label: str) -> str:
    """A loss curve as inline SVG: the points themselves, and their running mean."""
    figure = Figure(figsize=(4.6, 2.4))
    axes = figure.subplots()
    steps, values = np.array(points, dtype=float).T
    axes.plot(steps, values, color="#76b900", alpha=0.3, linewidth=0.8)
    window = max(1, len(values) // 20)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    axes.plot(steps[window - 1 :], smooth, color="#3f6600", linewidth=1.5)
    if values.min() > 0:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _with_label(frames_THWC: Frames, label: str, scale: int) -> Frames:
    num_frames, height, width, _ = frames_THWC.shape
    size = (width * scale, height * scale)
    canvas = np.full((num_frames, LABEL_HEIGHT_PX + size[1], size[0], 3), PAPER, np.uint8)
    cv2.putText(canvas[0], label, (2, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    canvas[:, :LABEL_HEIGHT_PX] = canvas[0, :LABEL_HEIGHT_PX]
    for index, frame in enumerate(frames_THWC):
        canvas[index, LABEL_HEIGHT_PX:] = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
    return canvas


def _hold_last(frames_THWC: Frames, num_frames: int) -> Frames:
    missing = num_frames - len(frames_THWC)
    return np.concatenate([frames_THWC, np.repeat(frames_THWC[-1:], missing, axis=0)])
