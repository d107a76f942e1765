"""A request is checked before any model is loaded, and needs no torch."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, PromptError
from nemo_cosmos.inference import Request
from nemo_cosmos.video import Video, encode_video

FRAMES = np.zeros((3, 32, 48, 3), np.uint8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"task": "dream"}, ConfigError, "expected generate, predict, extend"),
        ({"prompt": 3}, PromptError, "is a int"),
        ({"options": {"height": "48"}}, ConfigError, "height is '48'"),
        ({"options": {"seed": 2**32}}, ConfigError, "seed is 4294967296"),
        ({"options": {"fps": 1e9}}, ConfigError, "at most 1,000"),
        ({"num_chunks": 0}, ConfigError, "num_chunks is 0"),
        ({"num_chunks": 1.5}, ConfigError, "num_chunks is 1.5"),
        ({"num_condition_frames": 0}, ConfigError, "num_condition_frames is 0"),
        ({"begin": "middle"}, ConfigError, "begin is 'middle'"),
        ({"frames": None}, InputError, "Give one"),
        ({"frames": "nowhere.mp4"}, MissingFileError, "nowhere.mp4"),
        ({"task": "generate"}, InputError, "Use 'predict'"),
    ],
)
def test_errors_come_before_the_model(change, error, message):
    with pytest.raises(error, match=message):
        Request(**{"task": "predict", "prompt": "go", "frames": FRAMES, **change})


def test_a_request_travels_to_other_ranks(tmp_path):
    encode_video(tmp_path / "clip.mp4", Video(FRAMES, fps=10))
    sent = Request(
        "extend", "go", {"steps": 2, "seed": None}, tmp_path / "clip.mp4", begin="1", num_chunks=2
    )
    assert (sent.begin, sent.options) == (1, {"steps": 2}), "None takes the default"
    got = pickle.loads(pickle.dumps(sent))
    assert got.frames.path == tmp_path / "clip.mp4" and got.options == sent.options


def test_a_request_is_made_without_torch():
    code = (
        "import sys; from nemo_cosmos.inference import Request, check_output; "
        "Request('generate', 'rain', {'steps': 3}); "
        "from nemo_cosmos.models.diffusion.options import DiffusionOptions; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
