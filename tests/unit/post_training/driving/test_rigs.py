"""Rigs as data: the table, a person's own file, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.controls import RIG
from nemo_cosmos.controls.camera import pixel_rays
from nemo_cosmos.controls.rig import camera_of
from nemo_cosmos.errors import ConfigError, MissingFileError
from post_training.driving.rigs import built_in_rigs, find_rig

FRONT = {"place_m": [1.5, 0, 1.6], "yaw_deg": 0, "fov_deg": 90}


@pytest.fixture
def own(tmp_path):
    def write(record, name="van"):
        file = tmp_path / "rigs.yaml"
        file.write_text(json.dumps({name: record}))  # JSON is YAML
        return f"{file}:{name}"

    return write


def test_the_table_has_the_published_and_small_rigs():
    counts = {name: len(rig.views) for name, rig in built_in_rigs().items()}
    assert counts == {"three": 3, "five": 5, "six": 6, "one_to_many": 7}
    for rig in built_in_rigs().values():
        RIG.check(rig.signal(64, 96), 17)
    assert find_rig("six").views == ("front", "left", "right", "rear", "rear_left", "rear_right")


def test_a_camera_looks_where_its_angles_say(own):
    left = {**FRONT, "yaw_deg": 90, "pitch_deg": -10}
    rig = find_rig(own({"cameras": {"front": FRONT, "side": left}}))
    values = rig.signal(64, 96)
    ahead, aside = values["poses"][0, :3, 2], values["poses"][1, :3, 2]
    assert ahead == pytest.approx([1, 0, 0])
    down = np.radians(10)
    assert aside == pytest.approx([0, np.cos(down), -np.sin(down)])
    assert values["poses"][0, :3, 1] == pytest.approx([0, 0, -1])  # a picture's y leads down


@pytest.mark.parametrize("lens", [{}, {"lens": "ftheta", "polynomial": [0, 1.0, 0.05]}])
def test_a_lens_sees_as_wide_as_it_says(own, lens):
    values = find_rig(own({"cameras": {"front": {**FRONT, **lens}}})).signal(60, 100)
    camera = camera_of(values, 0, np.eye(4)[None])
    edges = pixel_rays(camera, 0, np.array([[0.0, 30], [100, 30]]))
    assert np.degrees(np.arccos(edges[0] @ edges[1])) == pytest.approx(90, abs=0.05)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"front": FRONT}, "expected 'cameras'"),
        ({"cameras": {f"v{number}": FRONT for number in range(8)}}, "expected 1 to 7"),
        ({"cameras": {"front": {**FRONT, "lens": "mei"}}}, "has the lens 'mei'"),
        ({"cameras": {"front": {**FRONT, "lens": "ftheta"}}}, "expected 'pinhole', or 'ftheta'"),
        ({"cameras": {"front": {**FRONT, "fov_deg": 190}}}, "expected 1 to 170"),
        ({"cameras": {"front": {**FRONT, "yaw": 3}}}, "expected 'place_m' and any of"),
        ({"cameras": {"front": {**FRONT, "place_m": [1, 2]}}}, "three finite numbers"),
        ({"cameras": {"front": {**FRONT, "place_m": [150, 0, 1]}}}, "from the vehicle's origin"),
    ],
)
def test_a_rig_that_cannot_be_is_refused_by_name(own, record, reason):
    with pytest.raises(ConfigError, match=reason):
        find_rig(own(record))


def test_an_unknown_name_says_which_there_are(tmp_path):
    with pytest.raises(ConfigError, match="three"):
        find_rig("thre")
    with pytest.raises(MissingFileError, match="no file"):
        find_rig(str(tmp_path / "no.yaml:van"))
