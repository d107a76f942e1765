from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import (
    ControlSpec,
    comparable_options,
    controls_of,
    find_embodiment,
    settled,
)
from nemo_cosmos.errors import ConfigError, NumericsError, SampleError
from post_training.robotics.action import ActionEmbedder
from post_training.robotics.signal import ACTION, action_signal, action_stats

HIDDEN, FACTOR = 24, 4
LATENT_SHAPE = (2, 16, 3, 4, 4)


@pytest.fixture
def control() -> ActionEmbedder:
    torch.manual_seed(0)
    return ActionEmbedder(HIDDEN, FACTOR, mean=[1.0] * 7, std=[2.0] * 7)


def trained(control: ActionEmbedder) -> ActionEmbedder:
    for mlp in (control.timestep, control.adaln_lora):
        torch.nn.init.normal_(mlp[-1].weight)
    return control


def test_shapes_of_the_published_mlps(control: ActionEmbedder) -> None:
    shapes = {name: tuple(p.shape) for name, p in control.named_parameters()}
    assert shapes["timestep.0.weight"] == (4 * HIDDEN, 7 * FACTOR)
    assert shapes["timestep.2.weight"] == (HIDDEN, 4 * HIDDEN)
    assert shapes["adaln_lora.2.weight"] == (3 * HIDDEN, 4 * HIDDEN)


def test_it_starts_without_an_effect(control: ActionEmbedder) -> None:
    embedding = control({"action": torch.randn(2, 8, 7)}, LATENT_SHAPE)
    assert embedding.timestep_BTD.shape == (2, 3, HIDDEN)
    assert embedding.adaln_lora_BT3D.shape == (2, 3, 3 * HIDDEN)
    assert not embedding.timestep_BTD.any() and not embedding.adaln_lora_BT3D.any()
    embedding.timestep_BTD.sum().backward()
    assert control.timestep[-1].weight.grad.any(), "but it can learn"


def test_an_action_moves_only_the_latent_frame_that_it_leads_to(control: ActionEmbedder) -> None:
    actions = torch.randn(2, 8, 7)
    before = trained(control)({"action": actions}, LATENT_SHAPE)
    changed = actions.clone()
    changed[:, 5] += 1  # from pixel frame 5 to 6, which is in the third latent frame (5..8)
    after = control({"action": changed}, LATENT_SHAPE)
    moved = (after.timestep_BTD != before.timestep_BTD).any(dim=-1)
    assert moved.tolist() == [[False, False, True]] * 2
    assert not before.timestep_BTD[:, 0].any(), "nothing leads to the first frame"


def test_actions_are_normalised_and_kept_in_order(control: ActionEmbedder) -> None:
    actions = torch.arange(8 * 7, dtype=torch.float32).view(1, 8, 7)
    grouped = control.group(actions, num_latent_frames=3)
    assert torch.equal(grouped, ((actions - 1) / 2).view(1, 2, 28))


def test_cumulative_actions_end_where_the_robot_is() -> None:
    actions_BNA = torch.randn(2, 2 * FACTOR, 7)
    plain = ActionEmbedder(HIDDEN, FACTOR).group(actions_BNA, 3)
    grouped = ActionEmbedder(HIDDEN, FACTOR, cumulative=True).group(actions_BNA, 3)
    torch.testing.assert_close(grouped[..., : 7 * FACTOR], plain)
    moved = torch.stack([actions_BNA[:, :FACTOR].sum(dim=1), actions_BNA.sum(dim=1)], dim=1)
    torch.testing.assert_close(grouped[..., 7 * FACTOR :], moved[..., :6] / FACTOR)


def test_cumulative_actions_embed_videos_and_images() -> None:
    control = trained(ActionEmbedder(HIDDEN, FACTOR, cumulative=True))
    embedded = control({"action": torch.ones(2, 2 * FACTOR, 7)}, LATENT_SHAPE)
    assert embedded.timestep_BTD.shape == (2, 3, HIDDEN)
    assert not torch.equal(embedded.timestep_BTD[:, 1], embedded.timestep_BTD[:, 2])
    assert control({}, (2, 16, 1, 4, 4)).timestep_BTD.shape == (2, 1, HIDDEN)


def test_statistics_are_saved_with_the_weights(control: ActionEmbedder) -> None:
    other = ActionEmbedder(HIDDEN, FACTOR)
    other.load_state_dict(control.state_dict())
    assert other.mean.tolist() == [1.0] * 7 and other.std.tolist() == [2.0] * 7


