"""From raw video to training shards."""

from data_curation.pipeline import CurateSettings, CurateSummary, curate
from data_curation.stages.motion import MotionSettings
from data_curation.stages.split import SplitSettings
from data_curation.stages.transcode import TranscodeSettings

__all__ = [
    "CurateSettings",
    "CurateSummary",
    "MotionSettings",
    "SplitSettings",
    "TranscodeSettings",
    "curate",
]
