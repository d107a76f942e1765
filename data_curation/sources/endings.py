"""Which files of a folder are videos: by their endings, and where those say nothing, by opening."""

from __future__ import annotations

from pathlib import Path

from nemo_cosmos.errors import MissingFileError, VideoError
from nemo_cosmos.storage import is_url
from nemo_cosmos.video.source import open_video

#: What people mostly have; messages name these.
_COMMON = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .wmv .flv"
COMMON_SUFFIXES = frozenset(_COMMON.split())
_MORE = """
.3g2 .3gp .amv .apng .asf .avs2 .bik .cine .dav .dif .divx .drc .dv .dvr-ms .evo .f4v .flc .fli
.gif .gxf .h261 .h263 .h264 .h265 .264 .265 .hevc .ismv .ivf .jpgv .k3g .lrv .m1v .m2p .m2t .m2ts
.m2v .m4s .mj2 .mjpeg .mjpg .mk3d .mod .moflex .mpe .mpv .mp4v .mpg2 .mpg4 .mts .mtv .mxf .nsv .nut
.nuv .obu .ogm .ogv .ogx .qt .rm .rmvb .roq .skm .swf .tod .tp .trp .tsv .ty .vc1 .vfw .viv .vob
.vro .wtv .xvid .y4m .yuv4mpeg
"""
VIDEO_SUFFIXES = COMMON_SUFFIXES | (frozenset(_MORE.split()) - {".tsv"})
_OTHERS = """
.txt .json .jsonl .ndjson .csv .tsv .xml .html .htm .md .rst .yaml .yml .toml .ini .cfg .conf
.log .nfo .srt .vtt .ass .ssa .sub .sbv .lrc .pdf .doc .docx .xls .xlsx .ppt .pptx .tex .bib
.npy .npz .pkl .pickle .pt .pth .ckpt .safetensors .onnx .parquet .arrow .feather .h5 .hdf5
.mat .bag .db3 .mcap .db .sqlite .sqlite3 .tfrecord .pcd .ply .las .obj .glb .usd .usdz .urdf
.jpg .jpeg .jpe .png .bmp .tif .tiff .webp .heic .heif .ico .svg .psd .exr .hdr .dng .cr2 .cr3
.nef .arw .thm .pgm .ppm .pbm
.wav .mp3 .flac .aac .m4a .opus .oga .wma .aif .aiff .ac3 .amr .mid .midi
.zip .tar .gz .tgz .bz2 .xz .7z .rar .zst .lz4
.py .pyc .ipynb .sh .bat .c .cc .cpp .h .hpp .js .css .java .rs .go .cu .so .dll .exe
.md5 .sha1 .sha256 .sfv .torrent .url .lnk .lock
"""
#: Endings of which it is known that they are none, so that folders with millions of such files are
#: not opened file by file.
OTHER_SUFFIXES = frozenset(_OTHERS.split())
#: What FFmpeg reads pictures, text screens and play lists with.
_NO_VIDEO_FORMATS = frozenset(("image2", "tty", "ico", "concat", "hls", "dash", "lrc", "svg_pipe"))


def opens_as_video(file: str) -> bool:
    """Whether the decoder finds moving pictures in a file, on disk or in a bucket.

    Raises:
        ServiceError: a bucket gave no answer in all tries.
    """
    if not is_url(file) and not Path(file).is_file():  # a pipe would be waited for
        return False
    try:
        with open_video(file) as (container, stream):
            name = container.format.name
            is_picture = name in _NO_VIDEO_FORMATS or name.endswith("_pipe")
            return not is_picture and stream.codec_context.width > 0
    except (VideoError, MissingFileError):
        return False
