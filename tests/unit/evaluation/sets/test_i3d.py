"""FVD's protocols: which frames, how they are resized, how many are enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, InputError, WrongFrameCountError
from nemo_cosmos.evaluation import Case, evaluate_cases
from nemo_cosmos.evaluation.sets import i3d
from nemo_cosmos.evaluation.sets.i3d import FVD_I3D, KVD_I3D, RFVD_I3D, cut_out, squeezed


def video(num_frames: int, height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


@pytest.fixture
def seen(monkeypatch) -> list[torch.Tensor]:
    """The network as one that keeps what it sees and gives each clip's mean as its logits."""
    inputs: list[torch.Tensor] = []

    def network(clips_BCTHW: torch.Tensor) -> torch.Tensor:
        inputs.append(clips_BCTHW)
        return clips_BCTHW.mean((1, 2, 3, 4))[:, None].repeat(1, 400)

    monkeypatch.setattr(i3d, "_network", lambda: network)
    return inputs


def test_clips_follow_each_other_and_a_rest_is_left_out(seen):
    frames = video(37)
    assert i3d.clip_logits(frames).shape == (2, 400)
    clips = torch.cat(seen)
    assert clips.shape == (2, 3, 16, 224, 224)
    assert torch.equal(clips[1], squeezed(frames[16:32]))


@pytest.mark.parametrize("size", [(20, 31), (33, 20), (300, 400), (224, 224)])
def test_whole_videos_are_cut_out_as_tokenbench_does(size):
    # Its steps in its order: [0, 1], resize the short side, round the other up, cut, [-1, 1].
    frames = video(2, *size)
    x_CTHW = torch.from_numpy(frames / 255.0).float().permute(3, 0, 1, 2)
    height, width = size
    scale = 224 / min(size)
    if height < width:
        target = (224, int(np.ceil(width * scale)))
    else:
        target = (int(np.ceil(height * scale)), 224)
    x_CTHW = F.interpolate(x_CTHW, size=target, mode="bilinear", align_corners=False)
    top, left = (x_CTHW.shape[2] - 224) // 2, (x_CTHW.shape[3] - 224) // 2
    expected = (x_CTHW[:, :, top : top + 224, left : left + 224] - 0.5) * 2
    torch.testing.assert_close(cut_out(frames), expected, rtol=0, atol=1e-5)


def test_a_whole_video_is_one_input_of_300_frames_at_most(seen):
    assert i3d.video_logits(video(20)).shape == (1, 400)
    assert i3d.video_logits(video(310, 4, 4)).shape == (1, 400)
    assert [x.shape[2] for x in seen] == [20, 300]


@pytest.mark.parametrize(("metric", "num_frames"), [(FVD_I3D, 15), (KVD_I3D, 15), (RFVD_I3D, 8)])
def test_a_short_video_is_an_error(seen, metric, num_frames):
    with pytest.raises(WrongFrameCountError, match=f"{num_frames} frames is too short"):
        metric.extract(video(num_frames))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (FVD_I3D, r"at least 256 rows.*at least 128 videos of this length, take 'kvd_i3d'"),
        (RFVD_I3D, r"at least 50 rows.*at least 50 videos of this length, take 'kvd_i3d'"),
        (KVD_I3D, r"at least 8 rows.*at least 4 videos of this length, or leave"),
    ],
)
def test_a_small_set_is_an_error_with_the_least_number_of_videos(seen, metric, words):
    cases = [Case(str(seed), video(33, seed=seed), video(33, seed=seed)) for seed in range(2)]
    with pytest.raises(InputError, match=words):
        evaluate_cases(cases, [metric])


def test_a_missing_network_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("NEMO_COSMOS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    i3d._network.cache_clear()
    with pytest.raises(AssetError, match=r"i3d-kinetics-400\.ckpt"):
        i3d.clip_logits(video(16))


def test_noise_is_further_from_a_video_than_the_video_from_itself(moving_square_THWC):
    try:
        asset_path("i3d_kinetics400")
    except AssetError as error:
        pytest.skip(f"the I3D weights are unavailable: {error}")
    frames = moving_square_THWC[:16]
    square, noise = i3d.clip_logits(frames), i3d.clip_logits(video(16, *frames.shape[1:3]))
    assert square.shape == (1, 400) and np.abs(square - noise).max() > 1
