"""The reference's checkpoint format: its names, shapes, and a forward pass on random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import CheckpointError
from nemo_cosmos.guardrails.faces.boxes import prior_boxes
from nemo_cosmos.guardrails.faces.retinaface_resnet import (
    Bottleneck,
    Head,
    ResNetRetinaFace,
    RetinaFaceNet,
)


@pytest.fixture(scope="module")
def net() -> RetinaFaceNet:
    torch.manual_seed(0)
    net = RetinaFaceNet().eval()
    for head in net.ClassHead:  # few faces, so that the test does not suppress thousands of boxes
        head.conv1x1.weight.data *= 10
        head.conv1x1.bias.data = torch.tensor([2.0, 0.0, 2.0, 0.0])
    return net


def test_the_size_is_that_of_the_published_network(net):
    assert sum(p.numel() for p in net.parameters()) == 27_293_600
    names = net.state_dict()
    # As the published file spells them.
    for name, shape in {
        "body.conv1.weight": (64, 3, 7, 7),
        "body.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "body.layer4.2.bn3.running_var": (2048,),
        "fpn.output3.0.weight": (256, 2048, 1, 1),
        "fpn.merge2.1.weight": (256,),
        "ssh1.conv3X3.0.weight": (128, 256, 3, 3),
        "ssh2.conv5X5_1.0.weight": (64, 256, 3, 3),
        "ssh3.conv7x7_3.0.weight": (64, 64, 3, 3),
        "ssh3.conv7X7_2.1.bias": (64,),
        "ClassHead.0.conv1x1.weight": (4, 256, 1, 1),
        "BboxHead.1.conv1x1.bias": (8,),
        "LandmarkHead.2.conv1x1.weight": (20, 256, 1, 1),
    }.items():
        assert tuple(names[name].shape) == shape


def test_one_answer_for_every_prior(net):
    with torch.inference_mode():
        loc, face = net(torch.randn(2, 3, 65, 97))
    num_priors = len(prior_boxes(65, 97))
    assert loc.shape == (2, num_priors, 4)
    assert face.shape == (2, num_priors, 2)


def test_a_head_gives_the_values_of_a_cells_priors_side_by_side():
    head = Head(4)
    x = torch.randn(1, 256, 3, 5)
    plain = head.conv1x1(x)
    assert torch.equal(head(x)[0, 2 * (1 * 5 + 2) + 1], plain[0, 4:8, 1, 2])


def test_the_block_is_the_one_of_transformers():
    from transformers.models.resnet.modeling_resnet import ResNetBottleNeckLayer

    ours = Bottleneck(64, 64, 2).eval()
    theirs = ResNetBottleNeckLayer(64, 256, stride=2).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.uniform_(-0.2, 0.3)
    names = {
        "shortcut.convolution": "downsample.0", "shortcut.normalization": "downsample.1",
        "layer.0.convolution": "conv1", "layer.0.normalization": "bn1",
        "layer.1.convolution": "conv2", "layer.1.normalization": "bn2",
        "layer.2.convolution": "conv3", "layer.2.normalization": "bn3",
    }  # fmt: skip
    state = ours.state_dict()
    theirs.load_state_dict(
        {f"{there}.{n}": state[f"{here}.{n}"] for there, here in names.items()
         for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
         if f"{here}.{n}" in state}
    )  # fmt: skip
    x = torch.randn(1, 64, 9, 9)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_the_checkpoint_is_read_as_it_is_published_and_finds_boxes(net, tmp_path):
    state = {f"module.{n}": t for n, t in net.state_dict().items() if "num_batches" not in n}
    path = tmp_path / "Resnet50_Final.pth"
    torch.save(state, path)
    detector = ResNetRetinaFace(path)
    frame = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    faces = detector(frame)
    assert faces == detector(frame)
    assert all(0.3 <= face.score <= 1 for face in faces)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "nan"])
def test_wrong_weights_are_an_error(net, tmp_path, change):
    state = dict(net.state_dict())
    if change == "missing":
        del state["fpn.merge1.0.weight"]
    elif change == "extra":
        state["other.weight"] = torch.zeros(1)
    elif change == "shape":
        state["ssh1.conv3X3.1.bias"] = torch.zeros(3)
    else:
        state["ssh1.conv3X3.1.bias"] = torch.full((128,), torch.nan)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="RetinaFace on ResNet-50"):
        ResNetRetinaFace(tmp_path / "w.pth")