def test_wrong_number_of_actions_says_how_many_are_needed(control: ActionEmbedder) -> None:
    with pytest.raises(SampleError, match=r"\(8, 7\)"):
        control({"action": torch.zeros(2, 9, 7)}, LATENT_SHAPE)


def test_an_image_needs_no_actions_but_a_video_does(control: ActionEmbedder) -> None:
    assert trained(control)({}, (2, 16, 1, 4, 4)).timestep_BTD.tolist() == [[[0.0] * HIDDEN]] * 2
    with pytest.raises(SampleError, match=r"action\.npy"):
        control({}, LATENT_SHAPE)


def test_the_action_signal_cuts_a_window() -> None:
    actions = np.arange(20 * 7, dtype=np.float64).reshape(20, 7)
    values = ACTION.values(actions)
    ACTION.check(values, num_frames=21)
    window = ACTION.batch(values, first_frame=3, num_frames=9)["action"]
    assert window.dtype == np.float32 and np.array_equal(window, actions[3:11])


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({}, SampleError, "no array 'action'"),
        ({"action": np.zeros((5, 7))}, SampleError, "5 rows; expected 8 for 9 frames"),
        ({"action": np.zeros((8, 6))}, SampleError, r"\(8, 7\)"),
        ({"action": np.full((8, 7), np.nan)}, NumericsError, "NaN"),
        (
            {"action": np.full((8, 7), 0.02e6)},
            NumericsError,
            "20000 in row 0; expected at most 1000",
        ),
    ],
)
def test_bad_actions(values: dict[str, np.ndarray], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ACTION.check(values, num_frames=9)


def test_stats_over_episodes() -> None:
    episodes = [np.ones((3, 7)), np.full((1, 7), 5.0)]
    episodes[0][:, 6] = episodes[1][:, 6] = 1.0
    stats = action_stats(episodes)
    assert stats["mean"][0] == 2.0 and stats["std"][0] == pytest.approx(np.sqrt(3))
    assert stats["std"][6] == 1.0, "a constant number passes unscaled"
    ActionEmbedder(HIDDEN, FACTOR, **stats)


def test_no_episodes_and_bad_stats() -> None:
    with pytest.raises(SampleError, match="no actions"):
        action_stats([])
    with pytest.raises(ConfigError, match="dataset inspect"):
        ActionEmbedder(HIDDEN, FACTOR, mean=[0.0] * 7, std=[0.0] * 7)


def test_real_bridge_episodes(samples_dir: Path) -> None:
    files = sorted((samples_dir / "robotics_bridge/annotation/train").glob("*.json"))
    episodes = [np.array(json.loads(path.read_text())["action"]) for path in files]
    stats = action_stats(episodes)
    assert max(stats["std"][:3]) < 0.1, "displacements are a few centimetres"
    actions = ACTION.batch({"action": episodes[0]}, 0, 9)["action"]
    grouped = ActionEmbedder(HIDDEN, FACTOR, **stats).group(torch.from_numpy(actions)[None], 3)
    assert grouped.shape == (1, 2, 28) and grouped.abs().max() < 20


def test_width_and_sums_follow_the_embodiment() -> None:
    control = trained(ActionEmbedder(HIDDEN, FACTOR, cumulative=True, embodiment="two_arms_20"))
    assert control.timestep[0].weight.shape == (4 * HIDDEN, 20 * FACTOR + 6)
    actions_BNA = torch.randn(2, 2 * FACTOR, 20)
    grouped = control.group(actions_BNA, 3)
    moved = actions_BNA[..., [0, 1, 2, 10, 11, 12]].sum(dim=1) / FACTOR
    torch.testing.assert_close(grouped[:, 1, 20 * FACTOR :], moved)
    assert control({"action": actions_BNA}, LATENT_SHAPE).timestep_BTD.shape == (2, 3, HIDDEN)
    with pytest.raises(SampleError, match=r"\(8, 20\).*left_dx"):
        control({"action": torch.zeros(2, 8, 7)}, LATENT_SHAPE)


def test_sums_need_numbers_that_add_up() -> None:
    numbers = [{"part": "a", "kind": "other", "names": ["a"], "units": "V", "relation": "absolute"}]
    with pytest.raises(ConfigError, match="'cumulative' sums"):
        ActionEmbedder(
            HIDDEN, FACTOR, cumulative=True, embodiment={"name": "x", "numbers": numbers}
        )


def test_a_model_holds_the_whole_record_in_place_of_a_name(tmp_path: Path) -> None:
    arm = find_embodiment("arm_10").with_statistics([0.5] * 10, [2.0] * 10)
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(arm.to_dict()))
    given = {"embodiment": str(file), "mean": [0.0] * 7, "std": [1.0] * 7, "cumulative": True}
    spec = settled(ControlSpec("action", given))
    assert spec.options == {"embodiment": arm.to_dict(), "cumulative": True}
    assert settled(spec) == spec
    assert ActionEmbedder(HIDDEN, FACTOR, **spec.options).mean.tolist() == [0.5] * 10
    (control,) = controls_of([spec])
    assert control.signals[0].arrays[0].shape == (10,)
    with pytest.raises(SampleError, match=r"expected \(8, 10\): dx, dy"):
        control.signals[0].check({"action": np.zeros((8, 7))}, 9, "'x.npy'")
    with pytest.raises(SampleError, match=r"of 'x\.npy' holds no rotation in row 0"):
        control.signals[0].check({"action": np.zeros((8, 10))}, 9, "'x.npy'")


