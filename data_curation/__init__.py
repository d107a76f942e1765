"""From raw video to training shards."""

from data_curation.pipeline import OPTIONAL_STAGES, CurateSettings, CurateSummary, curate
from data_curation.stages.deduplicate import DeduplicateSettings
from data_curation.stages.embed import EmbedSettings
from data_curation.stages.motion import MotionSettings
from data_curation.stages.split import SplitSettings
from data_curation.stages.text_overlay import TextOverlaySettings
from data_curation.stages.transcode import TranscodeSettings

__all__ = [
    "OPTIONAL_STAGES",
    "CurateSettings",
    "CurateSummary",
    "DeduplicateSettings",
    "EmbedSettings",
    "MotionSettings",
    "SplitSettings",
    "TextOverlaySettings",
    "TranscodeSettings",
    "curate",
]
