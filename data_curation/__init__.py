"""From raw video to training shards.

The names below are loaded at first use: ``--help`` needs the settings, and importing the pipeline
for it would take too long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_curation.pipeline import curate
    from data_curation.run import CurateSummary, CurationRun
    from data_curation.settings import OPTIONAL_STAGES, CurateSettings
    from data_curation.stages.caption import CaptionSettings
    from data_curation.stages.deduplicate import DeduplicateSettings
    from data_curation.stages.embed import EmbedSettings
    from data_curation.stages.embed_text import EmbedTextSettings
    from data_curation.stages.motion import MotionSettings
    from data_curation.stages.split import SplitSettings
    from data_curation.stages.text_overlay import TextOverlaySettings
    from data_curation.stages.transcode import TranscodeSettings
    from data_curation.stages.video_type import VideoTypeSettings

_HOMES = {
    "OPTIONAL_STAGES": "settings",
    "CaptionSettings": "stages.caption",
    "CurateSettings": "settings",
    "CurateSummary": "run",
    "CurationRun": "run",
    "DeduplicateSettings": "stages.deduplicate",
    "EmbedSettings": "stages.embed",
    "EmbedTextSettings": "stages.embed_text",
    "MotionSettings": "stages.motion",
    "SplitSettings": "stages.split",
    "TextOverlaySettings": "stages.text_overlay",
    "TranscodeSettings": "stages.transcode",
    "VideoTypeSettings": "stages.video_type",
    "curate": "pipeline",
}

__all__ = [
    "OPTIONAL_STAGES",
    "CaptionSettings",
    "CurateSettings",
    "CurateSummary",
    "CurationRun",
    "DeduplicateSettings",
    "EmbedSettings",
    "EmbedTextSettings",
    "MotionSettings",
    "SplitSettings",
    "TextOverlaySettings",
    "TranscodeSettings",
    "VideoTypeSettings",
    "curate",
]


def __getattr__(name: str) -> object:
    """Load one of the names above at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'data_curation' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"data_curation.{_HOMES[name]}"), name)
