"""A generated video with its provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nemo_cosmos.provenance.manifest import synthetic_tags, write_manifest
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, encode_video


@dataclass(frozen=True)
class Result:
    """What a pipeline returns.

    Attributes:
        video: the guarded video.
        provenance: where it came from, ready for JSON.
    """

    video: Video
    provenance: dict[str, Any]

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the mp4, and beside it the provenance (.json) and the manifest (.c2pa.json).

        The mp4's own tags say that it is synthetic, and hold the provenance, too.

        Args:
            path: of the mp4; what is there is replaced.

        Returns:
            The path of the provenance file.

        Raises:
            StorageFullError: no space left; files that were there before are intact.
        """
        target = Path(path)
        encode_video(target, self.video, metadata=synthetic_tags(self.provenance))
        write_manifest(target, self.provenance)
        beside = target.with_suffix(".json")
        with atomic_path(beside) as temporary:
            temporary.write_text(json.dumps(self.provenance, indent=2) + "\n", encoding="utf-8")
        return beside
