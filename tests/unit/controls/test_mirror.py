"""Signals of cut, mirrored and faster clips say what their pictures show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import (
    CAMERA,
    PictureChange,
    Signal,
    SignalArray,
    known_signal,
    unaffected,
)
from nemo_cosmos.controls.camera import ftheta_camera, project_rays
from nemo_cosmos.controls.mirror import mirror_axis_of
from nemo_cosmos.controls.motions import join_motions
from nemo_cosmos.controls.objects import OBJECTS
from nemo_cosmos.errors import SampleError

from .conftest import known_objects

SIZE = (40, 60)
WHOLE = (0, 0, *SIZE)
SCALE = [20.0] * 6 + [1.0]
AXES = (0, 1, 2)


@pytest.fixture
def random():
    return np.random.default_rng(4)


def camera_of(random, num_frames=3):
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, :3, :3] = Rotation.random(num_frames, random_state=3).as_matrix()
    poses[:, :3, 3] = random.normal(size=(num_frames, 3))
    lens = np.array([[50.0, 3, 28], [0, 45, 17], [0, 0, 1]])
    return {"poses": poses, "intrinsics": np.tile(lens, (num_frames, 1, 1)), "size": np.array(SIZE)}


def pixels_of(camera, frame, points_N3):
    pose = camera["poses"][frame]
    return project_rays(camera, frame, (points_N3 - pose[:3, 3]) @ pose[:3, :3])


def in_front_of(camera, frame, random):
    pose = camera["poses"][frame]
    seen_N3 = np.c_[random.uniform(-0.3, 0.3, (8, 2)), random.uniform(1, 3, 8)]
    return seen_N3 @ pose[:3, :3].T + pose[:3, 3]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("lens", ["pinhole", "f-theta"])
def test_a_mirrored_point_is_seen_where_the_mirrored_picture_shows_it(random, axis, lens):
    camera = camera_of(random)
    if lens == "f-theta":
        camera = ftheta_camera(camera["poses"], (28, 17), SIZE, (0, 0.02, 0, 1e-6))
    box = (4, 6, 36, 51)
    mirrored = CAMERA.follow(camera, PictureChange(SIZE, box, axis))
    CAMERA.check(mirrored, 3)
    for frame in range(3):
        points_N3 = in_front_of(camera, frame, random)
        x, y = (pixels_of(camera, frame, points_N3) - [6, 4]).T
        signs = np.where(np.arange(3) == axis, -1, 1)
        found_N2 = pixels_of(mirrored, frame, points_N3 * signs)
        np.testing.assert_allclose(found_N2, np.c_[45 - x, y], atol=1e-6)


def test_what_a_model_reads_of_a_camera_does_not_depend_on_the_axis(random):
    """Models take poses relative to the first frame."""
    relative = []
    for axis in AXES:
        poses = CAMERA.follow(camera_of(random), PictureChange(SIZE, WHOLE, axis))["poses"]
        relative.append(np.linalg.inv(poses[0]) @ poses)
        random = np.random.default_rng(4)
    np.testing.assert_allclose(relative[0], relative[1], atol=1e-9)
    np.testing.assert_allclose(relative[0], relative[2], atol=1e-9)


def examples(random):
    objects = known_objects()
    objects |= {
        "support_m": np.array([[-1.0, 0], [1, 0.5]]),
        "position_m": random.normal(size=(2, 2, 3)),
    }
    return {
        "camera.npz": camera_of(random),
        "objects.npz": objects,
        "things.npz": {"position_m": random.normal(size=(3, 2, 3)), "half_m": np.ones(2)},
        "action.npy": {"action": random.normal(size=(4, 7)).astype(np.float32)},
        "state.npy": {"state": random.normal(size=(5, 7)).astype(np.float32)},
        "trajectory.npy": {"trajectory": random.normal(size=(3, 3))},
    }


@pytest.mark.parametrize("axis", [0, 1])
def test_twice_mirrored_is_as_before(random, axis):
    for suffix, values in examples(random).items():
        signal, change = known_signal(suffix), PictureChange(SIZE, WHOLE, axis)
        once = signal.follow(values, change)
        assert any(not np.array_equal(once[name], values[name]) for name in values), suffix
        twice = signal.follow(once, change)
        for name, array in values.items():
            assert twice[name].dtype == array.dtype or name in ("intrinsics", "size", "mask")
            np.testing.assert_allclose(twice[name], array, atol=1e-6, err_msg=f"{suffix} {name}")


def test_a_crop_leaves_alone_what_counts_no_pixels(random):
    for suffix, values in examples(random).items():
        if suffix in ("camera.npz", "objects.npz"):
            continue
        followed = known_signal(suffix).follow(values, PictureChange(SIZE, (1, 2, 30, 40)))
        for name, array in values.items():
            np.testing.assert_array_equal(followed[name], array)


def test_objects_are_mirrored_with_their_masks():
    known = known_objects()
    followed = OBJECTS.follow(known, PictureChange(SIZE, (0, 10, 40, 60), 0))
    OBJECTS.check(followed, 2)
    np.testing.assert_array_equal(followed["mask"], known["mask"][:, :, :9:-1])
    point = np.array([0.4, 0.3, 0.2, 1])
    before, after = (
        one["projection"] @ (point * [sign, 1, 1, 1]) for one, sign in ((known, 1), (followed, -1))
    )
    x, y = before[:2] / before[2] * [60, 40]
    np.testing.assert_allclose(after[:2] / after[2] * [50, 40], [60 - x, y])
    assert np.all(np.diff(followed["support_m"][:, 0]) > 0), "the ground still leads to the right"


def integrated(actions_TA, start):
    """Positions and rotations that actions lead to, by the definition of an action."""
    position, rotation = np.zeros(3), start
    yield position, rotation
    for action in actions_TA / SCALE:
        position = position + rotation.apply(action[:3])
        rotation = rotation * Rotation.from_euler("xyz", action[3:6])
        yield position, rotation


@pytest.mark.parametrize("axis", AXES)
def test_mirrored_actions_lead_along_the_mirrored_path(random, axis):
    actions = random.normal(size=(6, 7))
    start = Rotation.from_euler("xyz", [3.0, 0.2, 0.4])
    change = PictureChange(SIZE, WHOLE, axis)
    state = {"state": np.r_[0, 0, 0, start.as_euler("xyz"), 1][None]}
    mirrored_start = known_signal("state.npy").follow(state, change)["state"][0, 3:6]
    mirrored = known_signal("action.npy").follow({"action": actions}, change)["action"]
    signs = np.where(np.arange(3) == axis, -1.0, 1.0)
    paths = (
        integrated(actions, start),
        integrated(mirrored, Rotation.from_euler("xyz", mirrored_start)),
    )
    for (position, rotation), (other, turned) in zip(*paths, strict=True):
        np.testing.assert_allclose(other, position * signs, atol=1e-9)
        # A gripper has no mirror image along its own z, so that there it is mirrored along its y.
        own = signs if axis != 2 else np.array([1.0, -1, 1])
        expected = signs[:, None] * rotation.as_matrix() * own
        np.testing.assert_allclose(turned.as_matrix(), expected, atol=1e-9)
    np.testing.assert_array_equal(mirrored[:, 6], actions[:, 6])


@pytest.mark.parametrize("roll", [0.1, np.pi - 0.1, np.pi + 0.1, -np.pi + 0.1])
def test_a_mirrored_roll_has_no_jump_and_stays_where_recordings_keep_it(roll):
    states = np.zeros((5, 7))
    states[:, 3] = roll + np.linspace(-0.2, 0.2, 5)
    change = PictureChange(SIZE, WHOLE, 1)
    mirrored = known_signal("state.npy").follow({"state": states}, change)["state"]
    assert np.abs(np.diff(mirrored[:, 3])).max() < 0.2
    assert np.abs(mirrored[:, 3] - states[:, 3]).max() < 0.7


def test_joined_actions_are_the_composed_motion(random):
    actions = random.normal(size=(12, 7)) * 5
    signal = known_signal("action.npy")
    record = {"action": {"scale": SCALE}}
    joined = signal.pick({"action": actions}, 2, 4, 3, record)["action"]
    assert joined.shape == (3, 7)
    start = Rotation.from_euler("xyz", [3.0, 0.2, 0.4])
    slow, fast = list(integrated(actions[2:11], start)), list(integrated(joined, start))
    for (position, rotation), (other, turned) in zip(slow[::3], fast, strict=True):
        np.testing.assert_allclose(other, position, atol=1e-9)
        np.testing.assert_allclose(turned.as_matrix(), rotation.as_matrix(), atol=1e-9)
    np.testing.assert_array_equal(joined[:, 6], actions[4:11:3, 6])


def test_without_their_scale_actions_are_added(random):
    rows = random.normal(size=(2, 3, 7)).astype(np.float32)
    joined = join_motions(rows, {})
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined[:, :6], rows[:, :, :6].sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(joined[:, 6], rows[:, 2, 6])


def test_frames_are_picked(random):
    camera = camera_of(random, 9)
    picked = CAMERA.pick(camera, 1, 3, 3, {})
    np.testing.assert_array_equal(picked["poses"], camera["poses"][[1, 4, 7]])
    np.testing.assert_array_equal(picked["size"], SIZE)


def test_the_axis_along_the_picture_is_mirrored():
    looks_along_x = np.eye(4)
    looks_along_x[:3, :3] = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]).T
    assert mirror_axis_of(looks_along_x[None]) == 1
    assert mirror_axis_of(np.eye(4)[None]) == 0


def test_what_nobody_has_declared_is_refused():
    depth = Signal("depth.npy", (SignalArray("depth", "frame"),))
    with pytest.raises(SampleError, match=r"nobody has said what becomes of it.*in_picture"):
        depth.follow({"depth": np.zeros((3, 4, 4))}, PictureChange(SIZE, WHOLE, 0))
    force = Signal("force.npy", (SignalArray("force", "step"),), in_picture=unaffected)
    assert force.follow({"force": np.ones(2)}, PictureChange(SIZE, WHOLE, 0))["force"].all()
    with pytest.raises(SampleError, match=r"'force'.*nobody knows how to join"):
        force.pick({"force": np.zeros(8)}, 0, 3, 2, {})


@pytest.mark.parametrize("suffix", ["action.npy", "state.npy", "trajectory.npy"])
def test_numbers_of_unknown_meaning_are_refused(suffix):
    signal = known_signal(suffix)
    with pytest.raises(SampleError, match=r"shape \(4, 12\)"):
        signal.follow({signal.name: np.zeros((4, 12))}, PictureChange(SIZE, WHOLE, 0))


def test_joining_actions_of_unknown_meaning_is_refused():
    with pytest.raises(SampleError, match=r"names none has, 'bridge_7', has 7 numbers"):
        known_signal("action.npy").pick({"action": np.zeros((4, 12))}, 0, 3, 2, {})
