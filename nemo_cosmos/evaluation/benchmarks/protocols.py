"""The protocols of TokenBench and DAVIS: which frames of a video are reconstructed and scored.

Both score each video on its own and take the mean over the videos; the rFVD is one number of all.

- TokenBench (500 videos: 100 each of BDD100K, BridgeData V2, Panda-70M, and of EgoExo-4D from the
  head and from outside): the first ``max(ceil(10 fps), 300)`` frames, the short side at most 1080
  (Lanczos). PSNR over the whole video, ``20 log10(255 / (sqrt(mse) + eps))``; SSIM of
  scikit-image's defaults and LPIPS on VGG16, means over frames; rFVD of the first 300 frames.
- DAVIS (Perazzi et al. 2016, 50 videos): all frames as they are, the same numbers. Its published
  figures do not say at which of the two sizes of the data set they were made (480p, or full).

Neither says how videos were cut for the tokenizers. The command that was published with them
encodes windows of 17 frames on their own, which is the default of both here.

Sources: NVlabs/TokenBench (token_bench/metrics_cli.py, fvd.py, video/preprocessing_script.py);
NVIDIA/Cosmos-Tokenizer (cosmos_tokenizer/video_cli.py); arXiv:2501.03575, section 4.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nemo_cosmos.evaluation.metric import Frames

METRICS = ("psnr", "ssim", "lpips_vgg", "rfvd_i3d")


@dataclass(frozen=True)
class Protocol:
    """How a benchmark prepares its videos.

    Attributes:
        name: its name, which is also that of a suite of metrics.
        window_frames: frames that a tokenizer sees at once.
        seconds: the length that is kept; None for all.
        least_frames: frames that are kept where so many seconds have fewer.
        longest_short_side_px: a larger video is made smaller; None for never.
    """

    name: str
    window_frames: int
    seconds: float | None = None
    least_frames: int = 0
    longest_short_side_px: int | None = None

    def num_frames(self, fps: float) -> int | None:
        """How many first frames of a video are kept; None for all."""
        if self.seconds is None:
            return None
        return max(math.ceil(fps * self.seconds), self.least_frames)

    def prepare(self, frames_THWC: Frames, fps: float) -> Frames:
        """The frames that are reconstructed and scored.

        Args:
            frames_THWC: uint8 RGB frames.
            fps: frame rate in Hz.
        """
        kept = frames_THWC[: self.num_frames(fps)]
        height, width = kept.shape[1:3]
        limit = self.longest_short_side_px
        if limit is None or min(height, width) <= limit:
            return kept
        # The rounding is that of the benchmark's script.
        if height <= width:
            size = (limit, int(width * limit / height + 0.5))
        else:
            size = (int(height * limit / width + 0.5), limit)
        return np.stack([_lanczos(frame_HWC, size) for frame_HWC in kept])


def _lanczos(frame_HWC: Frames, size: tuple[int, int]) -> Frames:
    """Pillow's Lanczos, which smooths while it shrinks as the benchmark's library does."""
    from PIL import Image

    resized = Image.fromarray(frame_HWC).resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(resized, np.uint8)


PROTOCOLS = {
    "tokenbench": Protocol(
        "tokenbench", window_frames=17, seconds=10, least_frames=300, longest_short_side_px=1080
    ),
    "davis": Protocol("davis", window_frames=17),
}
"""Suite -> how its videos are prepared; other suites take videos as they are."""
