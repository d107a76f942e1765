"""Several cameras in one network: what a view sees, and what tells views apart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError, SampleError, WrongFrameCountError
from nemo_cosmos.models.common.attention.core import RopeSelfAttention
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.network.views import (
    CameraViews,
    camera_views,
    rig_values,
)
from nemo_cosmos.platform import ensure_model_parallel

SLOTS = ("front", "left", "right")
TEXT, LENGTH, CPU = 24, 4, torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _model_parallel() -> None:
    ensure_model_parallel()


def make_net(slots: tuple[str, ...] = SLOTS, seed: int = 0) -> DiT:
    """A network in which everything has an effect: nothing is at its zero start."""
    config = DiTConfig(
        num_layers=2,
        hidden_size=72,
        num_attention_heads=3,
        crossattn_emb_channels=TEXT,
        adaln_lora_dim=8,
        max_frames=4,
        max_height=16,
        max_width=16,
        condition_mask=True,
        view_slots=slots,
    )
    net = DiT(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(net.named_parameters()):
            scale = 1.0 if "position" in name or "view_embed.names" in name else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def make_input(num_views: int, batch: int = 2, frames: int = LENGTH, **others: Any) -> NetworkInput:
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    rig = drawn(batch, num_views, 17)
    slots = torch.arange(num_views).clamp(max=len(SLOTS)).expand(batch, -1)
    return NetworkInput(
        drawn(batch, 16, num_views * frames, 4, 6),
        drawn(batch),
        drawn(batch, 5, TEXT),
        fps_B=torch.tensor([24.0, 10.0])[:batch],
        condition_mask_B1THW=(drawn(batch, 1, num_views * frames, 1, 1) > 0)
        .float()
        .expand(-1, -1, -1, 4, 6),
        views=CameraViews(slots, frames, rig),
        **others,
    )


def run(net: DiT, inputs: NetworkInput) -> Tensor:
    with torch.no_grad():
        out: Tensor = net(inputs)
    return out


def view_of(inputs: NetworkInput, view: int) -> NetworkInput:
    """One view of an input, alone."""
    assert inputs.views is not None and inputs.views.rig_BVK is not None
    length, text = inputs.views.num_frames, inputs.text
    frames = slice(view * length, (view + 1) * length)
    return replace(
        inputs,
        x_BCTHW=inputs.x_BCTHW[:, :, frames],
        condition_mask_B1THW=inputs.condition_mask_B1THW[:, :, frames],
        text=text[:, view] if text.dim() == 4 else text,
        views=CameraViews(
            inputs.views.slots_BV[:, view : view + 1],
            length,
            inputs.views.rig_BVK[:, view : view + 1],
        ),
    )


def within_views(monkeypatch: pytest.MonkeyPatch, num_views: int) -> None:
    """Let each view attend to itself alone, by the samples that it becomes."""
    whole = RopeSelfAttention.forward

    def forward(self: Any, x_LBE: Tensor, rope: Any, *others: Any) -> Tensor:
        parts = zip(
            x_LBE.chunk(num_views),
            rope.cos_LB1D.chunk(num_views),
            rope.sin_LB1D.chunk(num_views),
            strict=True,
        )
        return torch.cat([whole(self, x, type(rope)(cos, sin), *others) for x, cos, sin in parts])

    monkeypatch.setattr(RopeSelfAttention, "forward", forward)


@pytest.mark.parametrize("num_views", [2, 5, 7])
def test_views_that_do_not_see_each_other_are_so_many_separate_runs(
    num_views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time, learned position, masks, names, rigs and texts are those of each view."""
    net, inputs = make_net(), make_input(num_views)
    text = torch.randn(2, num_views, 5, TEXT, generator=torch.Generator().manual_seed(3))
    inputs = replace(inputs, text=text)
    alone = torch.cat([run(net, view_of(inputs, view)) for view in range(num_views)], dim=2)
    joined = run(net, inputs)
    within_views(monkeypatch, num_views)
    torch.testing.assert_close(run(net, inputs), alone, rtol=1e-5, atol=1e-6)
    assert (joined - alone).abs().max() > 1e-3, "attention joins the views"


def test_the_order_of_the_views_does_not_matter() -> None:
    net, inputs = make_net(), make_input(3)
    inputs = replace(inputs, text=torch.randn(2, 3, 5, TEXT))
    order = [2, 0, 1]
    parts = [view_of(inputs, view) for view in order]
    turned = replace(
        inputs,
        x_BCTHW=torch.cat([part.x_BCTHW for part in parts], dim=2),
        condition_mask_B1THW=torch.cat([part.condition_mask_B1THW for part in parts], dim=2),
        text=inputs.text[:, order],
        views=replace(
            inputs.views,
            slots_BV=inputs.views.slots_BV[:, order],
            rig_BVK=inputs.views.rig_BVK[:, order],
        ),
    )
    out = run(net, inputs).unflatten(2, (3, LENGTH))
    out_turned = run(net, turned).unflatten(2, (3, LENGTH))
    torch.testing.assert_close(out_turned, out[:, :, order], rtol=1e-4, atol=1e-5)


def test_one_view_is_the_network_of_one_camera_bit_for_bit() -> None:
    """A fresh embedding adds nothing, and weights of one camera load into a network of several."""
    one, several = make_net(slots=()), make_net()
    missing, unexpected = several.load_state_dict(one.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"view_embed"} and not unexpected
    several.view_embed.load_state_dict(DiT(several.config).view_embed.state_dict())
    inputs = make_input(1)
    assert torch.equal(run(several, inputs), run(one, replace(inputs, views=None)))


