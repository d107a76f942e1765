"""Mirrored and joined actions lead where their embodiment says, for every robot of the table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import PictureChange, known_signal
from nemo_cosmos.controls.embodiment import Embodiment, find_embodiment
from nemo_cosmos.controls.motions import join_motions, mirror_rows
from nemo_cosmos.controls.number_group import spans
from nemo_cosmos.controls.rotation import as_rotation, from_rotation
from nemo_cosmos.errors import SampleError

TABLE = ("bridge_7", "arm_10", "two_arms_20", "humanoid_29", "camera_9", "driving_9")
SIZE, WHOLE = (40, 60), (0, 0, 40, 60)


def arm(**changes):
    """An arm of one's own: angles in degrees, centimetres, seen from its base."""
    told = {"part": "arm", "relation": "step", "frame": "base", **changes}
    move = {**told, "kind": "position", "names": ["x", "y", "z"], "units": "cm", "scale": 2}
    turn = {**told, "kind": "rotation", "names": ["a", "b", "c"], "units": "deg"}
    grip = {"part": "arm", "kind": "opening", "names": ["g"], "units": "0 to 1"}
    grip |= {"relation": "absolute", "high": "closed"}
    record = {"name": "mine", "numbers": [move, {**turn, "form": "axis_angle"}, grip]}
    return Embodiment.from_dict(record, "mine")


ROBOTS = [*map(find_embodiment, TABLE), arm(), arm(frame="gripper"), arm(frame="camera")]


def random_actions(embodiment, count, seed=0):
    random = np.random.default_rng(seed)
    rows = random.uniform(0, 1, (count, embodiment.width))
    for group, columns in spans(embodiment.numbers):
        if group.kind == "position":
            rows[:, columns] = random.normal(size=(count, 3)) * 0.1 * group.scale
        if group.kind == "rotation":
            turns = Rotation.from_rotvec(random.normal(size=(count, 3)) * 0.3)
            unit = 180 / np.pi if group.units == "deg" else 1.0
            rows[:, columns] = from_rotation(turns, group.form) * unit * group.scale
    return rows


def path_of(embodiment, part, rows, start_44):
    """Poses that the steps of a part lead to, by the definition of a step."""
    poses = [start_44]
    for row in rows:
        own, room = np.eye(4), np.eye(4)
        for group, columns in spans(embodiment.numbers):
            if group.part != part or group.kind == "opening":
                continue
            step_44 = own if group.moves_with_part else room
            values = row[columns] / group.scale
            if group.kind == "position":
                step_44[:3, 3] = values
            else:
                unit = np.pi / 180 if group.units == "deg" else 1.0
                step_44[:3, :3] = as_rotation(values[None] * unit, group.form).as_matrix()[0]
        pose = poses[-1] @ own
        turned = pose.copy()
        turned[:3, :3] = room[:3, :3] @ pose[:3, :3]  # about the room's axes, in its own place
        turned[:3, 3] += room[:3, 3]
        poses.append(turned)
    return np.stack(poses)


def starts():
    start_44 = np.eye(4)
    start_44[:3, :3] = Rotation.from_euler("xyz", [3.0, 0.2, 0.4]).as_matrix()
    return start_44


def parts_of(embodiment):
    return dict.fromkeys(group.part for group in embodiment.numbers)


OPPOSITE = {"left_arm": "right_arm", "right_arm": "left_arm"}
LATERAL = {"camera": 0, "head": 0, "vehicle": 1}


