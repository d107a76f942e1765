"""Rows of the table: the same second of 24 pictures in containers of many kinds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nemo_cosmos.testing.odd_videos.row import OddVideo
from nemo_cosmos.testing.odd_videos.writing import write

_MPEG2 = {"codec": "mpeg2video", "rate": 25, "q": "2"}


def _row(name: str, about: str, /, **how: object) -> OddVideo:
    seconds = 24 / 25 if how.get("rate") == 25 else 1.0
    return OddVideo(name, about, partial(write, **how), seconds=seconds)  # type: ignore[arg-type]


def _without_ending(path: Path) -> None:
    write(path, container="mp4")


ROWS = [
    _row("plain.mp4", "nothing"),
    _row("late index.mov", "QuickTime, index at the end", bf="2"),
    _row("early index.m4v", "index at the front", muxer={"movflags": "+faststart"}),
    _row("fragments.mp4", "fragments", muxer={"movflags": "+frag_keyframe+empty_moov"}),
    _row("fragments of frames.mp4", "a fragment for each frame, no index",
         muxer={"movflags": "+frag_every_frame+empty_moov+default_base_moof"}),
    _row("plain.mkv", "Matroska, times in milliseconds", bf="2"),
    _row("live.mkv", "written live: no length, no index", muxer={"live": "1"}),
    _row("live.webm", "WebM of a browser: no length, no index", codec="libvpx-vp9",
         muxer={"live": "1"}, **{"cpu-used": "8"}),
    _row("plain.avi", "AVI", codec="mpeg4", q="2"),
    _row("reordered.avi", "AVI with B-frames, whose times are those of decoding", codec="mpeg4",
         q="2", bf="2"),
    _row("h264.avi", "H.264 with B-frames in AVI", bf="2"),
    _row("plain.ts", "transport stream", bf="2"),
    _row("camera.mts", "transport stream of a camera", muxer={"mpegts_m2ts_mode": "1"},
         container="mpegts"),
    _row("disc.m2ts", "packets of 192 bytes", muxer={"mpegts_m2ts_mode": "1"}, container="mpegts"),
    _row("plain.mpg", "program stream, open groups of pictures", bf="2", **_MPEG2),
    _row("disc.vob", "DVD", container="vob", **_MPEG2),
    OddVideo("plain.m1v", "bare MPEG-1, without times",
             partial(write, codec="mpeg1video", rate=25, q="2"), seconds=0.96, as_ffmpeg=False),
    _row("plain.m2v", "bare MPEG-2", **_MPEG2),
    _row("studio.mxf", "MXF", container="mxf", **_MPEG2),
    _row("plain.flv", "Flash", bf="2"),
    _row("plain.f4v", "Flash in MP4", container="mp4"),
    _row("telephone.3gp", "telephone", codec="mpeg4", q="2"),
    _row("telephone.3g2", "telephone", codec="mpeg4", q="2"),
    _row("windows.wmv", "Windows Media", codec="wmv2", q="2"),
    _row("windows.asf", "Windows Media, MPEG-4", codec="msmpeg4v3", q="2"),
    _row("ogg.ogv", "Ogg with VP8", codec="libvpx", crf="4", b="2M"),
    _row("real.rm", "RealMedia", codec="rv20", q="2"),
    _row("plain.nut", "NUT", codec="ffv1"),
    _row("bare.h264", "bare H.264, without times", rate=25),
    _row("bare.hevc", "bare H.265, without times", codec="libx265", rate=25,
         **{"x265-params": "log-level=none:bframes=0:keyint=8", "crf": "12"}),
    _row("bare.ivf", "IVF", codec="libvpx", crf="4", b="2M"),
    _row("bare.mjpeg", "JPEG pictures in a row", codec="mjpeg", pix_fmt="yuvj420p", rate=25,
         q="2"),
    _row("bare.y4m", "uncompressed YUV4MPEG", codec="wrapped_avframe", container="yuv4mpegpipe"),
    OddVideo("moving.gif", "animated GIF", partial(write, codec="gif", pix_fmt="rgb8", rate=20),
             seconds=1.2, colour_levels=50),
    _row("moving.apng", "animated PNG", codec="apng", pix_fmt="rgb24", rate=25),
    OddVideo("no ending", "a video without an ending", _without_ending),
    _row("wrong ending.avi", "MP4 by the name of AVI", container="mp4", bf="2"),
]  # fmt: skip