def test_names_and_rigs_change_what_is_seen_of_their_view_first() -> None:
    net, inputs = make_net(), make_input(3)
    for field in ("slots_BV", "rig_BVK"):
        changed = getattr(inputs.views, field).clone()
        changed[:, 1] = changed[:, 1] + 1
        out = run(net, replace(inputs, views=replace(inputs.views, **{field: changed})))
        assert not torch.allclose(out, run(net, inputs), atol=1e-4), field


def test_a_text_for_all_views_equals_its_copies() -> None:
    net, inputs = make_net(), make_input(3)
    copies = inputs.text[:, None].expand(-1, 3, -1, -1)
    cached = replace(inputs, text=net.encode_text(copies), places=net.encode_places(inputs))
    for same in (replace(inputs, text=copies), cached):
        torch.testing.assert_close(run(net, same), run(net, inputs), rtol=1e-5, atol=1e-6)
    other = copies.clone()
    other[:, 2] = 0
    assert not torch.allclose(run(net, replace(inputs, text=other)), run(net, inputs), atol=1e-4)


def test_length_is_counted_by_view() -> None:
    net = make_net()
    assert run(net, make_input(5, frames=4)).shape[2] == 20
    with pytest.raises(WrongFrameCountError, match=r"10 frames of 2 views, .* up to 8"):
        run(net, make_input(2, frames=5))


def test_architecture_of_one_camera_is_recorded_as_it_always_was() -> None:
    config = make_net(slots=()).config
    assert "view_slots" not in config.architecture()
    several = make_net().config
    again = DiTConfig.from_architecture(several.architecture())
    assert again.view_slots == SLOTS and several.architecture()["view_slots"] == list(SLOTS)


@pytest.mark.parametrize("slots", ["front", ["front", "front"], ["front", ""], [1]])
def test_slots_that_are_no_names(slots: object) -> None:
    with pytest.raises(ConfigError, match="view_slots"):
        DiTConfig(num_layers=1, hidden_size=72, num_attention_heads=3, view_slots=slots)


def test_names_find_their_slots_and_an_unknown_name_the_free_one() -> None:
    batch = {"views": [("front", "roof"), ("right", "front")]}
    views = camera_views(batch, make_net().config, 8, CPU)
    assert views.slots_BV.tolist() == [[0, 3], [2, 0]] and views.num_frames == 4
    keep = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert views.hide_names(keep, make_net().config).slots_BV.tolist() == [[0, 3], [3, 0]]


BAD: list[tuple[tuple[str, ...], dict[str, Any], int, type[Exception], str]] = [
    ((), {"views": [("front", "left")]}, 8, ConfigError, "2 views .*built for one camera"),
    (SLOTS, {"views": [("front", "left")]}, 7, SampleError, "7 latent frames do not divide"),
    (SLOTS, {"views": [("a", "b"), ("a",)]}, 8, SampleError, r"different numbers of views: \[1, 2"),
    (SLOTS, {"views": [tuple("abcdefgh")]}, 8, SampleError, "8 views; a model takes up to 7"),
    (
        SLOTS,
        {"views": [("a", "b")], "rig_poses": torch.zeros(1, 3, 4, 4)},
        8,
        SampleError,
        "3 cameras, but the samples have 2 views",
    ),
]


@pytest.mark.parametrize(("slots", "batch", "frames", "error", "message"), BAD)
def test_batches_that_do_not_fit(
    slots: tuple[str, ...],
    batch: dict[str, Any],
    frames: int,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        camera_views(batch, make_net(slots).config, frames, CPU)


def turn(axis: int, angle: float) -> Tensor:
    """A rotation about an axis, radians."""
    first, second = [i for i in range(3) if i != axis]
    matrix = torch.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def test_a_rig_is_told_relative_to_its_first_camera() -> None:
    """The vehicle's own axes do not matter; an angle of view does, whatever the lens."""
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, :3, :3] = turn(1, 0.7)
    poses[0, 1, :3, 3] = torch.tensor([1.0, 0.0, -2.0])
    intrinsics = torch.tensor([[50.0, 0, 40], [0, 50, 20], [0, 0, 1]]).repeat(1, 2, 1, 1)
    size = torch.tensor([48.0, 80.0]).repeat(1, 2, 1)
    values = rig_values(poses, intrinsics, size)
    assert values.shape == (1, 2, 17)
    torch.testing.assert_close(values[0, 1, :9].view(3, 3), turn(1, 0.7))
    torch.testing.assert_close(values[0, 1, 9:12], torch.tensor([1.0, 0.0, -2.0]))
    half = [math.atan(24 / 50), math.atan(40 / 50)]
    torch.testing.assert_close(values[0, 0, 12:14], torch.tensor(half))
    torch.testing.assert_close(values[0, 0, 14:16], torch.tensor([20 / 48 - 0.5, 0.0]))

    world = torch.eye(4)
    world[:3, :3], world[:3, 3] = turn(2, 1.1) @ turn(0, 0.3), torch.tensor([5.0, 6.0, 7.0])
    torch.testing.assert_close(rig_values(world @ poses, intrinsics, size), values)

    polynomials = torch.tensor([[[0.0, 1.0, 0.1], [0.0, 0.0, 0.0]]])  # a fisheye and a pinhole
    angles = rig_values(poses, intrinsics, size, polynomials)[0, :, 13].tolist()
    assert angles == pytest.approx([40 / 50 + 0.1 * (40 / 50) ** 2, half[1]])