def own_signs(embodiment, part, axis):
    (frame,) = {group.frame for group in embodiment.numbers if group.part == part and group.frame}
    own = LATERAL.get(frame, LATERAL.get(part, axis if axis != 2 else 1))
    return np.where(np.arange(4) == own, -1.0, 1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("embodiment", ROBOTS, ids=lambda one: one.name)
def test_mirrored_actions_lead_along_the_mirrored_path_of_each_part(embodiment, axis):
    rows = random_actions(embodiment, 5)
    mirrored = mirror_rows(embodiment.numbers, rows, axis)
    world = np.where(np.arange(4) == axis, -1.0, 1.0)
    for part in parts_of(embodiment):
        own = own_signs(embodiment, part, axis)
        path = path_of(embodiment, part, rows, starts())
        start = world[:, None] * starts() * own
        other = path_of(embodiment, OPPOSITE.get(part, part), mirrored, start)
        np.testing.assert_allclose(other, world[:, None] * path * own, atol=1e-9)
    again = mirror_rows(embodiment.numbers, mirrored, axis)
    np.testing.assert_allclose(again, rows, atol=1e-9)


@pytest.mark.parametrize("embodiment", ROBOTS, ids=lambda one: one.name)
def test_joined_actions_lead_where_their_steps_led(embodiment):
    rows = random_actions(embodiment, 12)
    joined = join_motions(rows.reshape(4, 3, -1), {"embodiment": embodiment.to_dict()})
    for part in parts_of(embodiment):
        slow, fast = (path_of(embodiment, part, one, starts()) for one in (rows, joined))
        np.testing.assert_allclose(fast, slow[::3], atol=1e-9)
    for group, columns in spans(embodiment.numbers):
        if group.kind == "opening":
            np.testing.assert_array_equal(joined[:, columns], rows[2::3, columns])


def test_values_that_are_no_steps_are_the_last_ones():
    poses = arm(relation="absolute")
    rows = random_actions(poses, 6)
    joined = join_motions(rows.reshape(2, 3, -1), {"embodiment": poses.to_dict()})
    np.testing.assert_array_equal(joined, rows[2::3])


def test_absolute_poses_of_a_camera_are_those_of_the_mirrored_camera():
    """Seen from the room, but with the camera's own x axis mirrored."""
    group = {"part": "head", "kind": "rotation", "names": list("abcd"), "units": "none"}
    group |= {"form": "quaternion_xyzw", "relation": "absolute", "frame": "base"}
    head = Embodiment.from_dict({"name": "head", "numbers": [group]}, "head")
    turns = Rotation.random(4, random_state=1)
    mirrored = mirror_rows(head.numbers, turns.as_quat(), 1)
    expected = np.array([1, -1, 1])[:, None] * turns.as_matrix() * np.array([-1, 1, 1])
    np.testing.assert_allclose(Rotation.from_quat(mirrored).as_matrix(), expected, atol=1e-12)


def test_the_arms_of_a_robot_change_sides():
    two = find_embodiment("two_arms_20")
    rows = random_actions(two, 3)
    mirrored = mirror_rows(two.numbers, rows, 1)
    np.testing.assert_allclose(mirrored[:, 0], rows[:, 10])
    np.testing.assert_allclose(mirrored[:, 1], -rows[:, 11])
    np.testing.assert_allclose(mirrored[:, [9, 19]], rows[:, [19, 9]])


def follow(rows, record, suffix="action.npy"):
    signal = known_signal(suffix)
    return signal.follow({signal.name: rows}, PictureChange(SIZE, WHOLE, 1, record))


def test_the_recording_says_whose_its_numbers_are():
    rows = random_actions(find_embodiment("arm_10"), 3)
    mirrored = follow(rows, {"embodiment": "arm_10"})["action"]
    np.testing.assert_allclose(mirrored, mirror_rows(find_embodiment("arm_10").numbers, rows, 1))


@pytest.mark.parametrize(
    ("width", "record", "message"),
    [
        (10, {}, r"names none has, 'bridge_7', has 7 numbers.*--embodiment"),
        (7, {"embodiment": "arm_10"}, r"its JSON names, 'arm_10', has 10 numbers"),
        (7, {"embodiment": "my_arm"}, r"'my_arm', and nobody has said.*--embodiment FILE"),
    ],
)
def test_numbers_of_unknown_meaning_are_refused(width, record, message):
    with pytest.raises(SampleError, match=message):
        follow(np.zeros((4, width)), record)
    with pytest.raises(SampleError, match=message):
        join_motions(np.zeros((2, 2, width)), record)


def joints(**changes):
    group = {"part": "arm", "kind": "joints", "names": list("abcdefg"), "units": "rad"}
    return {"name": "joints", "numbers": [{**group, "relation": "step", **changes}]}


def test_seven_joints_are_not_taken_for_a_motion():
    with pytest.raises(SampleError, match=r"joints numbers of 'arm'.*mirror image"):
        follow(np.ones((4, 7)), {"embodiment": joints()})
    joined = join_motions(np.ones((2, 3, 7)), {"embodiment": joints()})
    np.testing.assert_array_equal(joined, 3 * np.ones((2, 7)))


def test_one_arm_of_a_side_has_no_mirror_image():
    numbers = find_embodiment("two_arms_20").to_dict()["numbers"][:3]
    with pytest.raises(SampleError, match="no such numbers of 'right_arm'"):
        follow(np.zeros((4, 10)), {"embodiment": {"name": "left", "numbers": numbers}})


def test_states_need_a_meaning_too():
    with pytest.raises(SampleError, match="'arm_10' does not say"):
        follow(np.zeros((4, 8)), {"embodiment": "arm_10"}, "state.npy")
