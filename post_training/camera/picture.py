"""A picture of a camera's path, seen from above and from the side, for people."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from nemo_cosmos.controls import Values
from nemo_cosmos.evaluation.page.camera_path import draw_camera_path


def path_png(values: Values, title: str = "") -> bytes:
    """Draw a path as a PNG file's content.

    Args:
        values: the arrays of ``camera.npz``.
        title: words above the picture.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    top, side = figure.subplots(1, 2)
    draw_camera_path(top, side, values)
    top.set_title("from above")
    side.set_title("from the left: forward is to the right")
    if title:
        figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
