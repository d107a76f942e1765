"""The camera's branch: it starts without an effect, and then each part of it counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from nemo_cosmos.controls import ControlSpec, get_control
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.models.diffusion.build import WorldNetwork, build_network
from nemo_cosmos.models.diffusion.controls import TokenizerFacts, mask_embedding
from nemo_cosmos.models.diffusion.generator import DiffusionGenerator
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.options import DiffusionOptions
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.training_step import cut_batch, prepare_step
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import tiny_network, tiny_tokenizer
from post_training.camera.embedder import CameraEmbedder
from post_training.patches import token_patches

HIDDEN, FACTOR, SHAPE = 24, 4, (2, 16, 3, 4, 6)


def batch(num_frames: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4).repeat(2, num_frames, 1, 1)
    poses[:, :, :3, 3] = torch.randn(2, num_frames, 3, generator=generator).cumsum(dim=1)
    lens = torch.tensor([[50.0, 0, 24], [0, 50, 16], [0, 0, 1]])
    return {
        "camera_poses": poses,
        "camera_intrinsics": lens.repeat(2, num_frames, 1, 1),
        "camera_size": torch.tensor([[32.0, 48.0]]).repeat(2, 1),
    }


@pytest.fixture
def embedder() -> CameraEmbedder:
    torch.manual_seed(0)
    return CameraEmbedder(HIDDEN, FACTOR)


def trained(embedder: CameraEmbedder) -> CameraEmbedder:
    torch.nn.init.normal_(embedder.last.weight)
    return embedder


def test_it_starts_without_an_effect_but_can_learn(embedder: CameraEmbedder) -> None:
    tokens = embedder(batch(), SHAPE).tokens_BDthw
    assert tokens.shape == (2, HIDDEN, 3, 2, 3) and not tokens.any()
    tokens.sum().backward()
    assert embedder.last.weight.grad.any()


def test_a_pose_belongs_to_its_latent_frame(embedder: CameraEmbedder) -> None:
    given = batch()
    given["camera_poses"][:, 8, 0, 3] = 50.0  # the farthest, which the others are scaled by
    before = trained(embedder)(given, SHAPE).tokens_BDthw
    given["camera_poses"][:, 6, 1, 3] += 1  # the second of frames 5 to 8
    moved = (embedder(given, SHAPE).tokens_BDthw != before).flatten(3).any(dim=3).any(dim=1)
    assert moved.tolist() == [[False, False, True]] * 2


def test_a_lens_and_a_place_in_the_picture_count(embedder: CameraEmbedder) -> None:
    given = batch()
    before = trained(embedder)(given, SHAPE).tokens_BDthw
    assert not torch.allclose(before[..., 0], before[..., 1])
    given["camera_intrinsics"][:, :, 0, 0] *= 2
    assert not torch.allclose(embedder(given, SHAPE).tokens_BDthw, before)


def test_weights_of_half_precision_see_turns_of_a_hundredth_of_a_degree() -> None:
    half, given = CameraEmbedder(HIDDEN, FACTOR).bfloat16(), batch()
    exact = copy.deepcopy(half).double()  # the same weights
    before = half.rays(given, SHAPE)
    sine = torch.tensor(0.01).deg2rad().sin()
    given["camera_poses"][:, 6, 0, 2], given["camera_poses"][:, 6, 2, 0] = sine, -sine
    after = half.rays(given, SHAPE)
    made = half.hidden(after) - half.hidden(before)
    patches = token_patches(after, (1, 2, 2)) - token_patches(before, (1, 2, 2))
    expected = patches @ exact.first.weight.T
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=1e-6)
    assert made.abs().max() > 1e-5


def test_an_image_needs_no_camera(embedder: CameraEmbedder) -> None:
    tokens = trained(embedder)({}, (2, 16, 1, 4, 6)).tokens_BDthw
    assert tokens.shape == (2, HIDDEN, 1, 2, 3) and not tokens.any()
    tokens.sum().backward()
    assert all(weight.grad is not None for weight in embedder.parameters())


def test_what_does_not_fit_is_refused(embedder: CameraEmbedder) -> None:
    with pytest.raises(SampleError, match=r"no 'camera_poses'.*'camera.npz'"):
        embedder({}, SHAPE)
    with pytest.raises(SampleError, match=r"8 poses and 8 intrinsics; 3 latent frames.*need 9"):
        embedder(batch(8), SHAPE)
    with pytest.raises(ConfigError, match="unit_m is 0"):
        CameraEmbedder(HIDDEN, FACTOR, unit_m=0)


def make_network(process: DiffusionConfig | None = None, **options: object) -> WorldNetwork:
    ensure_model_parallel()
    torch.manual_seed(0)
    config = DiTConfig(
        num_layers=1, hidden_size=HIDDEN, num_attention_heads=2, crossattn_emb_channels=12,
        adaln_lora_dim=8, layer_spec="local",
        condition_mask=process is not None,
    )  # fmt: skip
    specs, facts = [ControlSpec("camera", options)], TokenizerFacts(temporal_factor=FACTOR)
    return build_network(config, process or DiffusionConfig(), specs, facts)


@torch.no_grad()
def test_a_world_with_the_camera_starts_as_the_world_and_then_obeys() -> None:
    net = make_network(unit_m=2.0)
    assert get_control("camera").following == "camera_path_error"
    for name, weight in net.named_parameters():
        if not name.startswith("controls."):
            weight.normal_(std=0.2)
    x_BCTHW, shape = torch.randn(SHAPE), SHAPE

    def output(control: object) -> torch.Tensor:
        return net(NetworkInput(x_BCTHW, torch.zeros(2), torch.zeros(2, 4, 12), control=control))

    without = output(None)
    assert torch.equal(output(net.embed_controls(batch(), shape)), without)
    net.controls["camera"].last.weight.normal_()
    own = net.embed_controls(batch(), shape)
    assert not torch.allclose(output(own), without)
    assert not torch.allclose(output(own), output(net.embed_controls(batch(seed=1), shape)))
    torch.testing.assert_close(output(mask_embedding(own, torch.zeros(2))), without)


def test_waves_tell_small_turns_apart() -> None:
    """Two poses a degree apart look alike to one layer, and not to one that sees waves of them."""
    given, turned = batch(), batch()
    given["camera_poses"][:, :, :3, 3] = turned["camera_poses"][:, :, :3, 3] = 0
    angle = torch.tensor(1.0).deg2rad()
    turned["camera_poses"][:, 1:, 0, 0] = turned["camera_poses"][:, 1:, 2, 2] = angle.cos()
    turned["camera_poses"][:, 1:, 0, 2], turned["camera_poses"][:, 1:, 2, 0] = (
        angle.sin(),
        -angle.sin(),
    )
    far = []
    for frequencies in (0, 5):
        torch.manual_seed(0)
        embedder = CameraEmbedder(HIDDEN, FACTOR, unit_m=1.0, frequencies=frequencies)
        torch.nn.init.zeros_(embedder.first.bias)
        one, other = (embedder.hidden(embedder.rays(each, SHAPE)) for each in (given, turned))
        far.append(((one - other)[:, 1:].norm() / one[:, 1:].norm()).item())
    assert far[1] > 3 * far[0]


@pytest.mark.parametrize("frequencies", [-1, 11, 1.5, True, "4"])
def test_impossible_frequencies_are_refused(frequencies: object) -> None:
    with pytest.raises(ConfigError, match="expected a whole number from 0"):
        CameraEmbedder(HIDDEN, FACTOR, frequencies=frequencies)


CHANGES = DiffusionConfig(conditioning=ConditioningConfig(1, 1, predicts_change=True))


def turning(num_frames: int = 9, degrees_a_frame: float = 2.0) -> dict[str, torch.Tensor]:
    """A camera that turns to the right where it stands."""
    given = batch(num_frames)
    angle_N = (torch.arange(num_frames) * degrees_a_frame).deg2rad()
    poses = torch.eye(4).repeat(2, num_frames, 1, 1)
    poses[:, :, 0, 0] = poses[:, :, 2, 2] = angle_N.cos()
    poses[:, :, 0, 2], poses[:, :, 2, 0] = angle_N.sin(), -angle_N.sin()
    return {**given, "camera_poses": poses}


def test_changes_start_from_the_first_frame_as_the_turned_camera_sees_it() -> None:
    net, shape = make_network(CHANGES, carries_first_frame=True), (2, 16, 3, 4, 6)
    columns_W = torch.arange(6.0)
    latent_BCTHW = columns_W.expand(shape).contiguous()
    embedding = net.embed_controls({**turning(), "first_frames": latent_BCTHW}, shape)
    base_BCTHW = embedding.change_base_BCTHW
    torch.testing.assert_close(base_BCTHW[:, :, 0], latent_BCTHW[:, :, 0], rtol=0, atol=1e-5)
    # 50 pixels of focal length, 8 pixels a column; 8 and 16 degrees at the ends of latent frames.
    right_B = 24 + 50 * (torch.tensor([8.0, 16.0]).deg2rad() + math.atan2(-4, 50)).tan()
    expected = right_B / 8 - 0.5
    torch.testing.assert_close(base_BCTHW[0, 0, 1:, :, 2].mean(-1), expected, rtol=0.05, atol=0)
    assert (base_BCTHW[:, :, 1:, :, 5] == 5).all(), "what comes into view goes on from the edge"
    masked = mask_embedding(embedding, torch.zeros(2))
    torch.testing.assert_close(masked.change_base_BCTHW, base_BCTHW)


def test_training_has_to_find_what_the_turn_does_not_explain() -> None:
    net, shape = make_network(CHANGES, unit_m=1.0, carries_first_frame=True), (2, 16, 3, 4, 6)
    first_BCTHW = torch.randn(2, 16, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    shown_BCTHW = first_BCTHW.expand(shape)
    seen = net.embed_controls({**turning(), "first_frames": shown_BCTHW}, shape).change_base_BCTHW
    given = {**turning(), "latent": seen, "t5_text_embeddings": torch.zeros(2, 2, 12)}

    def left(batch: dict) -> torch.Tensor:
        step = prepare_step(batch, ["a", "b"], 1, 2, CHANGES, net.embed_controls)
        assert step.inputs.control is not None
        return step.x0_BCTHW

    assert left(given)[:, :, 1:].abs().amax() < 1e-4
    other = {**given, "camera_poses": turning(degrees_a_frame=-2.0)["camera_poses"]}
    assert left(other)[:, :, 1:].abs().amax() > 0.1
    box = LatentBox.of(shape[2:], (1, 2, 2), 2, 1)
    part = left(cut_batch(other, box, CHANGES))
    torch.testing.assert_close(part, box.cut(left(other)))


@torch.no_grad()
def test_the_branch_sees_the_carried_frame_only_where_one_is_given() -> None:
    net = make_network(CHANGES, carries_first_frame=True)
    net.controls["camera"].carried.weight.normal_()
    latent_BCTHW = torch.randn(SHAPE)
    given = {**batch(), "first_frames": latent_BCTHW}
    told = net.embed_controls(given, SHAPE).tokens_BDthw
    without = net.embed_controls(batch(), SHAPE)
    assert not torch.allclose(told, without.tokens_BDthw)
    assert not without.change_base_BCTHW.any()
    image = net.embed_controls({"first_frames": latent_BCTHW[:, :, :1]}, (2, 16, 1, 4, 6))
    torch.testing.assert_close(image.change_base_BCTHW, latent_BCTHW[:, :, :1])


def test_a_network_that_adds_nothing_shows_the_sharp_first_picture_from_the_turned_camera() -> None:
    ensure_model_parallel()
    specs = [ControlSpec("camera", {"carries_first_frame": True})]
    net = build_network(tiny_network(num_layers=1), CHANGES, specs, TokenizerFacts(FACTOR))
    for parameter in net.eval().requires_grad_(False).parameters():
        parameter.zero_()
    picture = torch.rand(1, 3, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    text_BLD, quick = torch.ones(1, 4, 12), DiffusionOptions(steps=1, guidance=0.0)
    given = {name: value[:1] for name, value in turning().items()}
    shot = Shot(
        text_BLD, 0 * text_BLD, 9, 32, 48, 10.0, 3, quick,
        given_BCTHW=picture, controls={name: one[0].numpy() for name, one in given.items()},
    )  # fmt: skip
    codec = tiny_tokenizer()
    video = DiffusionGenerator(net, CHANGES, codec).generate(shot)
    seen = net.controls["camera"].carry(given, picture, 9)
    torch.testing.assert_close(seen[:, :, :1], picture, rtol=0, atol=1e-5)
    assert (seen[:, :, 8] - picture[:, :, 0]).abs().amax() > 0.5, "the camera turns"
    # One step leaves next to no noise; the tokenizer alone would lose more than this.
    assert (video - seen).abs().amax() < 0.05
    assert (codec.decode(codec.encode(picture)) - picture).abs().amax() > 0.3


def test_carrying_takes_a_process_of_changes_and_a_pinhole() -> None:
    with pytest.raises(ConfigError, match=r"conditioning.predicts_change=true"):
        make_network(carries_first_frame=True)
    with pytest.raises(ConfigError, match="carries_first_frame is 'yes'; expected true or false"):
        CameraEmbedder(HIDDEN, FACTOR, carries_first_frame="yes")
    lens = {"camera_angle_polynomial": torch.tensor([[0.0, 1.0]]).repeat(2, 1)}
    given = {**batch(), **lens, "first_frames": torch.zeros(SHAPE)}
    with pytest.raises(SampleError, match="f-theta lens"):
        CameraEmbedder(HIDDEN, FACTOR, carries_first_frame=True)(given, SHAPE)
