"""One world for several robots: whose actions, how wide, and through which layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nemo_cosmos.controls import (
    ControlSpec,
    comparable_options,
    controls_of,
    encode_arrays,
    find_embodiment,
    settled,
)
from nemo_cosmos.data.controls import read_control
from nemo_cosmos.errors import ConfigError, InputError, SampleError
from nemo_cosmos.evaluation.episode import EpisodeSource
from nemo_cosmos.evaluation.obedience import partners_of
from post_training.robotics.action import ActionEmbedder
from post_training.robotics.several import tell

HIDDEN, FACTOR = 24, 4
TWO = ("bridge_7", "arm_10")
SHAPE = (2, 16, 3, 4, 4)
NUM_ACTIONS = 8
SPEC = settled(ControlSpec("action", {"embodiments": list(TWO), "cumulative": True}))
ARM_10_STILL = [0.0, 0, 0, 1, 0, 0, 0, 1, 0, 1]


def actions(width: int) -> np.ndarray:
    if width == 7:
        return np.random.default_rng(0).normal(size=(NUM_ACTIONS, 7)).astype(np.float32)
    return np.tile(np.array(ARM_10_STILL, np.float32), (NUM_ACTIONS, 1))


@pytest.fixture
def embedder() -> ActionEmbedder:
    torch.manual_seed(0)
    made = ActionEmbedder(HIDDEN, FACTOR, **SPEC.options)
    for mlp in (made.timestep, made.adaln_lora):
        torch.nn.init.normal_(mlp[-1].weight)
    return made


def signal() -> Any:
    (control,) = controls_of([SPEC])
    return control.signals[0]


def told(name: str) -> torch.Tensor:
    several = [find_embodiment(one) for one in TWO]
    return torch.from_numpy(tell(several, name, actions(find_embodiment(name).width)))


def test_the_world_folder_holds_both_tables() -> None:
    records = SPEC.options["embodiments"]
    assert [one["name"] for one in records] == list(TWO)
    json.dumps(SPEC.to_dict())
    one = settled(ControlSpec("action", {"embodiments": ["arm_10"], "mean": [0.0] * 7}))
    assert one.options["embodiment"]["name"] == "arm_10" and "mean" not in one.options
    assert comparable_options(SPEC) != comparable_options(one)


@pytest.mark.parametrize("record", [{}, {"embodiment": "arm_10"}])
def test_a_samples_record_or_its_width_says_whose_actions_it_has(record: dict[str, str]) -> None:
    (control,) = controls_of([SPEC])
    contents = {"action.npy": encode_arrays("action.npy", {"action": actions(10)})}
    batch = read_control(control, contents, NUM_ACTIONS + 1, "sample 'a'", record)
    assert batch["action"].shape == (NUM_ACTIONS, 11)
    assert batch["action"][0].tolist() == [1.0, *ARM_10_STILL]


def test_narrower_actions_are_padded_and_complete_ones_stay() -> None:
    values = signal().completed({"action": actions(7)}, {})
    assert (values["action"][:, 0] == 0).all() and not values["action"][:, 8:].any()
    assert signal().completed(values, {}) is values
    assert signal().kind_of(values) == "bridge_7"


def test_each_robot_goes_through_its_own_layers(embedder: ActionEmbedder) -> None:
    mixed = {"action": torch.stack([told("bridge_7"), told("arm_10")])}
    whole = embedder(mixed, SHAPE)
    for row, name in enumerate(TWO):
        alone = embedder({"action": told(name)[None]}, (1, *SHAPE[1:]))
        torch.testing.assert_close(whole.timestep_BTD[row], alone.timestep_BTD[0])
        torch.testing.assert_close(whole.adaln_lora_BT3D[row], alone.adaln_lora_BT3D[0])
    whole.timestep_BTD.sum().backward()
    gradient = embedder.timestep[0].weight.grad
    first, second = 7 * FACTOR + 6, 10 * FACTOR + 3  # with the sums of what adds up
    assert gradient.shape[1] == embedder.num_inputs == first + second + len(TWO)
    assert gradient[:, :first].any() and gradient[:, first : first + second].any()
    assert embedder({}, (2, 16, 1, 4, 4)).timestep_BTD.shape == (2, 1, HIDDEN), "an image"


def test_the_padding_of_a_narrow_robot_changes_nothing(embedder: ActionEmbedder) -> None:
    rows = told("bridge_7")[None]
    padded = rows.clone()
    padded[..., 8:] = 3.0
    shape = (1, *SHAPE[1:])
    assert torch.equal(
        embedder({"action": rows}, shape).timestep_BTD,
        embedder({"action": padded}, shape).timestep_BTD,
    )


def test_doses_keep_the_robot_and_its_rotations() -> None:
    none = signal().scaled({"action": told("arm_10").numpy()}, 0.0)["action"]
    assert none[0].tolist() == [1.0, *ARM_10_STILL[:9], 0.0]


@pytest.mark.parametrize(
    ("given", "record", "message"),
    [
        (np.zeros((8, 6)), {}, r"shape \(8, 6\); expected \(N, 7\) of 'bridge_7' .*\(N, 10\) of"),
        (np.zeros((8, 7)), {"embodiment": "arm_10"}, r"\(8, 7\); expected \(N, 10\) of 'arm_10'"),
        (np.zeros((8, 7)), {"embodiment": "humanoid_29"}, "'humanoid_29', but .*'arm_10'"),
        (np.zeros(7), {}, r"shape \(7,\); expected"),
    ],
)
def test_actions_of_no_robot_of_the_world_are_refused(
    given: np.ndarray, record: dict[str, str], message: str
) -> None:
    with pytest.raises(SampleError, match=message):
        signal().completed({"action": given}, record, "'a.action.npy'")


def test_rows_that_are_wrong_are_named() -> None:
    rows = told("arm_10").numpy()
    rows[3, 4] = 0.0
    with pytest.raises(SampleError, match="no rotation in row 3"):
        signal().check({"action": rows}, NUM_ACTIONS + 1)
    rows = told("bridge_7").numpy()
    rows[2, 0] = 1
    with pytest.raises(SampleError, match=r"embodiments \[0.0, 1.0\]"):
        signal().check({"action": rows}, NUM_ACTIONS + 1)


def test_robots_of_one_width_are_told_apart_by_name(tmp_path: Path) -> None:
    own = find_embodiment("bridge_7").to_dict() | {"name": "mirrored_7"}
    spec = ControlSpec("action", {"embodiments": ["bridge_7", own]})
    (control,) = controls_of([settled(spec)])
    (both,) = control.signals
    with pytest.raises(SampleError, match=r"'bridge_7' or 'mirrored_7'.*--embodiment"):
        both.completed({"action": actions(7)}, {})
    assert both.completed({"action": actions(7)}, {"embodiment": "mirrored_7"})["action"][0, 0] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bridge_7", "expected a list"),
        ([], "expected a list"),
        (["bridge_7", "bridge_7"], "'bridge_7' twice"),
        (["bridge_7", "no_such"], "There is no embodiment 'no_such'"),
    ],
)
def test_impossible_lists_are_refused(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settled(ControlSpec("action", {"embodiments": given}))


def test_an_episode_is_never_told_another_robots_actions() -> None:
    kinds = ["bridge_7", "arm_10"] * 4

    def source(number: int) -> EpisodeSource:
        values = {"action": {"action": told(kinds[number]).numpy()}}
        return EpisodeSource(f"e{number}", number, lambda: None, lambda: values)

    sources = [source(number) for number in range(8)]
    found = partners_of(sources, [signal()])
    assert sorted(found) == list(range(8))
    assert all(kinds[n] == kinds[partner] and n != partner for n, partner in enumerate(found))
    with pytest.raises(InputError, match="one episode of 'arm_10'"):
        partners_of([sources[0], sources[2], sources[1]], [signal()])


def test_a_world_of_one_robot_refuses_the_named_actions_of_another() -> None:
    (control,) = controls_of([settled(ControlSpec("action", {"embodiment": "bridge_7"}))])
    (own,) = control.signals
    values = {"action": actions(7)}
    assert own.completed(values, {"embodiment": "bridge_7"}) is values
    assert own.completed(values, {}) is values
    with pytest.raises(SampleError, match=r"of the embodiment 'my_arm', but .*'bridge_7'"):
        own.completed(values, {"embodiment": "my_arm"}, "'a.action.npy'")
