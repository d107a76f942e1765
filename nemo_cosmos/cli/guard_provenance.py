"""``nemo-cosmos guard provenance``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

#: Frames of a long video from which the watermark is read.
MAX_FRAMES = 200


def command(
    file: Annotated[Path, typer.Argument(help="The video to ask.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell whether a video says that a model made it: its mark, its manifest, its watermark.

    The mark stands in the file's tags and is lost with them; the watermark is in the picture and
    survives re-encoding and scaling. Where one is found, the record of the same identity is looked
    up in the audit log. A video that says nothing may still be synthetic.

    [bold]Examples[/bold]

      nemo-cosmos guard provenance outputs/world.mp4

      nemo-cosmos guard provenance reuploaded.mp4 --json
    """
    told = ask_video(file)
    if as_json:
        typer.echo(json.dumps(told))
        return
    manifest = {None: "none", True: "beside the file, made for it", False: "of another file"}
    typer.echo(f"marked as synthetic: {'yes' if told['synthetic'] else 'no'}")
    typer.echo(f"manifest: {manifest[told['manifest_matches']]}")
    typer.echo(f"watermark: {told['watermark'] or 'none found'}")
    if told["audit_record"] is not None:
        record = told["audit_record"]
        typer.echo(f"audit log: record {record['number']} of {record['time']}, {record['user']}")


def ask_video(file: Path) -> dict[str, Any]:
    """What a video says of itself.

    Returns:
        ``synthetic`` (bool), ``digital_source_type`` (URL or None), ``manifest_matches`` (None
        without a manifest), ``watermark`` (eight hexadecimal digits or None) and ``audit_record``
        (of the video with that watermark, or None).

    Raises:
        MissingFileError: the file is not there.
        VideoError: it is not a video, or is damaged.
    """
    import numpy as np

    from nemo_cosmos.guardrails.watermark import read
    from nemo_cosmos.provenance.manifest import (
        SOURCE_TYPE,
        SOURCE_TYPE_TAG,
        SYNTHETIC_TAG,
        manifest_matches,
    )
    from nemo_cosmos.video import decode, probe

    info = probe(file)
    source_type = info.metadata.get(SOURCE_TYPE_TAG)
    chosen = np.unique(np.linspace(0, info.num_frames - 1, MAX_FRAMES).astype(int))
    identity = read(decode(file, frame_indices=chosen).frames_THWC).identity
    return {
        "synthetic": info.metadata.get(SYNTHETIC_TAG) == "true" or source_type == SOURCE_TYPE,
        "digital_source_type": source_type,
        "manifest_matches": manifest_matches(file),
        "watermark": identity,
        "audit_record": None if identity is None else _audit_record(identity),
    }


def _audit_record(identity: str) -> dict[str, Any] | None:
    """The newest record of a video that got this watermark here."""
    from nemo_cosmos.cli.audit_verify import site_log
    from nemo_cosmos.guardrails.audit import find_record
    from nemo_cosmos.guardrails.watermark import WatermarkFilter

    return find_record(site_log(), WatermarkFilter.name, identity)
