"""Rows of the table: codecs, among them those whose packets are not simply one frame each."""

from __future__ import annotations

from functools import partial
from typing import Any

from nemo_cosmos.testing.odd_videos.row import OddVideo
from nemo_cosmos.testing.odd_videos.writing import X265, write


def _row(name: str, about: str, /, **how: Any) -> OddVideo:
    return OddVideo(name, about, partial(write, **how))


ROWS = [
    _row("pyramid.mp4", "H.264, B-frames that others refer to", g="24", bf="3",
         **{"x264-params": "b-pyramid=normal:b-adapt=0"}),
    _row("open groups.mp4", "H.264, open groups of pictures",
         **{"x264-params": "open-gop=1:bframes=3:keyint=8:b-adapt=0", "bf": "3"}),
    _row("refresh.mp4", "H.264 that renews the picture column by column",
         **{"x264-params": "intra-refresh=1:keyint=8"}),
    _row("h265.mp4", "H.265, open groups of pictures", codec="libx265", bf="3", **X265),
    _row("hidden frames.webm", "VP8 with frames that are never shown", codec="libvpx", crf="4",
         b="2M", **{"auto-alt-ref": "1", "lag-in-frames": "16", "g": "24"}),
    _row("vp9.webm", "VP9 with frames that are never shown", codec="libvpx-vp9", crf="4", b="2M",
         **{"auto-alt-ref": "1", "lag-in-frames": "16", "g": "24", "cpu-used": "8"}),
    _row("av1.mp4", "AV1", codec="libsvtav1", preset="12", crf="12"),
    _row("prores.mov", "ProRes 4:2:2, ten bits", codec="prores_ks", pix_fmt="yuv422p10le"),
    OddVideo("intermediate.mov", "DNxHR",
             partial(write, size=(144, 256), codec="dnxhd", pix_fmt="yuv422p", profile="dnxhr_sq"),
             size=(144, 256), colour_levels=20),
    _row("lossless.mkv", "FFV1", codec="ffv1"),
    _row("lossless.avi", "HuffYUV", codec="huffyuv", pix_fmt="yuv422p"),
    _row("raw.avi", "uncompressed RGB, stored bottom up", codec="rawvideo", pix_fmt="bgr24"),
    _row("animation.mov", "PNG pictures", codec="png", pix_fmt="rgb24"),
    _row("old animation.mov", "QuickTime Animation", codec="qtrle", pix_fmt="rgb24"),
    _row("cinepak.avi", "Cinepak", codec="cinepak", pix_fmt="rgb24"),
    _row("jpeg 2000.mkv", "JPEG 2000", codec="jpeg2000", pix_fmt="yuv420p"),
    OddVideo("conference.3gp", "H.263: 176x144 pixels of 12:11",
             partial(write, size=(144, 176), codec="h263", q="2"), size=(144, 192)),
]  # fmt: skip
