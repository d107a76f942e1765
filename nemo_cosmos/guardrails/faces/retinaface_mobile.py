"""The embedded RetinaFace, on MobileNet-0.25.

The package that carries its weights has them as a constant in a Python file. That file is read as
data: the literal is taken from its syntax tree, and no code runs.
"""

from __future__ import annotations

import ast
from pathlib import Path

import cv2
import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.faces.boxes import MEAN_BGR, Face, decode_faces, scaled, suppress
from nemo_cosmos.perception.onnx import load_onnx

#: Smaller frames are enlarged to this longest side, so that their faces are not too small.
_SMALL_SIDE_PX = 320
#: Larger frames are searched at this longest side, too: the largest prior is 512 px.
_LARGE_SIDE_PX = 640


class MobileRetinaFace:
    """Finds faces in one frame at a time.

    Args:
        source: the Python file with the network in ONNX format; by default the asset
            ``retinaface_mobilenet``.

    Raises:
        AssetError: the weights are unavailable.
        GuardrailError: the file has no such constant.
        CheckpointError: the constant is not a network.
    """

    def __init__(self, source: Path | None = None) -> None:
        path = source if source is not None else asset_path("retinaface_mobilenet")
        self._network = load_onnx(read_bytes_literal(path, "WEIGHTS"))

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Return the faces of an RGB frame, uint8 ``(H,W,3)``."""
        return suppress(
            [
                face
                for scale in search_scales(frame_HWC.shape)
                for face in self._detect(frame_HWC, scale)
            ]
        )

    def _detect(self, frame_HWC: np.ndarray, scale: float) -> list[Face]:
        picture_BCHW = network_input(frame_HWC, scale)
        loc_BN4, face_BN2, landmarks_BN10 = self._network.run({"input": picture_BCHW})
        height, width = picture_BCHW.shape[2:]
        faces = decode_faces(loc_BN4[0], face_BN2[0, :, 1], height, width, landmarks_BN10[0])
        return [scaled(face, 1 / scale) for face in faces]


def read_bytes_literal(source: Path, name: str) -> bytes:
    """Return the value of ``name = b"..."`` in a Python file, which is parsed and never run.

    Raises:
        GuardrailError: the file has no such line.
    """
    try:
        body = ast.parse(source.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        raise GuardrailError(f"'{source}' is not the Python file expected: {error}.") from error
    for line in body:
        match line:
            case ast.Assign([ast.Name(target)], ast.Constant(bytes(value))) if target == name:
                return value
    raise GuardrailError(
        f"'{source}' has no bytes named {name}. Remove the file from the cache; it is fetched "
        "again."
    )


def network_input(frame_HWC: np.ndarray, scale: float) -> np.ndarray:
    """Return a RetinaFace's input: scaled, BGR minus its mean, float32 ``(1,3,H,W)``."""
    height, width = (max(1, round(side * scale)) for side in frame_HWC.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(frame_HWC, (width, height), interpolation=way)
    picture_HWC = resized[..., ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)
    return np.ascontiguousarray(picture_HWC.transpose(2, 0, 1)[None])


def search_scales(shape: tuple[int, ...]) -> list[float]:
    """Return the scales at which to search a frame of that shape."""
    longest = max(shape[:2])
    if longest > _LARGE_SIDE_PX:
        return [1.0, _LARGE_SIDE_PX / longest]
    return [max(1.0, _SMALL_SIDE_PX / longest)]
