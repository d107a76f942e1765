"""The reference's video classifier on a tiny random SigLIP: format, numbers, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from nemo_cosmos.errors import CheckpointError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.registry import build_guard
from nemo_cosmos.guardrails.settings import GuardSettings
from nemo_cosmos.guardrails.video.siglip_guard import (
    CLASSES,
    SiglipClassifier,
    SiglipGuard,
    make_classifier,
    read_classifier,
)

FRAMES = np.random.default_rng(0).integers(0, 256, (11, 40, 50, 3), dtype=np.uint8)
WIDTH = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SigLIP of 32 channels and a classifier in the reference's format, both random."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("siglip")
    config = SiglipVisionConfig(
        hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    SiglipVisionModel(config).save_pretrained(root)
    SiglipImageProcessor(size={"height": 28, "width": 28}).save_pretrained(root)
    save_checkpoint(root / "safety_filter.pt", make_classifier(WIDTH))
    return root


def save_checkpoint(path, net):
    torch.save({"model": {f"network.layers.{n}": t for n, t in net.state_dict().items()}}, path)


def test_the_classifier_has_the_references_names_and_size(tmp_path):
    net = make_classifier()
    assert sum(p.numel() for p in net.parameters()) == 724_999
    assert {name.split(".")[0] for name in net.state_dict()} == {"0", "1", "3", "4", "6"}
    assert len(CLASSES) == 7
    save_checkpoint(tmp_path / "safety_filter.pt", net)
    read = read_classifier(tmp_path / "safety_filter.pt")
    assert torch.equal(read[6].bias, net[6].bias)
    assert not read.training


@pytest.mark.parametrize("change", ["missing", "shape", "nan", "size"])
def test_wrong_weights_are_an_error(tmp_path, change):
    net = make_classifier(WIDTH)
    if change == "missing":
        del net[6]
    elif change == "shape":
        net[6] = torch.nn.Linear(256, 8)
    elif change == "nan":
        net[0].weight.data[3, 4] = torch.nan
    save_checkpoint(tmp_path / "w.pt", net)
    with pytest.raises(CheckpointError, match="content-safety classifier"):
        read_classifier(tmp_path / "w.pt", WIDTH + (change == "size"))


def test_probabilities_are_those_of_the_parts_put_together_by_hand(folder):
    found = SiglipClassifier(folder / "safety_filter.pt", str(folder))(FRAMES)
    assert found.shape == (11, 7)
    vision = SiglipVisionModel.from_pretrained(folder).eval()
    state = torch.load(folder / "safety_filter.pt", weights_only=True)["model"]
    from PIL import Image

    for number in (0, 10):
        small = Image.fromarray(FRAMES[number]).resize((28, 28), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(small, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.no_grad():
            x = vision(pixels).pooler_output
            x = x / x.square().sum().sqrt()
            for layer in (0, 3):
                x = x @ state[f"network.layers.{layer}.weight"].T
                x = x + state[f"network.layers.{layer}.bias"]
                norm = {
                    n: state[f"network.layers.{layer + 1}.{n}"]
                    for n in ("running_mean", "running_var", "weight", "bias")
                }
                x = (x - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt()
                x = (x * norm["weight"] + norm["bias"]).clamp(min=0)
            x = x @ state["network.layers.6.weight"].T + state["network.layers.6.bias"]
        assert np.allclose(found[number], x.softmax(-1).numpy(), atol=1e-4)


def classes(*per_frame: int) -> np.ndarray:
    """Probabilities with the given likeliest class of each frame."""
    return np.eye(7, dtype=np.float32)[list(per_frame)] * 0.8 + 0.02


@pytest.mark.parametrize(("likeliest", "category"), list(enumerate(CLASSES)))
def test_one_unsafe_frame_makes_the_video_so(likeliest, category):
    verdict = SiglipGuard(lambda x: classes(0, 0, likeliest)).check(FRAMES[:3])
    assert (verdict.allowed, verdict.category) == (likeliest == 0, category)


def test_a_frame_may_be_least_safe_and_safe_while_another_is_not():
    probabilities = np.array(
        [[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05], [0.4, 0.0, 0.6, 0, 0, 0, 0]], np.float32
    )
    assert SiglipGuard(lambda x: probabilities).check(FRAMES[:2]).category == "violence"


@pytest.mark.parametrize(
    "answer", [np.full((2, 7), np.nan), np.zeros((1, 7)), np.zeros((2, 6)), np.zeros(2)]
)
def test_nan_and_missing_numbers_refuse(answer):
    verdict = SiglipGuard(lambda x: answer).check(FRAMES[:2])
    assert (verdict.allowed, verdict.category) == (False, "guard_failure")


def test_settings_name_the_models_and_a_missing_one_refuses(folder, tmp_path):
    def policy(**models: str) -> GuardPolicy:
        guard = build_guard("siglip", GuardSettings(**models))
        return GuardPolicy([guard], audit=AuditLog(tmp_path / "a.jsonl"))

    with pytest.raises(RefusedError, match=r"guardrails\.models\.video_safety"):
        policy().check_video(FRAMES)
    checkpoint = str(folder / "safety_filter.pt")
    with pytest.raises(RefusedError, match="siglip"):
        policy(video_safety=checkpoint, siglip=str(tmp_path / "nowhere")).check_video(FRAMES)
    try:
        (verdict,) = policy(video_safety=checkpoint, siglip=str(folder)).check_video(FRAMES)[1]
    except RefusedError as refusal:  # random weights may call it anything, but judge it
        (verdict,) = refusal.verdicts
    assert verdict.category in CLASSES
