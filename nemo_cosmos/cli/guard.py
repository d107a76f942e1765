"""``nemo-cosmos guard`` and ``audit``: verdicts on prompts and videos, and the log of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.cli.generate import site_guards
from nemo_cosmos.cli.main import GENERATION, HOUSE, CommandEntry, CommandGroup, Exit
from nemo_cosmos.cli.options import AsJson, DisableGuard, EnableGuard
from nemo_cosmos.errors import PromptError

if TYPE_CHECKING:
    from nemo_cosmos.guardrails import GuardPolicy, Verdict

GUARD = CommandGroup(
    """Ask the guards about a prompt or a video, as every generation does.

    Examples:
        nemo-cosmos guard text "a robot arm picks up a red block" --json
        nemo-cosmos guard video outputs/world.mp4 --out safe.mp4 --json
        nemo-cosmos guard provenance reuploaded.mp4
    """,
    {
        "text": CommandEntry("guard:text", GENERATION, "Judge a prompt, or one prompt a line."),
        "video": CommandEntry("guard:video", GENERATION, "Judge a video and write its safe copy."),
        "provenance": CommandEntry(
            "guard:provenance", GENERATION, "Report whether a video says that a model made it."
        ),
    },
)

AUDIT = CommandGroup(
    """Look after the audit log, in which every verdict of every guard is recorded.

    Examples:
        nemo-cosmos audit verify
    """,
    {
        "verify": CommandEntry(
            "guard:verify", HOUSE, "Find out whether a record was changed or removed."
        ),
    },
)

FROM_STDIN = "-"
#: Frames of a long video from which the watermark is read.
MAX_FRAMES = 200


def text(
    prompt: Annotated[
        str, typer.Argument(help="The prompt; [bold]-[/bold] reads one a line from standard input.")
    ] = FROM_STDIN,
    as_json: AsJson = False,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
) -> None:
    """Ask every prompt guard, and record the verdicts in the audit log.

    The answer is the first refusal, or a verdict of "policy" that names the guards that were asked.
    Exits with 0 when all prompts may pass, with 3 when one was refused.

    Examples:
        nemo-cosmos guard text "a robot arm picks up a red block"
        nemo-cosmos guard text - --json < prompts.txt
    """
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    policy = site_guards(disable_guard, enable_guard)
    allowed: list[bool] = []
    for text in _read_lines() if prompt == FROM_STDIN else [prompt]:
        verdict = judge_prompt(policy, text)
        allowed.append(verdict.allowed)
        typer.echo(json.dumps(verdict.to_dict()) if as_json else _sentence(verdict))
    if not allowed:  # a pipeline whose first part failed must not pass
        raise PromptError(
            "Standard input holds no prompt, so nothing was judged. Write one prompt a line, or "
            "give it as an argument."
        )
    if not all(allowed):
        raise typer.Exit(Exit.REFUSED)


def judge_prompt(policy: GuardPolicy, prompt: str) -> Verdict:
    """One verdict for a prompt: the first refusal, or that of the policy."""
    from nemo_cosmos.guardrails import RefusedError
    from nemo_cosmos.guardrails.policy import summary

    try:
        return summary(policy.check_prompt(prompt))
    except RefusedError as refusal:
        return summary(refusal.verdicts)


def _read_lines() -> Iterator[str]:
    """Lines of standard input as they come; bytes that are not UTF-8 do not stop the rest."""
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _sentence(verdict: Verdict) -> str:
    word = "allowed" if verdict.allowed else "refused"
    return f"{word} by {verdict.guard} ({verdict.category}): {verdict.reason}"


def video(
    file: Annotated[Path, typer.Argument(help="The video or image to judge.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the safe copy here, an mp4; only if it may pass."),
    ] = None,
    as_json: AsJson = False,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
) -> None:
    """Ask every video guard, cover faces on a copy, and record the verdicts in the audit log.

    The answer is the first refusal, or a verdict of "policy" that names the guards that were asked.
    Exits with 0 when the video may pass, with 3 when it was refused; then no copy is written. Sound
    is not copied: no guard listens.

    Examples:
        nemo-cosmos guard video outputs/world.mp4 --out safe.mp4
        nemo-cosmos guard video clip.mp4 --json --disable-guard face_blur
    """
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    verdict = judge_video(site_guards(disable_guard, enable_guard), file, out)
    if as_json:
        typer.echo(json.dumps(verdict.to_dict()))
    else:
        word = "allowed" if verdict.allowed else "refused"
        typer.echo(f"{word} by {verdict.guard} ({verdict.category}): {verdict.reason}")
    if not verdict.allowed:
        raise typer.Exit(Exit.REFUSED)


def judge_video(policy: GuardPolicy, file: Path, out: Path | None) -> Verdict:
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


def provenance(
    file: Annotated[Path, typer.Argument(help="The video to ask.")],
    as_json: AsJson = False,
) -> None:
    """Tell whether a video says that a model made it: its mark, its manifest, its watermark.

    The mark stands in the file's tags and is lost with them; the watermark is in the picture and
    survives re-encoding and scaling. Where one is found, the record of the same identity is looked
    up in the audit log. A video that says nothing may still be synthetic.

    Examples:
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

    from nemo_cosmos.provenance.manifest import (
        SOURCE_TYPE,
        SOURCE_TYPE_TAG,
        SYNTHETIC_TAG,
        manifest_matches,
    )
    from nemo_cosmos.provenance.watermark import read_watermark
    from nemo_cosmos.video import decode, probe

    info = probe(file)
    source_type = info.metadata.get(SOURCE_TYPE_TAG)
    chosen = np.unique(np.linspace(0, info.num_frames - 1, MAX_FRAMES).astype(int))
    identity = read_watermark(decode(file, frame_indices=chosen).frames_THWC).identity
    return {
        "synthetic": info.metadata.get(SYNTHETIC_TAG) == "true" or source_type == SOURCE_TYPE,
        "digital_source_type": source_type,
        "manifest_matches": manifest_matches(file),
        "watermark": identity,
        "audit_record": None if identity is None else _audit_record(identity),
    }


