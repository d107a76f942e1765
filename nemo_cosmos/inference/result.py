"""A generated video with its provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nemo_cosmos.errors import InputError
from nemo_cosmos.provenance.manifest import synthetic_tags, write_manifest
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.outputs import check_output_file
from nemo_cosmos.video import Video, encode_video

VIDEO_SUFFIX = ".mp4"
VIEWS = ("main",)


@dataclass(frozen=True)
class Result:
    """What a pipeline returns.

    Attributes:
        video: the guarded video.
        provenance: where it came from, ready for JSON.
        views: names of the camera views in the video.
    """

    video: Video
    provenance: dict[str, object]
    views: tuple[str, ...] = VIEWS

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the mp4, and beside it the provenance (.json) and the manifest (.c2pa.json).

        The mp4's own tags say that it is synthetic and hold the provenance, too.

        Args:
            path: the mp4; a former one is replaced.

        Returns:
            The path of the provenance file.

        Raises:
            InputError: the path cannot be written, or does not end in .mp4.
            StorageFullError: no space left; files that were there before are intact.
        """
        target = check_output(path)
        encode_video(target, self.video, metadata=synthetic_tags(self.provenance))
        write_manifest(target, self.provenance)
        beside = target.with_suffix(".json")
        with atomic_path(beside) as temporary:
            temporary.write_text(json.dumps(self.provenance, indent=2) + "\n", encoding="utf-8")
        return beside


def notices(provenance: dict[str, object]) -> list[str]:
    """Return what filters say of the frames that they changed, such as faces pixelated.

    Args:
        provenance: the record of a result, which holds the guards' verdicts.
    """
    guards = provenance["guards"]
    assert isinstance(guards, list)
    return [verdict["reason"] for verdict in guards if verdict.get("frames_pixelated")]


def check_output(path: str | PathLike[str]) -> Path:
    """Check where a video is to be saved; call it before anything heavy is computed.

    Raises:
        InputError: it does not end in .mp4, is a folder, or cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != VIDEO_SUFFIX:
        named = target.with_suffix(VIDEO_SUFFIX) if target.name else f"video{VIDEO_SUFFIX}"
        raise InputError(
            f"'{target}' does not end in {VIDEO_SUFFIX}, the one format that videos are saved in. "
            f"Write '{named}'."
        )
    return check_output_file(target)
