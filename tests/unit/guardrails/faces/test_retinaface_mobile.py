"""The embedded RetinaFace: its weights are read from a Python file that never runs."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import CheckpointError, GuardrailError
from nemo_cosmos.guardrails.faces.retinaface_mobile import (
    MobileRetinaFace,
    network_input,
    read_bytes_literal,
    search_scales,
)


def test_the_literal_is_read_and_the_file_never_runs(tmp_path):
    file = tmp_path / "weights.py"
    file.write_text("raise SystemExit('it ran')\nOTHER = b'no'\nWEIGHTS = b'\\x08\\xff'\n")
    assert read_bytes_literal(file, "WEIGHTS") == b"\x08\xff"


@pytest.mark.parametrize("text", ["", "WEIGHTS = bytes(3)", "WEIGHTS = 'text'", "not python ("])
def test_a_file_without_the_literal_is_an_error(tmp_path, text):
    (tmp_path / "weights.py").write_text(text)
    with pytest.raises(GuardrailError, match="weights"):
        MobileRetinaFace(tmp_path / "weights.py")


def test_bytes_that_are_no_network_are_an_error(tmp_path):
    (tmp_path / "weights.py").write_text("WEIGHTS = b'not a network'")
    with pytest.raises(CheckpointError, match="ONNX Runtime"):
        MobileRetinaFace(tmp_path / "weights.py")


def test_the_network_gets_blue_green_red_less_their_means():
    frame = np.zeros((4, 6, 3), np.uint8)
    frame[..., 0] = 200
    picture = network_input(frame, 1.0)
    assert picture.shape == (1, 3, 4, 6)
    assert picture[0, :, 2, 3].tolist() == [-104, -117, 200 - 123]


@pytest.mark.parametrize(
    ("shape", "scales"),
    [((144, 160, 3), [2.0]), ((360, 640, 3), [1.0]), ((720, 1280, 3), [1.0, 0.5])],
)
def test_scales(shape, scales):
    assert search_scales(shape) == scales


def test_the_astronaut_is_found_once():
    data = pytest.importorskip("skimage.data")
    faces = [face for face in MobileRetinaFace()(data.astronaut()) if face.score >= 0.7]
    (face,) = faces
    assert face.x < 225 < face.x + face.width
    assert face.y < 115 < face.y + face.height
