"""Decode, encode, probe and resize video; frames are uint8 RGB ``(T, H, W, 3)``."""

from nemo_cosmos.video.decode import BACKENDS, decode, preferred_backend
from nemo_cosmos.video.encode import encode_video
from nemo_cosmos.video.frames import Video
from nemo_cosmos.video.image import is_image, read_image
from nemo_cosmos.video.index.probe import FrameIndex, VideoInfo, index_frames, probe
from nemo_cosmos.video.resize import (
    center_crop,
    fitted_size,
    resize_and_pad,
    resize_frame,
    resize_frames,
    resize_longest_side,
)
from nemo_cosmos.video.source import Source
from nemo_cosmos.video.tensors import frames_to_tensor, tensor_to_frames

__all__ = [
    "BACKENDS",
    "FrameIndex",
    "Source",
    "Video",
    "VideoInfo",
    "center_crop",
    "decode",
    "encode_video",
    "fitted_size",
    "frames_to_tensor",
    "index_frames",
    "is_image",
    "preferred_backend",
    "probe",
    "read_image",
    "resize_and_pad",
    "resize_frame",
    "resize_frames",
    "resize_longest_side",
    "tensor_to_frames",
]
