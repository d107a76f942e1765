"""Probe: what is this file, and can it be read at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_curation.stages.base import Clip, Rejection, Resources, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import MissingFileError, VideoError
from nemo_cosmos.video import probe


@dataclass(frozen=True)
class ProbeSettings(StageSettings):
    """Nothing to choose yet."""

    def build(self, store: ClipStore) -> Stage:
        """The stage."""
        return ProbeStage()


class ProbeStage(Stage):
    """Reads the packets of a source; rejects what is no readable video."""

    name = "probe"
    outputs = ("info",)
    resources = Resources(cpus=0.5)

    def process(self, clip: Clip) -> Clip | Rejection:
        """Probe one source."""
        try:
            return replace(clip, info=probe(clip.source))
        except MissingFileError as error:
            return Rejection.of(clip, self.name, "unreadable", str(error))
        except VideoError as error:
            return Rejection.of(clip, self.name, "not_a_video", str(error))
