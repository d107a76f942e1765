"""Frames of any length and size go through a tokenizer and come back as they went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import WrongFrameCountError
from nemo_cosmos.testing.tiny import tiny_tokenizer
from nemo_cosmos.tokenizing.reconstruct import reconstruct
from nemo_cosmos.video import frames_to_tensor, tensor_to_frames


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return tiny_tokenizer()


def video(num_frames: int, height: int = 16, width: int = 24) -> np.ndarray:
    rng = np.random.default_rng(num_frames)
    return rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def directly(tokenizer, frames):
    """Encode and decode in one pass."""
    latents = tokenizer.encode(frames_to_tensor(frames)[None])
    return tensor_to_frames(tokenizer.decode(latents)[0])


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


def test_a_whole_video_is_one_stream(tokenizer):
    frames = video(21)
    assert close(reconstruct(tokenizer, frames).frames_THWC, directly(tokenizer, frames))


def test_windows_are_encoded_on_their_own(tokenizer):
    frames = video(10)
    made = reconstruct(tokenizer, frames, window_frames=5).frames_THWC
    parts = [directly(tokenizer, frames[:5]), directly(tokenizer, frames[5:])]
    assert close(made, np.concatenate(parts))
    assert not close(made, reconstruct(tokenizer, frames[:9]).frames_THWC)


def test_what_does_not_fit_is_padded_with_its_end_and_cut_again(tokenizer):
    frames = video(6, 13, 17)
    made = reconstruct(tokenizer, frames).frames_THWC
    assert made.shape == frames.shape
    padded = np.pad(frames, [(0, 3), (0, 3), (0, 7), (0, 0)], mode="edge")
    assert close(made, directly(tokenizer, padded)[:6, :13, :17])


def test_a_discrete_tokenizer_gives_the_codes_of_every_window():
    discrete = tiny_tokenizer("tokenizer_nano_dv4x8x8")
    frames = video(9)
    made = reconstruct(discrete, frames, window_frames=5)
    # The second window has four frames, and is padded to five.
    second = np.concatenate([frames[5:], frames[-1:]])
    expected = [discrete.encode(frames_to_tensor(part)[None]) for part in (frames[:5], second)]
    assert made.codes.tolist() == torch.cat([one.flatten() for one in expected]).tolist()
    assert reconstruct(tiny_tokenizer(), frames).codes is None


def test_an_image_tokenizer_treats_each_frame_alone():
    images = tiny_tokenizer("tokenizer_nano_ci8x8", channels=32)
    frames = video(19)
    made = reconstruct(images, frames).frames_THWC
    alone = np.concatenate([directly(images, frames[i : i + 1]) for i in (0, 16, 18)])
    assert close(made[[0, 16, 18]], alone)


def test_a_window_of_an_illegal_length_names_the_nearest(tokenizer):
    with pytest.raises(WrongFrameCountError, match="5 or 9"):
        reconstruct(tokenizer, video(9), window_frames=8)
