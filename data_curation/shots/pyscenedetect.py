"""PySceneDetect's adaptive and content detectors behind our interface."""

from __future__ import annotations

import os
from typing import Literal

from data_curation.shots.transition import Transition
from nemo_cosmos.platform.dependencies import require

Detector = Literal["adaptive", "content"]


def detect_shots(path: str | os.PathLike[str], detector: Detector = "adaptive") -> list[Transition]:
    """Transitions of a video file, in order; all are reported as hard cuts.

    Args:
        path: a local file.
        detector: which of its detectors, with its own defaults.

    Raises:
        MissingDependencyError: PySceneDetect is not installed.
    """
    scenedetect = require("scenedetect")
    detectors = {
        "adaptive": scenedetect.AdaptiveDetector,
        "content": scenedetect.ContentDetector,
    }
    scenes = scenedetect.detect(os.fspath(path), detectors[detector]())
    starts = [scene[0].frame_num for scene in scenes[1:]]
    return [Transition(start, start) for start in starts]
