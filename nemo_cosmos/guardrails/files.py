"""Verdicts on single prompts and files, and what a file itself says of its origin.

Generation asks a :class:`~nemo_cosmos.guardrails.policy.GuardPolicy` directly, and a refusal ends
it. Here a refusal is an answer like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.guardrails.audit import find_record
from nemo_cosmos.guardrails.base import SAFE, RefusedError, Verdict
from nemo_cosmos.guardrails.faces.face_blur import FaceBlur
from nemo_cosmos.guardrails.policy import GuardPolicy, summary
from nemo_cosmos.guardrails.video.watermark import WatermarkFilter
from nemo_cosmos.provenance.manifest import (
    PROVENANCE_TAG,
    SOURCE_TYPE,
    SOURCE_TYPE_TAG,
    SYNTHETIC_TAG,
    manifest_matches,
)
from nemo_cosmos.provenance.watermark import read_watermark
from nemo_cosmos.video import Video, decode, encode_video, is_image, probe

#: Frames of a long video from which the watermark is read.
MAX_FRAMES = 200


@dataclass(frozen=True)
class Origin:
    """What a video says of its origin.

    Attributes:
        synthetic: whether its tags say that a model made it.
        digital_source_type: URL of the kind of source that its tags name; None without one.
        manifest_matches: whether the manifest beside it belongs to it; None without a manifest.
        watermark: eight hexadecimal digits; None where none was found.
        audit_record: the audit log's record of the video with that watermark; None without one.
    """

    synthetic: bool
    digital_source_type: str | None
    manifest_matches: bool | None
    watermark: str | None
    audit_record: dict[str, object] | None


def judge_prompt(policy: GuardPolicy, prompt: str) -> Verdict:
    """Return one verdict on a prompt: the first refusal, else the policy's."""
    try:
        return summary(policy.check_prompt(prompt))
    except RefusedError as refusal:
        return summary(refusal.verdicts)


def judge_file(policy: GuardPolicy, file: Path, out: Path | None = None) -> Verdict:
    """Return one verdict on an image or video, and write a safe copy if asked to.

    Args:
        policy: the guards.
        file: the image or video.
        out: the copy, an mp4, which is written only if the file may pass. Sound is not copied: no
            guard listens.

    Raises:
        MissingFileError: the file does not exist.
        VideoError: it is not a video, or is damaged.
        ConfigError: the copy would replace the file itself.
    """
    if out is not None and out.exists() and out.samefile(file):
        raise ConfigError(
            f"The safe copy would replace '{file}' itself. Give --out another name: the original "
            "is never replaced."
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
    verdict = summary(verdicts)
    blurred = [v.reason for v in verdicts if v.guard == FaceBlur.name and v.category == SAFE]
    return replace(verdict, reason="; ".join([verdict.reason, *blurred]))


def _kept_tags(file: Path) -> dict[str, str]:
    """Return the tags that mark a generated video, so that its copy keeps them."""
    tags = {} if is_image(file) else probe(file).metadata
    kept = (SYNTHETIC_TAG, SOURCE_TYPE_TAG, PROVENANCE_TAG)
    return {name: tags[name] for name in kept if name in tags}


def find_origin(file: Path, log: Path) -> Origin:
    """Read a video's tags, its manifest and its watermark.

    Args:
        file: the video.
        log: the audit log in which the watermark is looked up.

    Raises:
        MissingFileError: the file does not exist.
        VideoError: it is not a video, or is damaged.
    """
    info = probe(file)
    source_type = info.metadata.get(SOURCE_TYPE_TAG)
    chosen = np.unique(np.linspace(0, info.num_frames - 1, MAX_FRAMES).astype(int))
    identity = read_watermark(decode(file, frame_indices=chosen).frames_THWC).identity
    record = None if identity is None else find_record(log, WatermarkFilter.name, identity)
    return Origin(
        synthetic=info.metadata.get(SYNTHETIC_TAG) == "true" or source_type == SOURCE_TYPE,
        digital_source_type=source_type,
        manifest_matches=manifest_matches(file),
        watermark=identity,
        audit_record=record,
    )
