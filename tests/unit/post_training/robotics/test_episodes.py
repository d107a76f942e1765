from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import MissingFileError, NumericsError, SampleError
from nemo_cosmos.video import Video
from post_training.robotics.episodes import (
    EPISODES,
    Episode,
    read_episode,
    write_episode,
)


def make_episode(key: str = "one", num_frames: int = 4) -> Episode:
    rng = np.random.default_rng(0)
    frames = np.zeros((num_frames, 32, 48, 3), np.uint8)
    frames[..., 0] = 40 * np.arange(num_frames, dtype=np.uint8)[:, None, None]
    return Episode(
        key=key,
        video=Video(frames, 10.0),
        actions=rng.uniform(-1, 1, (num_frames - 1, 7)).astype(np.float32),
        states=rng.uniform(-1, 1, (num_frames, 7)).astype(np.float32),
        action_scale=np.array([20.0] * 6 + [1.0]),
        caption="A robot arm moves.",
        split="train",
        record={"task": "move", "source": "test"},
    )


def test_an_episode_comes_back_as_it_was_written(tmp_path: Path) -> None:
    episode = make_episode()
    assert not EPISODES.is_complete(tmp_path, "one")
    write_episode(tmp_path, episode)
    assert EPISODES.is_complete(tmp_path, "one")
    again = read_episode(tmp_path, "one")
    np.testing.assert_array_equal(again.actions, episode.actions)
    np.testing.assert_array_equal(again.states, episode.states)
    np.testing.assert_array_equal(again.action_scale, episode.action_scale)
    assert (again.caption, again.split, again.record) == (
        "A robot arm moves.",
        "train",
        episode.record,
    )
    difference = np.abs(again.video.frames_THWC.astype(int) - episode.video.frames_THWC)
    assert difference.max() < 8
    assert json.loads((tmp_path / "one.json").read_text())["num_frames"] == 4


def test_manifest_lists_the_episodes(tmp_path: Path) -> None:
    assert EPISODES.read_manifest(tmp_path) is None
    write_episode(tmp_path, make_episode("a"))
    write_episode(tmp_path, make_episode("b"))
    EPISODES.write_manifest(tmp_path, {"seed": 1}, ["a", "b"])
    manifest = EPISODES.read_manifest(tmp_path)
    assert manifest is not None
    assert manifest["settings"] == {"seed": 1}
    assert manifest["episodes"][1] == {
        "key": "b",
        "split": "train",
        "task": "move",
        "caption": "A robot arm moves.",
        "num_frames": 4,
    }


@pytest.mark.parametrize("content", ["{}", "not json", "[]"])
def test_a_foreign_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SampleError, match="not a list of robot episodes"):
        EPISODES.read_manifest(tmp_path)


def test_parts_that_do_not_fit_are_refused() -> None:
    good = make_episode()
    with pytest.raises(SampleError, match="4 rows; expected 3 for 4 frames"):
        Episode("x", good.video, good.states, good.states, good.action_scale, "", "train")
    broken = good.states.copy()
    broken[1, 2] = np.nan
    with pytest.raises(NumericsError, match="NaN"):
        Episode("x", good.video, good.actions, broken, good.action_scale, "", "train")


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no episode 'one'"):
        EPISODES.read_record(tmp_path, "one")
    write_episode(tmp_path, make_episode())
    (tmp_path / "one.state.npy").unlink()
    with pytest.raises(MissingFileError, match="lacks"):
        read_episode(tmp_path, "one")
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(SampleError, match="not valid JSON"):
        EPISODES.read_record(tmp_path, "one")
    (tmp_path / "one.json").write_text('{"caption": "x"}')
    with pytest.raises(SampleError, match="not the description"):
        EPISODES.read_record(tmp_path, "one")


def test_an_interrupted_write_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_episode(tmp_path, make_episode())

    def fail(*_: object, **__: object) -> None:
        raise OSError("stopped")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="stopped"):
        write_episode(tmp_path, make_episode())
    assert not EPISODES.is_complete(tmp_path, "one")
