"""The filter that puts an invisible watermark into every video; off unless a site enables it."""

from __future__ import annotations

import numpy as np

from nemo_cosmos.guardrails.base import SAFE, GuardKind, Verdict
from nemo_cosmos.provenance.watermark import embed_watermark, identity_of


class WatermarkFilter:
    """Marks every video with the first digits of its hash."""

    name = "watermark"
    kind: GuardKind = "filter"

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        """Return a marked copy, and a verdict that names its identity.

        Raises:
            VideoError: the frames are too small (the policy counts it as a refusal).
        """
        identity = identity_of(frames_THWC)
        marked_THWC = embed_watermark(frames_THWC, identity)
        return marked_THWC, Verdict(True, self.name, SAFE, f"invisible watermark {identity}")
