"""A generated video with its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.errors import InputError
from nemo_cosmos.provenance.manifest import synthetic_tags, write_manifest
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.outputs import check_output_file
from nemo_cosmos.video import Video, encode_video

VIDEO_SUFFIX = ".mp4"


@dataclass(frozen=True)
class Result:
    """What a pipeline returns.

    Attributes:
        video: the guarded video; of several cameras, what all see in a grid with their names.
        provenance: where it came from, ready for JSON.
        by_view: of several cameras, the video of each by its name.
    """

    video: Video
    provenance: dict[str, object]
    by_view: Mapping[str, Video] = field(default_factory=dict)

    @property
    def views(self) -> Views:
        """Names of the cameras."""
        return tuple(self.by_view) or DEFAULT_VIEWS

    @classmethod
    def of_views(cls, videos: Mapping[str, Video], provenance: dict[str, object]) -> Result:
        """Make the result of one camera, or of several that show the same moments.

        Args:
            videos: the guarded video of each camera by its name.
            provenance: where they came from.
        """
        first = next(iter(videos.values()))
        if len(videos) == 1:
            return cls(first, provenance)
        from nemo_cosmos.video.pictures import grid

        frames_THWC = grid({view: video.frames_THWC for view, video in videos.items()})
        return cls(Video(frames_THWC, first.fps), provenance, videos)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the mp4, and beside it the provenance (.json) and the manifest (.c2pa.json).

        The mp4's own tags say that it is synthetic and hold the provenance, too. Of several cameras
        the mp4 is the grid, and a folder of its name holds the video of each, ``front.mp4`` and so
        on: what a longer video can be continued from.

        Args:
            path: the mp4; a former one is replaced.

        Returns:
            The path of the provenance file.

        Raises:
            InputError: the path cannot be written, or does not end in .mp4.
            StorageFullError: no space left; files that were there before are intact.
        """
        target = check_output(path)
        tags = synthetic_tags(self.provenance)
        encode_video(target, self.video, metadata=tags)
        for view, video in self.by_view.items():
            folder = target.with_suffix("")
            folder.mkdir(exist_ok=True)
            encode_video(folder / f"{view}{VIDEO_SUFFIX}", video, metadata=tags)
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
