"""What the host waits for in a tokenizer's training step on a GPU: nothing but optical flow."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import NumericsError
from nemo_cosmos.models.tokenizer.losses import LossConfig, LossSchedule, TokenizerLosses
from nemo_cosmos.models.tokenizer.model import batch_video
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.testing.recording_device import DEVICE, Recording

ON = LossSchedule((0.1,))
TERMS = LossConfig(squared=ON, perceptual=ON, gram=ON, vgg_frames=2)


@pytest.mark.parametrize("preset", ["tokenizer_cv4x8x8", "tokenizer_dv4x8x8"])
@pytest.mark.parametrize("num_frames", [1, 9])
def test_between_a_batch_and_its_gradients_the_host_waits_for_nothing(
    preset, num_frames, tiny_config
):
    network = TokenizerNetwork(tiny_config(preset)).to(DEVICE).train()
    losses = TokenizerLosses(TERMS)
    frames = torch.zeros(1, 3, num_frames, 32, 32, dtype=torch.uint8)
    video = batch_video({"video": frames}, DEVICE)
    losses(video, video, step=1)  # loads VGG16
    with Recording() as recording:
        terms = losses(network(video), video, step=1)
        torch.stack(list(terms.values())).sum().backward()
    assert terms.keys() == {"color", "squared", "perceptual", "gram"}
    assert recording.num_operations > 300
    # Which frames VGG16 sees.
    assert [event.place for event in recording.events] == ["device.py:upload"]


def test_pixels_are_looked_at_before_they_are_copied():
    with Recording() as recording:
        batch_video({"video": torch.zeros(1, 3, 1, 16, 16)}, DEVICE)
        with pytest.raises(NumericsError, match="NaN or infinity"):
            batch_video({"video": torch.full((1, 3, 1, 16, 16), torch.nan)}, DEVICE)
    assert {event.kind for event in recording.events} == {"upload"}
