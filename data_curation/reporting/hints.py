"""What to try where filters leave too little: the option behind each reason of a rejection."""

from __future__ import annotations

from collections.abc import Mapping

#: Why a good clip may be rejected for a reason, and the options that let it pass.
HINTS = {
    "motion": "fixed cameras? --min-motion 0 --min-patch-motion 0",
    "too_short": "short recordings? --min-clip-s 0.5, or --split none for whole videos",
    "too_small": "small pictures? lower --probe-min-side-px",
    "too_large": "large pictures? raise --probe-max-side-px",
    "text_overlay": "signs or time stamps? --max-overlay 1 --text-overlay-max-text-share 1",
    "near_duplicate": "another run's clips? leave out --known",
    "semantic_duplicate": "recordings of one place? --min-cosine 1",
    "video_type": "other types? leave out --keep-type, or name more labels",
    "blurred": "raise --visual-quality-max-blur",
    "underexposed": "night? raise --visual-quality-max-black-share",
    "overexposed": "raise --visual-quality-max-white-share",
    "blocky": "raise --visual-quality-max-blockiness",
    "letterbox": "raise --visual-quality-max-bar-share",
    "brisque": "raise --visual-quality-max-brisque",
    "aesthetic": "lower --visual-quality-min-aesthetic",
}


def hints(num_clips: int, rejected: Mapping[str, int]) -> list[str]:
    """What to try where a filter rejected more clips than were kept, most rejected first.

    Args:
        num_clips: clips that were kept.
        rejected: number of rejections by reason.

    Returns:
        Lines such as ``11 by motion: fixed cameras? --min-motion 0 --min-patch-motion 0``.
    """
    most_first = sorted(rejected.items(), key=lambda item: -item[1])
    return [
        f"{count} by {reason}: {HINTS[reason]}"
        for reason, count in most_first
        if reason in HINTS and count > num_clips
    ]