def _audit_record(identity: str) -> dict[str, Any] | None:
    """The newest record of a video that got this watermark here."""
    from nemo_cosmos.guardrails.audit import find_record
    from nemo_cosmos.guardrails.video.watermark import WatermarkFilter

    return find_record(site_log(), WatermarkFilter.name, identity)


def verify(
    log: Annotated[Path | None, typer.Argument(help="The log; the site's by default.")] = None,
    contains: Annotated[
        str | None,
        typer.Option(help="Hash of a record that was noted elsewhere and must still be there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every hash and link of the audit log, and that its end was not cut off.

    Exits with 0 when the log is whole, with 1 when a record was changed, moved, added or removed.
    The end is compared with the head file beside the log. Who can rewrite both can cut both: note
    the hash of the last record elsewhere, and give it later as --contains.

    Examples:
        nemo-cosmos audit verify
        nemo-cosmos audit verify /var/log/nemo_cosmos/audit.jsonl --json
    """
    from nemo_cosmos.guardrails import verify_log

    path = log if log is not None else site_log()
    check = verify_log(path, contains)
    if as_json:
        told = {
            "log": str(path),
            "ok": check.ok,
            "num_records": check.num_records,
            "problem": check.problem,
            "last_hash": check.last_hash,
        }
        typer.echo(json.dumps(told))
    elif check.ok:
        typer.echo(f"'{path}' is whole: {check.num_records} records, the last {check.last_hash}")
    else:
        typer.echo(f"'{path}' is not whole after {check.num_records} records: {check.problem}")
    if not check.ok:
        raise typer.Exit(Exit.FAILED)


def site_log() -> Path:
    """The audit log that the site's settings name, by default the user's."""
    from nemo_cosmos.guardrails.audit import default_log_path
    from nemo_cosmos.site import compose_site

    named = compose_site()["guardrails"]["audit_log"]
    return Path(named) if named else default_log_path()
