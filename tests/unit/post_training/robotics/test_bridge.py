from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import MissingFileError, SampleError
from nemo_cosmos.video import Video, encode_video
from post_training.robotics.bridge import convert_bridge, find_recordings, read_recording
from post_training.robotics.episodes import EPISODES, read_episode


def make_recording(folder: Path, number: str, num_frames: int = 5, **changes: Any) -> None:
    rng = np.random.default_rng(int(number))
    states = np.concatenate(
        [
            rng.uniform(0.1, 0.3, (num_frames, 3)),
            rng.uniform(-0.3, 0.3, (num_frames, 3)) + np.array([np.pi, 0, 0]),
            rng.integers(0, 2, (num_frames, 1)),
        ],
        axis=1,
    )
    rotations = Rotation.from_euler("xyz", states[:, 3:6])
    moved = rotations[:-1].inv().apply(np.diff(states[:, :3], axis=0))
    turned = (rotations[:-1].inv() * rotations[1:]).as_euler("xyz")
    annotation = {
        "texts": ["put the pot on the cloth"],
        "state": states.tolist(),
        "action": np.concatenate([moved, turned, states[1:, 6:]], axis=1).tolist(),
        **changes,
    }
    file = folder / "annotation" / "train" / f"{number}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(annotation))
    frames = np.full((num_frames, 48, 64, 3), 90, np.uint8)
    encode_video(folder / "videos" / "train" / number / "rgb.mp4", Video(frames, 3.0))


def test_a_recording_becomes_an_episode(tmp_path: Path) -> None:
    make_recording(tmp_path, "7")
    episode = read_recording(tmp_path, "train", "7", size=(24, 32))
    assert episode.key == "bridge_train_7"
    assert episode.caption == "put the pot on the cloth"
    assert episode.video.frames_THWC.shape == (5, 24, 32, 3)
    assert episode.video.fps == 5
    stored = json.loads((tmp_path / "annotation/train/7.json").read_text())["action"]
    np.testing.assert_allclose(episode.actions[:, :6], np.array(stored)[:, :6] * 20, rtol=1e-5)
    np.testing.assert_array_equal(episode.actions[:, 6], np.array(stored)[:, 6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": [" "]}, "no words"),
        ({"texts": None}, "no words"),
        ({"state": "none"}, "no proper 'state'"),
        ({"state": [[0.0] * 6] * 5}, r"shape \(5, 6\)"),
        ({"action": [[0.0] * 7] * 5}, "5 actions and 5 states"),
        ({"action": [[0.0] * 7] * 4}, "convention"),
    ],
)
def test_damaged_annotations_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    make_recording(tmp_path, "1", **changes)
    with pytest.raises(SampleError, match=message):
        read_recording(tmp_path, "train", "1")


def test_conversion_leaves_out_what_is_damaged_with_its_reason(tmp_path: Path) -> None:
    data, out = tmp_path / "bridge", tmp_path / "out"
    make_recording(data, "1")
    make_recording(data, "2", texts=[])
    make_recording(data, "3")
    make_recording(data, "4")
    make_recording(data, "5")
    (data / "videos/train/3/rgb.mp4").unlink()
    (data / "videos/train/4/rgb.mp4").write_bytes(b"no video")
    (data / "annotation/train/5.json").write_text("{")
    seen: list[tuple[int, int]] = []
    report = convert_bridge(data, out, progress=lambda done, total: seen.append((done, total)))
    assert report.num_converted == 1
    assert sorted(report.rejected) == ["train/2", "train/3", "train/4", "train/5"]
    assert seen[-1] == (5, 5)
    manifest = EPISODES.read_manifest(out)
    assert manifest is not None
    assert [entry["key"] for entry in manifest["episodes"]] == ["bridge_train_1"]


def test_an_empty_folder_or_missing_annotation_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="holds no"):
        find_recordings(tmp_path)
    with pytest.raises(MissingFileError, match="no annotation"):
        read_recording(tmp_path, "train", "9")


def test_the_real_sample_converts(samples_dir: Path, tmp_path: Path) -> None:
    report = convert_bridge(samples_dir / "robotics_bridge", tmp_path, size=(48, 64))
    assert (report.num_converted, report.rejected) == (15, {})
    episode = read_episode(tmp_path, "bridge_train_5873")
    assert episode.video.frames_THWC.shape == (16, 48, 64, 3)
    assert (episode.caption, episode.split) == ("flip pot upright which is in sink", "train")
    assert 0.05 < np.abs(episode.actions[:, :3]).max() < 1.2
    assert set(np.unique(episode.actions[:, 6])) <= {0, 1}


def test_curate_names_the_command_that_keeps_actions_and_words(
    tmp_path: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_recording(tmp_path / "bridge", "7", num_frames=8)
    for given in ("bridge", "bridge/videos/train", "bridge/videos/train/7/rgb.mp4"):
        ran = run_cli("curate", given, "shards")
        assert ran.code == 2 and "nemo-cosmos convert bridge" in ran.err
    for place in ("bridge", "bridge/episodes"):
        ran = run_cli("convert", "bridge", "bridge", place)
        assert ran.code == 2 and "Choose another place" in ran.err
    ran = run_cli("convert", "bridge", "bridge", "episodes", "--fps", 4)
    assert ran.code == 0 and "1 episode in 'episodes'" in ran.out
    words = ran.out.split("Next: nemo-cosmos ")[1].replace("SHARDS", "shards").split()
    ran = run_cli(*words, "--skip", "all", "--executor", "inline", "--json")
    (sample,) = read_samples(tmp_path / "shards" / "v0")
    assert (sample.record.fps, sample.record.caption) == (4, "put the pot on the cloth")
    assert sample.array("action.npy").shape == (7, 7)
    assert run_cli("convert", "bridge", "bridge", "episodes", "--fps", 5).code == 2
