"""``nemo-cosmos guard video``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.cli.generation import DisableGuard, EnableGuard, site_guards
from nemo_cosmos.cli.guard_text import EXIT_REFUSED

if TYPE_CHECKING:
    from nemo_cosmos.guardrails import GuardPolicy, Verdict


def command(
    file: Annotated[Path, typer.Argument(help="The video or image to judge.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the safe copy here, an mp4; only if it may pass."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: the verdict.")] = False,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
) -> None:
    """Ask every video guard, cover faces on a copy, and record the verdicts in the audit log.

    The answer is the first refusal, or a verdict of "policy" that names the guards that were asked.
    Exits with 0 when the video may pass, with 1 when it was refused; then no copy is written. Sound
    is not copied: no guard listens.

    [bold]Examples[/bold]

      nemo-cosmos guard video outputs/world.mp4 --out safe.mp4

      nemo-cosmos guard video clip.mp4 --json --disable-guard face_blur
    """
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    verdict = judge(site_guards(disable_guard, enable_guard), file, out)
    if as_json:
        typer.echo(json.dumps(verdict.to_dict()))
    else:
        word = "allowed" if verdict.allowed else "refused"
        typer.echo(f"{word} by {verdict.guard} ({verdict.category}): {verdict.reason}")
    if not verdict.allowed:
        raise typer.Exit(EXIT_REFUSED)


def judge(policy: GuardPolicy, file: Path, out: Path | None) -> Verdict:
    """Judge a file and write its safe copy.

    Raises:
        MissingFileError: the file is not there.
        VideoError: it is not a video, or is damaged.
        ConfigError: the copy would replace the file itself.
    """
    from nemo_cosmos.errors import ConfigError
    from nemo_cosmos.guardrails import RefusedError
    from nemo_cosmos.guardrails.policy import summary
    from nemo_cosmos.video import Video, decode, encode_video

    if out is not None and out.exists() and out.samefile(file):
        raise ConfigError(
            f"--out names the input '{file}' itself. Name another file: the original is never "
            "replaced."
        )
    video = decode(file)
    # At a variable rate the frame number says nothing of the time, so every frame is judged.
    fps = video.fps if video.pts_s is None else None
    try:
        safe_THWC, verdicts = policy.check_video(video.frames_THWC, {"file": file.name}, fps)
    except RefusedError as refusal:
        return summary(refusal.verdicts)
    if out is not None:
        encode_video(out, Video(safe_THWC, video.fps, video.pts_s), metadata=_kept_tags(file))
    return summary(verdicts)


def _kept_tags(file: Path) -> dict[str, str]:
    """The tags by which a generated video says what it is; its copy says so, too."""
    from nemo_cosmos.provenance.manifest import PROVENANCE_TAG, SOURCE_TYPE_TAG, SYNTHETIC_TAG
    from nemo_cosmos.video import is_image, probe

    tags = {} if is_image(file) else probe(file).metadata
    kept = (SYNTHETIC_TAG, SOURCE_TYPE_TAG, PROVENANCE_TAG)
    return {name: tags[name] for name in kept if name in tags}
