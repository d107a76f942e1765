"""Exact deduplication: of clips with equal frames, the first one in order of name is kept."""

from __future__ import annotations

from data_curation.stages.base import Clip, Rejection, Resources, Stage


class DeduplicateStage(Stage):
    """Rejects a clip whose decoded frames, size and rate equal those of an earlier one.

    What counts is the content: the same pictures in another container, under another name or with
    other sound are a duplicate.
    """

    name = "deduplicate"
    inputs = ("content_sha256", "clip_id")
    scope = "dataset"
    resources = Resources(cpus=0.1)

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def process(self, clip: Clip) -> Clip | Rejection:
        """Compare with the clips seen so far."""
        where = f"'{clip.name}' at {clip.span_s[0]:.2f} s"
        first = self._first.setdefault(clip.content_sha256, where)
        if first != where:
            return Rejection.of(clip, self.name, "duplicate", f"the same frames as {first}")
        return clip
