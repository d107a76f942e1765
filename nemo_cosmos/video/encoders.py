"""Which H.264 encoder this machine has, and the options that give each the same quality.

NVENC is preferred where the GPU has it (A100 and H100 have none), then x264, then OpenH264, which
FFmpeg builds without GPL parts contain. An encoder counts as available if it can be opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import av

from nemo_cosmos.errors import MissingDependencyError, VideoError

# Macroblock trees save some bits, but with them the x264 of PyAV's wheels writes different bytes
# from run to run (seen on 64x96 and 256x320), and shards are compared by their checksums.
_X264_PARAMS = "open-gop=0:mbtree=0"
#: Best first.
ENCODERS = ("h264_nvenc", "libx264", "libopenh264")
#: A size that every NVENC takes; smaller ones only some do.
_TRIAL_SIZE = 256


def choose_encoder(name: str = "auto", works: Callable[[str], bool] | None = None) -> str:
    """The encoder to use.

    Args:
        name: one of :data:`ENCODERS`, or ``auto`` for the first that works.
        works: returns whether an encoder can be used; by default it tries to open it.

    Raises:
        VideoError: there is no such encoder.
        MissingDependencyError: it does not work here.
    """
    return next(working_encoders(name, works))


def working_encoders(
    name: str = "auto", works: Callable[[str], bool] | None = None
) -> Iterator[str]:
    """The encoders to try in turn, best first; one that works may still refuse some sizes.

    Args:
        name: one of :data:`ENCODERS`, or ``auto`` for all that work.
        works: returns whether an encoder can be used; by default it tries to open it.

    Yields:
        Names of encoders; at least one.

    Raises:
        VideoError: there is no such encoder.
        MissingDependencyError: it does not work here.
    """
    works = works or can_open
    if name != "auto" and name not in ENCODERS:
        raise VideoError(
            f"There is no encoder '{name}'; expected 'auto', {', '.join(map(repr, ENCODERS))}."
        )
    found = False
    for encoder in ENCODERS if name == "auto" else (name,):
        if works(encoder):
            found = True
            yield encoder
    if found:
        return
    raise MissingDependencyError(
        f"The H.264 encoder '{name}' cannot be opened on this machine (NVENC needs a GPU that has "
        "it and its driver; the others an FFmpeg that was built with them). Use 'auto', or "
        "reinstall the package 'av' from its wheel."
    )


@cache
def can_open(encoder: str) -> bool:
    """Whether this encoder can be opened on this machine; tried once."""
    try:
        context = av.CodecContext.create(encoder, "w")
        context.width = context.height = _TRIAL_SIZE
        context.pix_fmt, context.framerate = "yuv420p", 24
        context.open()
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError):
        return False
    return True


def encoder_options(encoder: str, crf: float, preset: str) -> dict[str, str]:
    """Options for closed groups of pictures of constant quality.

    Args:
        encoder: one of :data:`ENCODERS`.
        crf: x264's scale, 0 best to 51 worst; NVENC's ``cq`` is close to it.
        preset: x264's speed; the others have one setting.
    """
    if encoder == "h264_nvenc":
        return {"preset": "p5", "rc": "vbr", "cq": f"{crf:g}", "strict_gop": "1", "b_ref_mode": "0"}
    if encoder == "libopenh264":
        return {"rc_mode": "quality", "allow_skip_frames": "0"}
    return {"crf": f"{crf:g}", "preset": preset, "x264-params": _X264_PARAMS}
