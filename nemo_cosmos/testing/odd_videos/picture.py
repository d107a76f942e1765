"""Rows of the table: sizes, pixel shapes and formats in which pictures are stored."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import av

from nemo_cosmos.testing.odd_videos.row import OddVideo
from nemo_cosmos.testing.odd_videos.writing import write


def _wide_pixels(stream: av.VideoStream) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(4, 3)


ROWS = [
    OddVideo("odd sides.mkv", "sides of odd numbers",
             partial(write, size=(63, 97), pix_fmt="yuv444p"), size=(63, 97)),
    OddVideo("wide pixels.mp4", "96x64 pixels of 4:3", partial(write, prepare=_wide_pixels),
             size=(64, 128)),
    OddVideo("ten bits.mp4", "ten bits a channel", partial(write, pix_fmt="yuv420p10le")),
    OddVideo("full range.mp4", "full range of levels",
             partial(write, pix_fmt="yuvj420p")),
    OddVideo("grey.mp4", "luma alone", partial(write, pix_fmt="gray"), colour_levels=0),
    OddVideo("see through.mov", "PNG pictures with alpha",
             partial(write, codec="png", pix_fmt="rgba")),
    OddVideo("see through.mkv", "FFV1 with alpha",
             partial(write, codec="ffv1", pix_fmt="yuva420p")),
    OddVideo("sharp colours.mp4", "4:4:4", partial(write, pix_fmt="yuv444p")),
]  # fmt: skip
