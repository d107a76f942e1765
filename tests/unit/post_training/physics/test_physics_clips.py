from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.controls import decode_arrays
from nemo_cosmos.controls.camera import CAMERA
from nemo_cosmos.controls.objects import OBJECTS
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import has
from nemo_cosmos.video import decode
from post_training.physics import (
    PHYSICS,
    SCENARIOS,
    PhysicsSettings,
    PhysicsStudio,
    clip_key,
    simulate_physics,
)

pytestmark = pytest.mark.skipif(not has("mujoco"), reason="MuJoCo is not installed (extra 'sim')")

TINY = PhysicsSettings(num_frames=4, height=48, width=64, seed=3)
NUM = len(SCENARIOS)


@pytest.fixture(scope="module")
def studio():
    return PhysicsStudio(TINY)


def test_a_clip_has_what_its_signal_promises(studio):
    clip = studio.record(0)
    assert clip.video.frames_THWC.shape == (4, 48, 64, 3)
    assert (clip.key, clip.split, clip.record["task"]) == ("physics_000000", "train", "falling")
    OBJECTS.check(clip.objects, 4)
    CAMERA.check(clip.camera, 4)
    num = len(clip.record["objects"])
    assert set(np.unique(clip.objects["mask"])) == set(range(num + 1))
    again = studio.record(0)
    np.testing.assert_array_equal(clip.video.frames_THWC, again.video.frames_THWC)
    assert np.abs(clip.video.frames_THWC - studio.record(2 * NUM).video.frames_THWC).max() > 9


def test_the_projection_puts_objects_where_their_masks_are(studio):
    clip = studio.record(6)
    for frame in range(4):
        rows, columns = np.nonzero(clip.objects["mask"][frame] == 1)
        place = np.array([*clip.objects["position_m"][frame, 0], 1])
        x, y, w = clip.objects["projection"] @ place
        # The camera signal says the same, in pixels and OpenCV's axes.
        seen = np.linalg.inv(clip.camera["poses"][frame]) @ place
        u, v, depth = clip.camera["intrinsics"][frame] @ seen[:3]
        np.testing.assert_allclose([u / depth, v / depth], [64 * x / w, 48 * y / w], atol=1e-6)
        assert (columns.mean() + 0.5) / 64 == pytest.approx(x / w, abs=0.01)
        assert (rows.mean() + 0.5) / 48 == pytest.approx(y / w, abs=0.01)


@pytest.mark.parametrize("place", [place for place, s in enumerate(SCENARIOS) if
                                   SCENARIOS[s].is_pushed])  # fmt: skip
def test_a_pair_shares_its_first_frame_and_not_its_push(studio, place):
    one, other = studio.record(place), studio.record(place + NUM)
    assert one.record["pair"] == other.key
    assert other.record["pair"] == one.key
    np.testing.assert_array_equal(one.video.frames_THWC[0], other.video.frames_THWC[0])
    np.testing.assert_array_equal(one.objects["other_position_m"], other.objects["position_m"])
    assert one.caption != other.caption
    assert one.split == other.split


def test_without_a_push_there_is_no_pair(studio):
    clip = studio.record(0)
    assert "pair" not in clip.record
    assert clip.objects["other_position_m"].shape == (4, 0, 3)


def test_a_board_hides_a_part_of_the_way_and_the_thing_comes_out_again():
    studio = PhysicsStudio(PhysicsSettings(height=48, width=64, scenarios=("rolling", "sliding")))
    hidden = [studio.record(index) for index in (4, 5, 6, 7)]
    clips = [clip for clip in hidden if clip.record["has_panel"]]
    assert len(clips) >= 3
    for clip in clips:
        seen = clip.objects["visible_fraction"][:, 0]
        behind = np.flatnonzero(seen < 0.1)
        assert seen[0] == 1 and len(behind) >= 1
        assert (clip.objects["is_whole"][behind[-1] :, 0]).sum() >= 3
        assert "board" in clip.caption


def test_a_folder_is_filled_and_resumed(tmp_path):
    report = simulate_physics(tmp_path, 2, TINY, workers=0)
    assert (report.num_new, report.renderer) == (2, "software")
    assert PHYSICS.read_manifest(tmp_path)["episodes"][1]["task"] == "sliding"
    record = json.loads((tmp_path / "physics_000001.json").read_text())
    assert record["caption"].startswith("A ") and record["num_frames"] == 4
    content = (tmp_path / "physics_000001.objects.npz").read_bytes()
    values = decode_arrays(OBJECTS.suffix, content, "the clip")
    OBJECTS.check(values, 4)
    assert decode(tmp_path / "physics_000001.mp4").fps == 20
    (tmp_path / "physics_000001.objects.npz").unlink()
    untouched = (tmp_path / "physics_000000.mp4").stat().st_mtime_ns
    assert simulate_physics(tmp_path, 2, TINY, workers=0).num_new == 1
    assert (tmp_path / "physics_000001.objects.npz").read_bytes() == content
    assert (tmp_path / "physics_000000.mp4").stat().st_mtime_ns == untouched
    with pytest.raises(ConfigError, match="other settings"):
        simulate_physics(tmp_path, 2, PhysicsSettings(num_frames=5, height=48, width=64, seed=3))
    with pytest.raises(ConfigError, match="Leave --renderer out"):
        simulate_physics(tmp_path, 2, TINY, renderer="egl")


def test_every_tenth_pair_is_for_validation(studio):
    index = 9 * 2 * NUM
    assert studio.record(index).split == "val"
    assert studio.record(index + 2 * NUM).split == "train"
    assert clip_key(7) == "physics_000007"


@pytest.mark.parametrize("names", [(), ("falling", "falling"), ("flying",)])
def test_impossible_scenarios_are_refused(names):
    with pytest.raises(ConfigError):
        PhysicsSettings(scenarios=names)
