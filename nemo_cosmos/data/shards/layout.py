"""Folders of curated shards: the layout of cosmos-curate, so that either toolkit reads the other's.

``v0/resolution_720/aspect_ratio_16_9/duration_5_10/{video,metas,t5_xxl}/part_000000/000000.tar``.
The one addition is ``duration_0_5``: cosmos-curate drops clips under five seconds, here nothing is
dropped.
"""

from __future__ import annotations

import bisect

from nemo_cosmos.errors import SampleError

VERSION_FOLDER = "v0"
#: Suffix of the text embedding of a sample.
TEXT_SUFFIX = "t5.safetensors"
RESOLUTIONS = ("1080", "720", "lt_720")
ASPECT_RATIOS = ("9_16", "3_4", "1_1", "4_3", "16_9")
DURATIONS = ("0_5", "5_10", "10_30", "30_inf")
MAX_SHARD_BYTES = 500 * 1024 * 1024

# Upper edges, which belong to the lower bin; what is wider than 10:1 counts as 16:9 here.
_ASPECT_EDGES = (0.65, 0.88, 1.16, 1.55)


def resolution_bin(width: int, height: int) -> str:
    """Bin by the shorter side in pixels."""
    short_side = min(width, height)
    if short_side >= 1080:
        return "1080"
    return "720" if short_side >= 720 else "lt_720"


def aspect_ratio_bin(width: int, height: int) -> str:
    """Bin by width over height."""
    return ASPECT_RATIOS[bisect.bisect_left(_ASPECT_EDGES, width / height)]


def duration_bin(duration_s: float) -> str:
    """Bin by seconds: 5 s belongs to ``5_10``, 10 s too, and 30 s to ``10_30``."""
    if duration_s < 5:
        return "0_5"
    return DURATIONS[1 + bisect.bisect_left((10, 30), duration_s)]


def bin_folder(width: int, height: int, duration_s: float) -> str:
    """Folder of a clip below the root of a curated data set, with forward slashes.

    Raises:
        SampleError: a side or the duration is not positive.
    """
    if width < 1 or height < 1 or not duration_s > 0:
        raise SampleError(
            f"A clip of {width}x{height} pixels and {duration_s} s fits no bin; expected positive "
            "numbers. Probe the clip again."
        )
    return "/".join(
        (
            VERSION_FOLDER,
            f"resolution_{resolution_bin(width, height)}",
            f"aspect_ratio_{aspect_ratio_bin(width, height)}",
            f"duration_{duration_bin(duration_s)}",
        )
    )


def shard_name(part: int, number: int) -> str:
    """``part_000000/000000.tar``."""
    return f"part_{part:06d}/{number:06d}.tar"