def test_options_without_an_embodiment_stay_as_they_are() -> None:
    spec = ControlSpec("action", {"mean": [0.0] * 7, "std": [1.0] * 7})
    assert settled(spec) is spec
    (control,) = controls_of([spec])
    assert control.signals[0].arrays[0].shape == (7,)


def test_statistics_of_another_width_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'arm_10' has no statistics of its own.*dataset inspect"
    ):
        settled(
            ControlSpec("action", {"embodiment": "arm_10", "mean": [0.0] * 7, "std": [1.0] * 7})
        )


def test_half_of_a_motion_is_an_action_again() -> None:
    turned = Rotation.from_rotvec([[0.2, 0, 0], [0, 0.4, 0]])
    rows = np.column_stack(
        [np.ones((2, 3)), turned.as_matrix()[:, :, :2].swapaxes(1, 2).reshape(2, 6)]
    )
    signal = action_signal(find_embodiment("camera_9"))
    half = signal.scaled({"action": rows}, 0.5)["action"]
    signal.check({"action": half}, 3)
    np.testing.assert_allclose(half[:, :3], 0.5)
    columns = half[:, 3:].reshape(2, 2, 3).swapaxes(1, 2)
    expected = Rotation.from_rotvec([[0.1, 0, 0], [0, 0.2, 0]]).as_matrix()[:, :, :2]
    np.testing.assert_allclose(columns, expected, atol=1e-12)
    none = signal.scaled({"action": rows}, 0.0)["action"]
    np.testing.assert_allclose(none[:, 3:], [[1, 0, 0, 0, 1, 0]] * 2, atol=1e-12)


def test_less_of_a_path_of_joints_begins_where_it_begins() -> None:
    numbers = [{"part": "a", "kind": "joints", "names": ["j"], "units": "rad",
                "relation": "absolute"}]  # fmt: skip
    signal = action_signal(find_embodiment({"name": "x", "numbers": numbers}))
    rows = np.array([[1.0], [3.0]], np.float32)
    assert signal.scaled({"action": rows}, 0.5)["action"].tolist() == [[1.0], [2.0]]


def test_bridge_actions_scale_as_they_ever_did() -> None:
    rows = np.random.default_rng(0).normal(size=(8, 7)).astype(np.float32)
    signal = action_signal(find_embodiment("bridge_7"))
    for scale in (0.0, 0.5, 1.5):
        scaled = signal.scaled({"action": rows}, scale)["action"]
        assert np.array_equal(scaled, ACTION.scaled({"action": rows}, scale)["action"])


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no option 'embodyment'.*'embodiment'"):
        settled(ControlSpec("action", {"embodyment": "arm_10"}))


def test_worlds_of_earlier_releases_compare_as_bridge() -> None:
    stats = {"mean": [0.5] * 7, "std": [2.0] * 7}
    old = ControlSpec("action", {**stats, "cumulative": True})
    new = settled(ControlSpec("action", {**old.options, "embodiment": "bridge_7"}))
    assert new.options.keys() == {"embodiment", "cumulative"}
    assert comparable_options(old) == comparable_options(new)
    other = ControlSpec("action", {**stats, "cumulative": True, "std": [3.0] * 7})
    assert comparable_options(old)["std"] != comparable_options(other)["std"]
    torch.manual_seed(0)
    before = trained(ActionEmbedder(HIDDEN, FACTOR, **old.options))
    after = ActionEmbedder(HIDDEN, FACTOR, **new.options)
    after.load_state_dict(before.state_dict())
    batch = {"action": torch.randn(2, 8, 7)}
    torch.testing.assert_close(
        after(batch, LATENT_SHAPE).timestep_BTD, before(batch, LATENT_SHAPE).timestep_BTD
    )
