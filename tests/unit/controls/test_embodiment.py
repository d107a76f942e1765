from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls.embodiment import (
    Embodiment,
    built_in_embodiments,
    find_embodiment,
    of_width,
)
from nemo_cosmos.errors import ConfigError, MissingFileError

MY_ARM = {
    "title": "my arm",
    "rate_hz": 20,
    "numbers": [
        {"part": "arm", "kind": "joints", "names": [f"j{n}" for n in range(11)], "units": "rad",
         "relation": "step"},
        {"part": "arm", "kind": "opening", "names": ["hand"], "units": "0 to 1",
         "relation": "absolute", "high": "closed"},
    ],
}  # fmt: skip


def test_the_table_has_the_usual_widths() -> None:
    widths = {name: one.width for name, one in built_in_embodiments().items()}
    assert widths == {
        "bridge_7": 7, "arm_10": 10, "two_arms_20": 20, "humanoid_29": 29, "camera_9": 9,
        "driving_9": 9,
    }  # fmt: skip
    assert of_width(9) == ["camera_9", "driving_9"]


def test_what_adds_up_follows_relation_and_form() -> None:
    assert find_embodiment("bridge_7").adds_up == (0, 1, 2, 3, 4, 5)
    assert find_embodiment("two_arms_20").adds_up == (0, 1, 2, 10, 11, 12), "no 6-D rotation"


def test_a_file_of_ones_own_adds_any_width(tmp_path: Path) -> None:
    file = tmp_path / "robots.yaml"
    file.write_text(yaml.safe_dump({"mine": MY_ARM, "other": MY_ARM}))
    found = find_embodiment(f"{file}:mine")
    assert (found.name, found.width, found.adds_up) == ("mine", 12, tuple(range(11)))
    with pytest.raises(ConfigError, match="no embodiment ''; it has 'mine', 'other'"):
        find_embodiment(str(file))
    alone = tmp_path / "one.json"
    alone.write_text(json.dumps(found.to_dict()))
    assert find_embodiment(alone) == found
    assert find_embodiment(found.to_dict()) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nubmers": []}, "'nubmers', which means nothing here.*'numbers'"),
        ({"rate_hz": -1}, "rate_hz of 'mine' in .* is -1.*above 0"),
        ({"image": "sideways"}, "'sideways'; expected upright or turned_180"),
        ({"numbers": []}, "expected a list of groups"),
        ({"mean": [0.0] * 12}, "one of 'mean' and 'std'"),
        ({"mean": [0.0] * 7, "std": [1.0] * 7}, "has 12 numbers, but statistics of 7"),
        ({"mean": [0.0] * 12, "std": [0.0] * 12}, "deviations above 0"),
    ],
)
def test_a_wrong_record_says_what_and_where(tmp_path: Path, change: dict, message: str) -> None:
    file = tmp_path / "robots.yaml"
    file.write_text(yaml.safe_dump({"mine": {**MY_ARM, **change}}))
    with pytest.raises(ConfigError, match=message) as caught:
        find_embodiment(f"{file}:mine")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"kind": "joint"}, "'joint'; expected position or rotation or"),
        ({"relation": "delta"}, "'delta'; expected step or start or absolute"),
        ({"names": ["a", "a"]}, "the name 'a' twice"),
        ({"kind": "position", "frame": "base"}, "'rad'; expected m or cm or mm"),
        ({"kind": "position", "units": "m"}, "lacks 'frame'"),
        ({"kind": "rotation", "frame": "base"}, "expected euler_xyz or"),
        ({"kind": "rotation", "frame": "base", "form": "6d"}, "6 numbers, but names 11"),
        ({"kind": "opening"}, "expected open or closed"),
        ({"high": "open"}, "only an opening has"),
        ({"units": None}, "lacks 'units'"),
    ],
)
def test_a_wrong_group_says_which(group: dict, message: str) -> None:
    record = {"name": "x", "numbers": [{**MY_ARM["numbers"][0], **group}]}
    with pytest.raises(ConfigError, match=message) as caught:
        Embodiment.from_dict(record, "the embodiment 'x'")
    assert "embodiment 'x'" in str(caught.value)


def test_names_and_files_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no embodiment 'bridge7'.*'bridge_7'"):
        find_embodiment("bridge7")
    with pytest.raises(MissingFileError, match=r"no\.yaml"):
        find_embodiment(tmp_path / "no.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        find_embodiment(broken)
    with pytest.raises(ConfigError, match="expected a name"):
        find_embodiment(7)  # type: ignore[arg-type]


def test_a_row_that_is_no_rotation_is_named() -> None:
    arm = find_embodiment("arm_10")
    rotation = Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix()[:, :2].T.ravel()
    rows = np.tile([0, 0, 0, *rotation, 1], (5, 1))
    assert arm.find_row_fault(rows) is None
    rows[3, 3:9] *= 2
    assert "no rotation in row 3 (r11" in str(arm.find_row_fault(rows))
