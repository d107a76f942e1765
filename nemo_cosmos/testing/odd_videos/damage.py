"""Rows of the table: packets that are lost or spoilt, files that are cut off at either end.

There is a keyframe every eight pictures and there are no B-frames, unless a row says otherwise, so
that it is known which pictures refer to a lost one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av

from nemo_cosmos.testing.odd_videos.row import OddVideo
from nemo_cosmos.testing.odd_videos.writing import X265, copied, spoilt, write

_TS = 188


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Place and size in bytes of each packet of pictures."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(each.pos, each.size) for each in container.demux(stream) if each.size]


def _without_ts_packet(path: Path, number: int) -> None:
    """Without the second packet of 188 bytes of one picture."""
    write(path, crf="1")
    content = path.read_bytes()
    places = [
        place
        for place in range(0, len(content), _TS)
        if (content[place + 1] & 0x1F, content[place + 2]) == (1, 0)  # the muxer's first stream
    ]
    begins = [at for at, place in enumerate(places) if content[place + 1] & 0x40]
    lost = places[begins[number] + 1]
    assert begins[number] + 1 < begins[number + 1]
    path.write_bytes(content[:lost] + content[lost + _TS :])


def _without_header(path: Path, number: int) -> None:
    """One picture's first 188 bytes are missing, and with them its time."""
    write(path)
    content = path.read_bytes()
    packets = [content[place : place + _TS] for place in range(0, len(content), _TS)]
    # The video's identifier is 0x100; the flag says that a picture begins here.
    begins = [
        place
        for place, packet in enumerate(packets)
        if packet[1] & 0x40 and int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x100
    ]
    del packets[begins[number]]
    path.write_bytes(b"".join(packets))


def _from_within(path: Path, number: int, ending: str = "ts", **how: str) -> None:
    """Without everything before one picture, as a recorder does that is switched on."""
    plain = write(path.with_name(f"plain {path.name}"), **how)  # type: ignore[arg-type]
    copied(plain, path, lambda packet, at: packet if at >= number else None)
    plain.unlink()


def _overwritten(path: Path, number: int, share: float = 0.5, **how: str) -> None:
    """One picture with bytes that mean something else, from somewhere in it on."""
    write(path, **how)  # type: ignore[arg-type]
    start, size = packets_of(path)[number]
    first, last = start + int(size * share), start + size
    spoilt(path, lambda content: content.__setitem__(slice(first, last), b"\xff" * (last - first)))


def _lost(path: Path, number: int, **how: str) -> None:
    """One packet is missing altogether, and times show it."""
    plain = write(path.with_name(f"plain {path.name}"), **how)  # type: ignore[arg-type]
    copied(plain, path, lambda packet, at: packet if at != number else None)
    plain.unlink()


def _cut(path: Path, number: int, inside: int = 0, **how: object) -> None:
    """Cut off in front of one picture, or so many bytes inside it."""
    write(path, **how)  # type: ignore[arg-type]
    end = packets_of(path)[number][0] + inside
    path.write_bytes(path.read_bytes()[:end])


def _without_index(path: Path) -> None:
    """AVI of a recorder that was switched off before it wrote the index."""
    write(path, codec="mjpeg", pix_fmt="yuvj420p", q="2")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"idx1")])


def _text(path: Path) -> None:
    path.write_text("<html>404 not found</html>" * 20, encoding="utf-8")


def _encrypted(path: Path) -> None:
    key = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    write(path, muxer=key)


def _damaged(
    name: str, about: str, make: Callable[[Path], object], first: int, last: int, **how: Any
) -> OddVideo:
    """A row of which the pictures from one up to another are of no use."""
    numbers = [number for number in range(24) if not first <= number < last]
    lost_s = {"damaged": (last - first) / 24}
    return OddVideo(name, about, make, numbers, lost_s=lost_s, as_ffmpeg=False, **how)


_FAST = {"movflags": "+faststart"}
ROWS = [
    _damaged("lost packet.ts", "188 bytes of a keyframe are missing",
             partial(_without_ts_packet, number=8), 8, 16),
    _damaged("lost header.ts", "188 bytes with the time of a picture are missing",
             partial(_without_header, number=10), 9, 16),
    OddVideo("lost packet.mkv", "a packet of H.265 is missing: the one before stands longer",
             partial(_lost, number=10, codec="libx265", **X265), (*range(10), *range(16, 24)),
             lost_s={"damaged": 5 / 24}, as_ffmpeg=False),
    OddVideo("within.ts", "begins between two keyframes", partial(_from_within, number=3),
             range(8, 24), 21 / 24, lost_s={"damaged": 5 / 24}, as_ffmpeg=False),
    _damaged("spoilt.mp4", "the bytes of one picture are wrong",
             partial(_overwritten, number=10, share=0.2), 10, 16),
    _damaged("spoilt.mkv", "the bytes of one picture are wrong",
             partial(_overwritten, number=10, share=0.2), 10, 16),
    _damaged("spoilt.avi", "the bytes of one picture are wrong",
             partial(_overwritten, number=10, share=0.2, codec="mpeg4", q="2"), 10, 16),
    _damaged("spoilt.mov", "one JPEG picture is wrong",
             partial(_overwritten, number=10, share=0.1, codec="mjpeg", pix_fmt="yuvj420p"),
             10, 11),
    _damaged("cut off.mp4", "ends in the middle, with the index in front",
             partial(_cut, number=18, muxer=_FAST), 18, 24),
    _damaged("cut off.mkv", "ends in the middle", partial(_cut, number=18), 18, 24),
    _damaged("cut off.avi", "ends in the middle", partial(_cut, number=18, codec="mpeg4", q="2"),
             18, 24),
    OddVideo("no index.avi", "the index at the end is missing", _without_index),
    OddVideo("text.mp4", "a page of HTML", _text, (), 0.0, rejected="not_a_video",
             lost_s={"not_a_video": 0.0}),
    OddVideo("encrypted.mp4", "Common Encryption", _encrypted, (), 1.0, rejected="encrypted",
             lost_s={"encrypted": 1.0}),
]  # fmt: skip
