"""LeRobot data sets of versions 2.1 and 3.0, written as LeRobot writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.video import Video, decode, encode_video, probe
from post_training.robotics.lerobot import LeRobotData, convert_lerobot

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CAMERAS = ("observation.images.top", "observation.images.wrist")
LENGTHS = (7, 5)
TASKS = ("pick up the cube", "open the drawer")
FPS = 15


def frames(index: int, camera: int) -> np.ndarray:
    """Frames whose grey level says episode, camera and number."""
    levels = 20 + 100 * index + 40 * camera + 3 * np.arange(LENGTHS[index], dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (LENGTHS[index], 48, 64, 3)).copy()


def table(index: int, width: int, first: int, **more: Any) -> dict[str, list[Any]]:
    steps = range(LENGTHS[index])
    return {
        "action": [[float(100 * index + step)] * width for step in steps],
        "observation.state": [[float(step)] * width for step in steps],
        "timestamp": [step / FPS for step in steps],
        "frame_index": list(steps),
        "episode_index": [index] * len(steps),
        "index": [first + step for step in steps],
        "task_index": [index] * len(steps),
        **more,
    }


def write_table(file: Path, columns: dict[str, list[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def write_info(folder: Path, version: str, width: int, **changes: Any) -> None:
    names = {"motors": [f"joint_{n}" for n in range(width)]}
    numbers = {"dtype": "float32", "shape": [width], "names": names}
    info = {
        "codebase_version": version,
        "robot_type": "so100",
        "fps": FPS,
        "chunks_size": 1000,
        "splits": {"train": "0:1", "val": "1:2"},
        "features": {
            "action": numbers,
            "observation.state": numbers,
            **{name: {"dtype": "video", "shape": [48, 64, 3]} for name in CAMERAS},
        },
        **changes,
    }
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def make_v2(folder: Path, width: int = 6) -> Path:
    write_info(
        folder, "v2.1", width,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )  # fmt: skip
    lines = []
    for index, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
        lines.append(json.dumps({"episode_index": index, "tasks": [task], "length": length}))
        write_table(folder / f"data/chunk-000/episode_{index:06d}.parquet", table(index, width, 0))
        for number, camera in enumerate(CAMERAS):
            path = folder / f"videos/chunk-000/{camera}/episode_{index:06d}.mp4"
            encode_video(path, Video(frames(index, number), FPS))
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_v3(folder: Path, width: int = 7) -> Path:
    """Both episodes share a table, and a video for each camera."""
    write_info(
        folder, "v3.0", width,
        data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )  # fmt: skip
    parts = [table(0, width, 0), table(1, width, LENGTHS[0])]
    joined = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    write_table(folder / "data/chunk-000/file-000.parquet", joined)
    episodes: dict[str, list[Any]] = {
        "episode_index": [0, 1],
        "tasks": [[task] for task in TASKS],
        "length": list(LENGTHS),
        "data/chunk_index": [0, 0],
        "data/file_index": [0, 0],
        "stats/observation.images.top/mean": [[[[0.5]]], [[[0.5]]]],
    }
    for number, camera in enumerate(CAMERAS):
        both = np.concatenate([frames(0, number), frames(1, number)])
        encode_video(folder / f"videos/{camera}/chunk-000/file-000.mp4", Video(both, FPS))
        episodes[f"videos/{camera}/chunk_index"] = [0, 0]
        episodes[f"videos/{camera}/file_index"] = [0, 0]
        episodes[f"videos/{camera}/from_timestamp"] = [0.0, LENGTHS[0] / FPS]
        episodes[f"videos/{camera}/to_timestamp"] = [LENGTHS[0] / FPS, sum(LENGTHS) / FPS]
    write_table(folder / "meta/episodes/chunk-000/file-000.parquet", episodes)
    return folder


@pytest.mark.parametrize("make", [make_v2, make_v3])
def test_actions_words_and_rate_come_along(tmp_path, make):
    data, out = make(tmp_path / "set", width=6), tmp_path / "out"
    report = convert_lerobot(data, out, camera="wrist")
    assert (report.num_converted, report.rejected) == (2, {})
    record = json.loads((out / "lerobot_000001.json").read_text())
    assert (record["caption"], record["split"], record["fps"]) == (TASKS[1], "val", FPS)
    assert record["action"]["names"] == [f"joint_{n}" for n in range(6)]
    info = probe(out / "lerobot_000001.mp4")
    assert (info.num_frames, info.fps) == (LENGTHS[1], FPS)
    found = decode(out / "lerobot_000001.mp4").frames_THWC.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, frames(1, 1).mean(axis=(1, 2, 3)), atol=4)
    actions = np.load(out / "lerobot_000001.robot_action.npy")
    np.testing.assert_array_equal(actions[:, 0], 100 + np.arange(LENGTHS[1]))
    assert np.load(out / "lerobot_000001.robot_state.npy").shape == (LENGTHS[1], 6)


def test_several_cameras_become_views(tmp_path, run_cli):
    data, out = make_v3(tmp_path / "set"), tmp_path / "out"
    ran = run_cli("convert", "lerobot", data, out)
    assert ran.code == 0 and "dataset shard" in ran.out
    record = json.loads((out / "lerobot_000001.json").read_text())
    assert record["views"] == ["top", "wrist"], "the data set's own names, in its order"
    assert not (out / "lerobot_000001.top.mp4").exists()
    for number, name in enumerate(("lerobot_000001.mp4", "lerobot_000001.wrist.mp4")):
        found = decode(out / name).frames_THWC.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found, frames(1, number).mean(axis=(1, 2, 3)), atol=4)
    assert run_cli("dataset", "shard", out, tmp_path / "shards").code == 0
    sample = next(iter(read_samples(tmp_path / "shards")))
    assert sample.record.views == ("top", "wrist") and "wrist.mp4" in sample.members
    convert_lerobot(data, tmp_path / "turned", camera=("wrist", "top"))
    record = json.loads((tmp_path / "turned/lerobot_000001.json").read_text())
    assert record["views"] == ["wrist", "top"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"wrist/episode_000001\.mp4"),
        ("shorter", r"5 rows, but '.*wrist/episode_000001\.mp4' has 4 frames"),
        ("slower", r"wrist/episode_000001\.mp4' plays 5 frames a second.* says 15"),
        ("smaller", r"'observation\.images\.wrist' of 24x32 and .*top' of 48x64; expected views"),
    ],
)
def test_views_that_do_not_fit_together_are_left_out_with_file_and_form(tmp_path, damage, message):
    data, out = make_v2(tmp_path / "set"), tmp_path / "out"
    file = data / f"videos/chunk-000/{CAMERAS[1]}/episode_000001.mp4"
    file.unlink()
    kept_THWC = frames(1, 1)[: -1 if damage == "shorter" else None]
    kept_THWC = kept_THWC[:, ::2, ::2] if damage == "smaller" else kept_THWC
    if damage != "missing":
        encode_video(file, Video(kept_THWC, 5 if damage == "slower" else FPS))
    report = convert_lerobot(data, out)
    assert (report.num_converted, list(report.rejected)) == (1, ["episode 1"])
    assert re.search(message, report.rejected["episode 1"]), report.rejected
    assert [file.name for file in out.glob("lerobot_000001*")] == [], "nothing half-written"


def test_cameras_of_several_sizes_are_refused_before_any_is_read(tmp_path):
    data = make_v2(tmp_path / "set")
    info = json.loads((data / "meta/info.json").read_text())
    wrist = {"dtype": "video", "shape": [3, 24, 32], "names": ["channels", "height", "width"]}
    info["features"][CAMERAS[1]] = wrist
    (data / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(SampleError, match=r"info\.json' says .*wrist' is 24x32 .*--size"):
        convert_lerobot(data, tmp_path / "out")
    assert convert_lerobot(data, tmp_path / "out", size=(24, 32)).num_converted == 2
    assert convert_lerobot(data, tmp_path / "top", camera="top").num_converted == 2
    info["features"][CAMERAS[1]]["info"] = {"video.is_depth_map": True}
    (data / "meta/info.json").write_text(json.dumps(info))
    assert convert_lerobot(data, tmp_path / "seen").num_views == 1, "a depth map is no view"


def test_motions_of_the_gripper_become_the_action_control(tmp_path):
    out = tmp_path / "out"
    convert_lerobot(make_v3(tmp_path / "set"), out, as_action=True, size=(24, 32))
    actions = np.load(out / "lerobot_000000.action.npy")
    # The command at the last frame leads to no other.
    assert actions.shape == (LENGTHS[0] - 1, 7) and actions[-1, 0] == LENGTHS[0] - 2
    assert not (out / "lerobot_000000.robot_action.npy").exists()
    assert probe(out / "lerobot_000000.mp4").height == 24
    with pytest.raises(ConfigError, match="6 numbers"):
        convert_lerobot(make_v2(tmp_path / "v2"), tmp_path / "other", as_action=True)


def test_actions_of_an_embodiment_become_the_action_control_whatever_their_width(tmp_path):
    numbers = [
        {"part": "arm", "kind": "joints", "names": [f"j{n}" for n in range(6)], "units": "rad",
         "relation": "absolute"},
    ]  # fmt: skip
    six = {"name": "six", "title": "six joints", "numbers": numbers}
    out = tmp_path / "out"
    convert_lerobot(make_v2(tmp_path / "set"), out, embodiment=six)
    assert np.load(out / "lerobot_000000.action.npy").shape == (LENGTHS[0] - 1, 6)
    record = json.loads((out / "lerobot_000000.json").read_text())
    assert record["embodiment"] == "six", "where shards and worlds look for it"
    assert "six joints" in record["action"]["meaning"]
    report = convert_lerobot(tmp_path / "set", out, embodiment=six)
    assert report.num_reused == 2, "the same settings"
    with pytest.raises(ConfigError, match=r"6 numbers.*'arm_10' has 10: dx"):
        convert_lerobot(tmp_path / "set", tmp_path / "other", embodiment="arm_10")


def test_pictures_within_the_table_are_read(tmp_path):
    data = make_v2(tmp_path / "set")
    info = json.loads((data / "meta/info.json").read_text())
    info["features"] = {
        name: item for name, item in info["features"].items() if item["dtype"] == "float32"
    } | {"observation.image": {"dtype": "image", "shape": [48, 64, 3]}}
    (data / "meta/info.json").write_text(json.dumps(info))
    for index in range(2):
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 2] = 200  # OpenCV writes BGR
        png = {"bytes": cv2.imencode(".png", red)[1].tobytes(), "path": None}
        file = data / f"data/chunk-000/episode_{index:06d}.parquet"
        pictures = {"observation.image": [png] * LENGTHS[index]}
        write_table(file, table(index, 6, 0, **pictures))
    convert_lerobot(data, tmp_path / "out")
    frame_HWC = decode(tmp_path / "out" / "lerobot_000000.mp4").frames_THWC[0]
    assert frame_HWC[..., 0].mean() > 180 and frame_HWC[..., 2].mean() < 20


def test_damaged_episodes_are_left_out_and_a_second_run_makes_what_is_missing(tmp_path):
    data, out = make_v2(tmp_path / "set"), tmp_path / "out"
    file = data / "data/chunk-000/episode_000001.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    report = convert_lerobot(data, out)
    assert (report.num_converted, list(report.rejected)) == (1, ["episode 1"])
    assert "is damaged" in report.rejected["episode 1"]
    file.write_bytes(content)
    encode_video(
        data / f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4", Video(frames(1, 0)[:-1], FPS)
    )
    assert "5 rows" in convert_lerobot(data, out).rejected["episode 1"]
    encode_video(
        data / f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4", Video(frames(1, 0), FPS)
    )
    report = convert_lerobot(data, out)
    assert (report.num_converted, report.num_reused) == (2, 1)
    with pytest.raises(ConfigError, match="other settings"):
        convert_lerobot(data, out, camera="wrist")


def test_a_damaged_picture_is_named_with_its_row(tmp_path):
    data = make_v2(tmp_path / "set")
    info = json.loads((data / "meta/info.json").read_text())
    numbers = {n: one for n, one in info["features"].items() if one["dtype"] == "float32"}
    picture = {"observation.image": {"dtype": "image", "shape": [8, 8, 3]}}
    (data / "meta/info.json").write_text(json.dumps({**info, "features": numbers | picture}))
    good = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    small = cv2.imencode(".png", np.zeros((4, 8, 3), np.uint8))[1].tobytes()
    for content, message in (
        (
            b"no picture",
            r"'observation\.image' of episode 1 in '.*1\.parquet' has a damaged .*row 2",
        ),
        (small, r"has a picture of \(4, 8\) in row 2; expected a PNG or JPEG of one size"),
        (None, r"names a picture in row 2 without holding it; expected the bytes"),
    ):
        for index in range(2):
            rows = [{"bytes": good, "path": None}] * LENGTHS[index]
            if index:
                rows[2] = {"bytes": content, "path": "frame.png"}
            file = data / f"data/chunk-000/episode_{index:06d}.parquet"
            write_table(file, table(index, 6, 0, **{"observation.image": rows}))
        report = convert_lerobot(data, tmp_path / "out")
        assert report.num_converted == 1
        assert re.search(message, report.rejected["episode 1"]), report.rejected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("video", r"observation\.images\.top/episode_000001\.mp4"),
        ("short", r"'action' of episode 1 in '.*episode_000001\.parquet' has in row 3 \[1.*6 num"),
        ("null", r"'action' of episode 1 in .* has in row 3 None; expected 6 numbers"),
        ("rows", r"Episode 1 has 4 rows in '.*episode_000001\.parquet'; its description says 5"),
    ],
)
def test_what_is_missing_or_of_another_width_is_named_with_its_file_and_row(
    tmp_path, damage, message
):
    data = make_v2(tmp_path / "set")
    file = data / "data/chunk-000/episode_000001.parquet"
    columns = table(1, 6, 0)
    if damage == "video":
        (data / f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4").unlink()
    elif damage == "rows":
        columns = {name: rows[:-1] for name, rows in columns.items()}
    else:
        columns["action"][3] = columns["action"][3][:5] if damage == "short" else None
    write_table(file, columns)
    report = convert_lerobot(data, tmp_path / "out")
    assert (report.num_converted, list(report.rejected)) == (1, ["episode 1"])
    assert re.search(message, report.rejected["episode 1"]), report.rejected


def test_what_is_no_such_data_set_is_refused(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(MissingFileError, match=r"holds no 'meta/info\.json'"):
        LeRobotData(data)
    write_info(data, "v1.6", 6)
    with pytest.raises(SampleError, match=r"v1\.6"):
        LeRobotData(data)
    write_info(data, "v2.1", 6)
    with pytest.raises(MissingFileError, match=r"episodes\.jsonl"):
        convert_lerobot(data, tmp_path / "out")
    with pytest.raises(ConfigError, match="no camera 'left'"):
        convert_lerobot(data, tmp_path / "out", camera="left")
    (data / "meta/info.json").write_text("{")
    with pytest.raises(SampleError, match="not valid JSON"):
        LeRobotData(data)


def test_the_command_and_the_refusal_of_curate_lead_to_each_other(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make_v2(tmp_path / "aloha")
    for given in (data, data / "videos" / "chunk-000", tmp_path, f"{data}/**/*.mp4"):
        ran = run_cli("curate", given, tmp_path / "shards")
        assert ran.code == 2
        assert f"nemo-cosmos convert lerobot {data} aloha_episodes" in ran.err
        assert run_cli("transcode", given, tmp_path / "videos").code == 2
    ran = run_cli("convert", "lerobot", data, "aloha_episodes", "--camera", "top", "--json")
    assert ran.code == 0 and ran.json["num_converted"] == 2
    words = ["--split", "none", "--min-clip-s", 0.1, "--skip", "all", "--min-motion", 0]
    words += ["--min-patch-motion", 0, "--executor", "inline", "--json"]
    ran = run_cli("curate", "aloha_episodes", "shards", *words)
    assert ran.json["num_clips"] == 2
    samples = list(read_samples(tmp_path / "shards" / "v0"))
    assert {sample.record.caption for sample in samples} == set(TASKS)
    assert all(sample.array("robot_action.npy").shape[1] == 6 for sample in samples)


def test_a_user_may_take_the_videos_alone(tmp_path, run_cli):
    words = ["--videos-only", "--executor", "inline", "--json"]
    ran = run_cli("transcode", make_v2(tmp_path / "aloha"), tmp_path / "videos", *words)
    assert ran.json["num_clips"] == 4


def test_episodes_of_several_cameras_are_not_torn_apart_by_curation(tmp_path, run_cli):
    convert_lerobot(make_v2(tmp_path / "set"), tmp_path / "out")
    ran = run_cli("curate", tmp_path / "out", tmp_path / "shards")
    assert ran.code == 2 and "holds episodes: each is the videos of several cameras" in ran.err
    assert "nemo-cosmos dataset shard" in ran.err
