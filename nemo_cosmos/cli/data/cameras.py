"""``nemo-cosmos convert cameras``: videos with known cameras to the layout that curation reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.data.converted import say_converted
from nemo_cosmos.cli.kit.options import AsJson, number, parse_size
from nemo_cosmos.progress import show_progress

CURATE = "--split none --min-clip-s 0.5"
"""A recording is a clip, and its cameras do not cross a cut."""


def cameras(
    source: Annotated[
        Path, typer.Argument(help="A scene, a folder of scenes, or texts of RealEstate10K.")
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder for the recordings; may contain some already.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures or videos, if it is not the format's own."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Height x width to resize frames to; by default unchanged.")
    ] = None,
    fps: Annotated[
        float, number("Rate of the pictures, where no file says it.", above=0, most=1000)
    ] = 30.0,
    units: Annotated[
        str | None, typer.Option(help="Unit of positions: m, cm, mm, or any for an unknown scale.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="Axes of a transforms.json: opengl (its own) or opencv."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert pictures with known cameras: COLMAP, transforms.json, RealEstate10K, DL3DV.

    The format is detected. Each stretch of pictures without a gap becomes an mp4, its camera.npz in
    metres with OpenCV's axes, and a JSON. Distortion is taken out of the pictures. Cameras that
    contradict their pictures, or that are faster than any in metres, are left out with what to
    give. A second run makes what is missing.

    Examples:
        nemo-cosmos convert cameras data/garden data/recordings
        nemo-cosmos convert cameras DL3DV/1K data/dl3dv --size 352x640
        nemo-cosmos convert cameras RealEstate10K/train data/estate --images downloads
        nemo-cosmos convert cameras unreal/transforms.json data/unreal --units cm --axes opencv
    """
    from post_training.camera.conversion import Reading, convert_cameras

    reading = Reading(
        None if images is None else str(images),
        None if size is None else parse_size(size),
        fps,
        units,
        axes,
    )
    with show_progress("Converting", "recordings", "json" if as_json else "people") as update:
        report = convert_cameras(source, out, reading, update)
    say_converted(report, "recording", "curate", CURATE, as_json)
