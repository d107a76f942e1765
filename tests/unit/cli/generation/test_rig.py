"""How a person names the cameras of a world: a table's rig, a file, or names alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.cli.generation.asked import Cameras, read_controls
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from post_training.driving.rigs import find_rig


def test_a_rig_by_name_by_file_and_by_the_names_of_its_cameras(tmp_path: Path) -> None:
    assert Cameras().find() is None
    three = Cameras("three").find()
    assert three.views == ("front", "left", "right")
    values = three.signal(48, 64)
    np.savez(
        tmp_path / "rig.npz", **{name: values[name] for name in ("poses", "intrinsics", "size")}
    )
    read = Cameras(str(tmp_path / "rig.npz"), ["a,b", "c"]).find()
    assert read.views == ("a", "b", "c")
    assert np.allclose(read.signal(48, 64)["poses"], find_rig("three").signal(48, 64)["poses"])
    assert Cameras(views=["front,roof"]).find().signal(48, 64) == {}


def test_words_for_single_cameras() -> None:
    asked = Cameras(view_prompt=["rear=a red car, x=1", "left=rain"])
    assert asked.prompts() == {"rear": "a red car, x=1", "left": "rain"}
    for wrong in (["rear"], ["=rain"], ["rear= "]):
        with pytest.raises(ConfigError, match="is not VIEW=TEXT"):
            Cameras(view_prompt=wrong).prompts()
    with pytest.raises(ConfigError, match="'rear' has two prompts"):
        Cameras(view_prompt=["rear=a", "rear=b"]).prompts()


def test_layout_videos_are_no_arrays(tmp_path: Path) -> None:
    assert read_controls(None, [f"layout={tmp_path}"]) == {"layout": tmp_path}
    with pytest.raises((SampleError, MissingFileError)):
        read_controls(None, [f"trajectory={tmp_path}"])


def test_rigs_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rig 'sixx'"):
        Cameras("sixx").find()
    with pytest.raises(ConfigError, match="leave out --views"):
        Cameras("six", ["front"]).find()
    with pytest.raises(MissingFileError):
        Cameras(str(tmp_path / "rig.npz")).find()
    for wrong, reason in ((2.0, "no rotation"), (np.nan, "NaN")):
        values = find_rig("three").signal(48, 64)
        values["poses"][1, 0, 0] = wrong
        np.savez(tmp_path / "mine.npz", **values)
        with pytest.raises(SampleError, match=rf"mine\.npz.* {reason}"):
            Cameras(str(tmp_path / "mine.npz")).find()
