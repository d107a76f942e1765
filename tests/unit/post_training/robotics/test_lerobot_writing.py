"""Episodes as a LeRobot data set: read back by the format's description, and by lerobot itself."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError, VideoError
from nemo_cosmos.video import Video, decode, encode_video
from post_training.robotics.lerobot import LeRobotData, convert_lerobot, write_lerobot

pq = pytest.importorskip("pyarrow.parquet")

FPS, LENGTHS = 10, {"a": 6, "b": 4}
WORDS = {"a": "lift the block", "b": "push the block"}


def film(key: str, level: int = 0) -> Video:
    grey = (20 + 60 * (key == "b") + level + 5 * np.arange(LENGTHS[key])).astype(np.uint8)
    frames_THWC = np.broadcast_to(grey[:, None, None, None], (LENGTHS[key], 32, 48, 3)).copy()
    return Video(frames_THWC, FPS)


def actions(key: str) -> np.ndarray:
    return np.random.default_rng(len(key)).normal(size=(LENGTHS[key] - 1, 7)).astype(np.float32)


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    folder = tmp_path / "episodes"
    for key, length in LENGTHS.items():
        encode_video(folder / f"{key}.mp4", film(key))
        encode_video(folder / f"{key}.wrist.mp4", film(key, level=40))
        np.save(folder / f"{key}.action.npy", actions(key))
        np.save(folder / f"{key}.state.npy", np.full((length, 7), length, np.float32))
        record = {"instruction": WORDS[key], "embodiment": "bridge_7", "robot": "arm"}
        (folder / f"{key}.json").write_text(json.dumps(record))
    return folder


def test_the_files_are_those_of_the_format(episodes: Path, tmp_path: Path) -> None:
    """Read with pyarrow and json alone, as version 3.0 describes them."""
    out = tmp_path / "set"
    report = write_lerobot(episodes, out)
    assert (report.num_episodes, report.num_frames, report.num_tasks) == (2, 10, 2)
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", FPS, "arm")
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 10, 2)
    assert info["features"]["action"]["names"][:3] == ["dx", "dy", "dz"]
    cameras = ["observation.images.main", "observation.images.wrist"]
    assert [n for n, one in info["features"].items() if one["dtype"] == "video"] == cameras
    rows = pq.read_table(out / info["data_path"].format(chunk_index=0, file_index=0)).to_pydict()
    assert set(rows) == set(info["features"]) - set(cameras)
    assert rows["index"] == list(range(10))
    assert rows["episode_index"] == [0] * 6 + [1] * 4 and rows["task_index"] == [0] * 6 + [1] * 4
    np.testing.assert_allclose(rows["timestamp"][6:], np.arange(4) / FPS)
    np.testing.assert_array_equal(rows["action"][:5], actions("a"))
    assert rows["action"][5] == rows["action"][4], "the last frame's command leads nowhere"
    tasks = pq.read_table(out / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "__index_level_0__": list(WORDS.values())}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    listed = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(one["dataset_from_index"], one["dataset_to_index"]) for one in listed] == [
        (0, 6),
        (6, 10),
    ]
    for one, key in zip(listed, LENGTHS, strict=True):
        place = {n: one[f"videos/{cameras[1]}/{n}"] for n in ("chunk_index", "file_index")}
        video = out / info["video_path"].format(video_key=cameras[1], **place)
        assert video.read_bytes() == (episodes / f"{key}.wrist.mp4").read_bytes()


def test_statistics_are_those_of_all_rows_and_pixels(episodes: Path, tmp_path: Path) -> None:
    write_lerobot(episodes, tmp_path / "set")
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pydict()
    rows = np.array(table["action"])
    np.testing.assert_allclose(stats["action"]["mean"], rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], rows.std(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["max"], rows.max(0), atol=1e-6)
    assert stats["action"]["count"] == [10]
    pixels = stats["observation.images.main"]
    assert np.shape(pixels["mean"]) == (3, 1, 1) and 0 < pixels["mean"][0][0][0] < 1


def test_what_was_written_converts_back(episodes: Path, tmp_path: Path) -> None:
    write_lerobot(episodes, tmp_path / "set", camera="front")
    report = convert_lerobot(
        tmp_path / "set", tmp_path / "again", camera="wrist", embodiment="bridge_7"
    )
    assert (report.num_converted, report.rejected) == (2, {})
    np.testing.assert_array_equal(
        np.load(tmp_path / "again/lerobot_000001.action.npy"), actions("b")
    )
    levels = decode(tmp_path / "again/lerobot_000001.mp4").frames_THWC.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(levels, film("b", 40).frames_THWC.mean(axis=(1, 2, 3)), atol=4)
    assert LeRobotData(tmp_path / "set").cameras[0] == "observation.images.front"


def test_views_keep_their_names_and_order_on_the_way_there_and_back(
    episodes: Path, tmp_path: Path
) -> None:
    write_lerobot(episodes, tmp_path / "set", camera="top")
    convert_lerobot(tmp_path / "set", tmp_path / "again", camera=["wrist", "top"], as_action=True)
    report = write_lerobot(tmp_path / "again", tmp_path / "second")
    assert report.cameras == ("wrist", "top")
    (tmp_path / "again/lerobot_000001.top.mp4").rename(tmp_path / "again/lerobot_000001.left.mp4")
    with pytest.raises(MissingFileError, match=r"no 'lerobot_000001\.top\.mp4' beside it"):
        write_lerobot(tmp_path / "again", tmp_path / "third")


def test_generated_videos_take_actions_and_words_of_the_recordings(
    episodes: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    encode_video(own / "a.mp4", Video(film("a").frames_THWC[:4], FPS))
    (own / "a.json").write_text(json.dumps({"prompt": "of the model"}))
    write_lerobot(own, tmp_path / "set", signals=episodes)
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pydict()
    np.testing.assert_array_equal(table["action"][:3], actions("a")[:3])
    assert len(table["action"]) == 4
    assert "observation.state" not in table, "nobody measured the states of a generated video"
    tasks = pq.read_table(tmp_path / "set/meta/tasks.parquet").to_pydict()
    assert tasks["__index_level_0__"] == [WORDS["a"]]


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("no action", MissingFileError, r"'.*b\.mp4' has no actions '.*b\.action\.npy'.*--signals"),
        (
            "short",
            SampleError,
            r"'.*b\.action\.npy' has the shape \(2, 7\); the video takes 3 rows",
        ),
        ("width", SampleError, "Episode 'b' has 6 as numbers of action, but 'a' has 7"),
        ("view", SampleError, "Episode 'b' has main as cameras, but 'a' has main, wrist"),
        ("frames", VideoError, r"view 'wrist' of '.*b\.mp4' has 3 frames, the first one 4"),
        ("robot", ConfigError, "of arm_10 and bridge_7"),
        ("json", SampleError, r"b\.json' is not valid JSON"),
    ],
)
def test_what_does_not_fit_together_is_named_and_nothing_is_written(
    episodes: Path, tmp_path: Path, damage: str, error: type[Exception], message: str
) -> None:
    if damage == "no action":
        (episodes / "b.action.npy").unlink()
    elif damage in ("short", "width"):
        rows = actions("b")[:2] if damage == "short" else actions("b")[:, :6]
        np.save(episodes / "b.action.npy", rows)
    elif damage == "view":
        (episodes / "b.wrist.mp4").unlink()
    elif damage == "frames":
        encode_video(episodes / "b.wrist.mp4", Video(film("b").frames_THWC[:3], FPS))
    else:
        content = '{"embodiment": "arm_10"}' if damage == "robot" else "{"
        (episodes / "b.json").write_text(content)
    with pytest.raises(error, match=message):
        write_lerobot(episodes, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_an_empty_folder_and_a_used_one_are_refused(episodes: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingFileError, match=r"holds no \.mp4"):
        write_lerobot(tmp_path / "none", tmp_path / "set")
    write_lerobot(episodes, tmp_path / "set")
    with pytest.raises(ConfigError, match="is not empty"):
        write_lerobot(episodes, tmp_path / "set")
    with pytest.raises(ConfigError, match=r"7 numbers, but the embodiment 'arm_10' has 10"):
        write_lerobot(episodes, tmp_path / "other", embodiment="arm_10")


def test_the_command_says_what_it_wrote(episodes: Path, tmp_path: Path, run_cli) -> None:
    ran = run_cli("dataset", "lerobot", episodes, tmp_path / "set", "--json")
    assert ran.code == 0 and ran.json["cameras"] == ["main", "wrist"]
    assert ran.json["embodiment"] == "bridge_7"


def test_lerobot_itself_loads_it(episodes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    try:
        module = importlib.import_module("lerobot.datasets.lerobot_dataset")
    except (ImportError, RuntimeError) as error:  # torchvision for another torch
        pytest.skip(f"lerobot cannot be imported here: {error}")
    write_lerobot(episodes, tmp_path / "set")
    loaded = module.LeRobotDataset("local/set", root=tmp_path / "set", video_backend="pyav")
    assert (loaded.num_episodes, loaded.num_frames, loaded.fps) == (2, 10, FPS)
    item = loaded[7]
    assert item["task"] == WORDS["b"] and item["action"].shape == (7,)
    np.testing.assert_allclose(item["action"].numpy(), actions("b")[1], rtol=1e-6)
    level = film("b", 40).frames_THWC[1].mean() / 255
    assert abs(float(item["observation.images.wrist"].mean()) - level) < 0.02
