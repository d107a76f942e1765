"""Faults put into recordings of a robot that moves as ``bridge_7`` says, and what finds them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.controls.embodiment import find_embodiment
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.errors import MissingFileError, NumericsError, SampleError
from nemo_cosmos.video import Video, encode_video
from post_training.robotics.inspection import Inspection, inspect_dataset
from post_training.robotics.inspection.picture import picture_finding
from post_training.robotics.inspection.reading import read_recordings

NUM_EPISODES, NUM_FRAMES = 6, 24
HEIGHT, WIDTH = 48, 64
FOCAL_PX = 60.0


@dataclass(frozen=True)
class Recording:
    actions: np.ndarray
    states: np.ndarray
    frames_THWC: np.ndarray


def record(seed: int) -> Recording:
    """A gripper on a smooth way in front of a camera one metre away, seen as a bright patch."""
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 2 * np.pi, NUM_FRAMES)[:, None]
    waves = [rng.normal(0, 0.12 / k, 3) * np.sin(k * times + rng.uniform(0, 6, 3)) for k in (1, 2)]
    turns = [rng.normal(0, 0.5 / k, 3) * np.sin(k * times + rng.uniform(0, 6, 3)) for k in (1, 2)]
    place, angles = sum(waves) + np.array([0, 0, 0.3]), sum(turns)
    opening = (np.arange(NUM_FRAMES) < rng.integers(8, 16)).astype(float)
    turned = Rotation.from_euler("xyz", angles)
    moved = turned[:-1].inv().apply(np.diff(place, axis=0))
    steps = (turned[:-1].inv() * turned[1:]).as_euler("xyz")
    actions = np.column_stack([moved * 20, steps * 20, opening[1:]])
    states = np.column_stack([place, turned.as_euler("xyz"), opening])
    return Recording(actions, states, film(place, rng))


def film(place_T3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures of a camera that looks along the room's y; x is to the right, z is up."""
    patch = rng.integers(100, 255, (14, 14, 3), dtype=np.uint8)
    frames = np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 30, np.uint8)
    for frame, (x, _, z) in zip(frames, place_T3, strict=True):
        row = int(np.clip(HEIGHT / 2 - FOCAL_PX * (z - 0.3) - 7, 0, HEIGHT - 14))
        column = int(np.clip(WIDTH / 2 + FOCAL_PX * x - 7, 0, WIDTH - 14))
        frame[row : row + 14, column : column + 14] = patch
    return frames


def write(folder: Path, recordings: list[Recording], with_states: bool = True) -> Path:
    folder.mkdir(parents=True)
    for number, one in enumerate(recordings):
        stem = folder / f"episode_{number:03d}"
        np.save(f"{stem}.action.npy", one.actions.astype(np.float32))
        if with_states:
            np.save(f"{stem}.state.npy", one.states.astype(np.float32))
        encode_video(f"{stem}.mp4", Video(one.frames_THWC, 5.0), crf=12)
        Path(f"{stem}.json").write_text(json.dumps({"fps": 5.0}))
    return folder


@pytest.fixture(scope="module")
def clean() -> list[Recording]:
    return [record(seed) for seed in range(NUM_EPISODES)]


def changed(recordings: list[Recording], change: Callable[[Recording], Recording]):
    return [change(one) for one in recordings]


def of_actions(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Recording], Recording]:
    return lambda one: replace(one, actions=change(one.actions.copy()))


def columns(places: slice, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(actions: np.ndarray) -> np.ndarray:
        actions[:, places] *= factor
        return actions

    return change


def flipped(actions: np.ndarray) -> np.ndarray:
    actions[:, 6] = 1 - actions[:, 6]
    return actions


def absolute(one: Recording) -> Recording:
    return replace(one, actions=one.states[1:] * ([20] * 6 + [1]))


def in_room(one: Recording) -> Recording:
    actions = one.actions.copy()
    actions[:, :3] = np.diff(one.states[:, :3], axis=0) * 20
    return replace(one, actions=actions)


def turned_video(video: Video) -> Video:
    return Video(np.ascontiguousarray(video.frames_THWC[:, ::-1, ::-1]), video.fps)


def turned(one: Recording) -> Recording:
    return replace(one, frames_THWC=np.ascontiguousarray(one.frames_THWC[:, ::-1, ::-1]))


FAULTS = {
    "image turned": (turned, "image orientation", "pictures"),
    "gripper sign": (of_actions(flipped), "gripper sign", "gripper"),
    "degrees": (of_actions(columns(slice(3, 6), 180 / np.pi)), "degrees", "droll to dyaw"),
    "millimetres": (of_actions(columns(slice(0, 3), 1000)), "units", "dx to dz"),
    "absolute": (absolute, "relation", "dx to dz"),
    "room's axes": (in_room, "relation", "dx to dz"),
    "x and y": (of_actions(lambda a: a[:, [1, 0, 2, 3, 4, 5, 6]]), "axis order", "dx to dz"),
    "yaw first": (of_actions(lambda a: a[:, [0, 1, 2, 5, 4, 3, 6]]), "axis order", "droll to dyaw"),
    "y backwards": (of_actions(columns(slice(1, 2), -1)), "axis order", "dx to dz"),
}


def found(report: Inspection) -> dict[tuple[str, str], str]:
    return {(one.fault, one.about): one.measured for one in report.faults}


def test_a_clean_data_set_has_no_fault_and_nothing_to_ask(clean, tmp_path):
    report = inspect_dataset(write(tmp_path / "clean", clean), "bridge_7")
    assert [one for one in report.findings if one.status != "ok"] == []
    assert {one.fault for one in report.findings} >= {
        "relation", "axis order", "units", "gripper sign", "image orientation", "rate"
    }  # fmt: skip
    assert report.num_recordings == NUM_EPISODES
    assert report.num_actions == NUM_EPISODES * (NUM_FRAMES - 1)


@pytest.mark.parametrize("name", FAULTS)
def test_each_classic_fault_is_found_and_no_other(name, clean, tmp_path):
    change, fault, about = FAULTS[name]
    report = inspect_dataset(
        write(tmp_path / "faulty", changed(clean, change)), "bridge_7", with_video=name[0] == "i"
    )
    about_it = {key: text for key, text in found(report).items() if key[1] == about}
    assert list(about_it) == [(fault, about)], found(report)
    if name != "absolute":
        assert found(report) == about_it, "and nothing else is wrong"
    assert all(one.fix for one in report.faults)


def test_what_is_found_is_named(clean, tmp_path):
    swapped = changed(clean, FAULTS["x and y"][0])
    (text,) = found(inspect_dataset(write(tmp_path / "a", swapped), "bridge_7")).values()
    assert "dx is dy, dy is dx, dz is dz" in text
    absolute_ones = changed(clean, absolute)
    texts = found(
        inspect_dataset(write(tmp_path / "b", absolute_ones), "bridge_7", with_video=False)
    )
    assert "the value itself" in texts["relation", "dx to dz"]
    assert "the value itself" in texts["relation", "droll to dyaw"]


def test_an_opening_that_is_wrong_in_actions_and_states_is_asked_about(clean, tmp_path):
    def both(one: Recording) -> Recording:
        states = one.states.copy()
        states[:, 6] = 1 - states[:, 6]
        return replace(one, actions=flipped(one.actions.copy()), states=states)

    report = inspect_dataset(write(tmp_path / "x", changed(clean, both)), "bridge_7")
    (asked,) = [one for one in report.findings if one.status == "ask"]
    assert asked.fault == "gripper sign" and "0 of 6 recordings begin open" in asked.measured


def test_states_in_degrees_are_blamed_alone(clean, tmp_path):
    def degrees(one: Recording) -> Recording:
        states = one.states.copy()
        states[:, 3:6] *= 180 / np.pi
        return replace(one, states=states)

    folder = write(tmp_path / "x", changed(clean, degrees))
    report = inspect_dataset(folder, "bridge_7", with_video=False)
    assert list(found(report)) == [("degrees", "states, roll to yaw")]


def test_commands_that_are_followed_loosely_are_no_fault(clean, tmp_path):
    rng = np.random.default_rng(5)
    noisy = changed(
        clean, lambda one: replace(one, actions=one.actions + rng.normal(0, 0.3, one.actions.shape))
    )
    folder = write(tmp_path / "x", noisy)
    assert {fault for fault, _ in found(inspect_dataset(folder, "bridge_7"))} <= {"gripper range"}


def test_a_recorded_camera_may_hang_upside_down(clean, tmp_path):
    """With its pose the turned picture is right, and an upright one wrong."""
    pose = np.eye(4)
    pose[:3] = [[-1, 0, 0, 0], [0, 0, 1, -1], [0, 1, 0, 0.3]]
    intrinsics = [[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]]
    camera = {
        "poses": np.tile(pose, (NUM_FRAMES, 1, 1)),
        "intrinsics": np.tile(intrinsics, (NUM_FRAMES, 1, 1)),
        "size": np.array([HEIGHT, WIDTH]),
    }
    for name, recordings, faults in (
        ("upright", clean, [("image orientation", "pictures")]),
        ("turned", changed(clean, turned), []),
    ):
        folder = write(tmp_path / name, recordings)
        for number in range(NUM_EPISODES):
            np.savez(folder / f"episode_{number:03d}.camera.npz", **camera)
        assert list(found(inspect_dataset(folder, "bridge_7"))) == faults, name


def test_a_camera_that_moves_itself_tells_nothing_of_up(clean, tmp_path):
    room = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    def on_the_wrist(one: Recording) -> Recording:
        moved = [np.roll(room, round(FOCAL_PX * (z - 0.3)), axis=0) for z in one.states[:, 2]]
        return replace(one, frames_THWC=np.stack(moved))

    report = inspect_dataset(write(tmp_path / "x", changed(clean, on_the_wrist)), "bridge_7")
    (picture,) = [one for one in report.findings if one.fault == "image orientation"]
    assert picture.status == "ask"


def test_without_states_it_asks_but_sizes_still_show(clean, tmp_path):
    folder = write(tmp_path / "x", clean, with_states=False)
    asked = {(o.fault, o.about) for o in inspect_dataset(folder).findings if o.status == "ask"}
    assert asked == {
        ("embodiment", "all numbers"),
        ("relation", "dx to dz"),
        ("relation", "droll to dyaw"),
        ("gripper sign", "gripper"),
        ("image orientation", "pictures"),
    }
    degrees = changed(clean, of_actions(columns(slice(3, 6), 180 / np.pi)))
    report = inspect_dataset(write(tmp_path / "y", degrees, with_states=False), "bridge_7")
    assert list(found(report)) == [("degrees", "droll to dyaw")]


JOINTS = """
six:
  numbers:
    - {part: arm, kind: joints, names: [j1, j2, j3, j4, j5, j6], units: rad, relation: RELATION}
  state:
    - {part: arm, kind: joints, names: [j1, j2, j3, j4, j5, j6], units: rad, relation: absolute}
"""


@pytest.mark.parametrize(
    ("relation", "states_too", "expected"),
    [
        ("absolute", True, ["states, j1 to j6", "j1 to j6"]),  # both alike, as many arms give them
        ("absolute", False, ["j1 to j6"]),
        ("step", False, ["j1 to j6"]),  # so small that only the states show it
    ],
)
def test_joints_in_degrees_are_found_as_rotations_are(
    clean, tmp_path, relation, states_too, expected
):
    def joints(one: Recording) -> Recording:
        times = np.linspace(0, 6, NUM_FRAMES)[:, None]
        states = np.sin(times * np.arange(1, 7) / 7 + one.states[0, 0])
        actions = np.diff(states, axis=0) / 20 if relation == "step" else states[1:]
        states = states / 20 if relation == "step" else states
        actions = actions * 180 / np.pi
        return replace(one, states=states * 180 / np.pi if states_too else states, actions=actions)

    table = tmp_path / "mine.yaml"
    table.write_text(JOINTS.replace("RELATION", relation))
    folder = write(tmp_path / "x", changed(clean, joints))
    report = inspect_dataset(folder, f"{table}:six", with_video=False)
    assert list(found(report)) == [("degrees", about) for about in expected]
    if not states_too:
        table.write_text(
            JOINTS.replace("RELATION", relation).replace("units: rad", "units: deg", 1)
        )
        assert not found(inspect_dataset(folder, f"{table}:six", with_video=False))


def test_statistics_become_those_of_the_embodiment(clean, tmp_path):
    report = inspect_dataset(write(tmp_path / "x", clean), "bridge_7", with_video=False)
    report.write(tmp_path / "report.json")
    read = find_embodiment(tmp_path / "report.json")
    actions = np.concatenate([one.actions for one in clean])
    assert read.mean == pytest.approx(actions.mean(0), abs=1e-5)
    assert read.std == pytest.approx(actions.std(0), abs=1e-5)
    assert report.numbers[0].name == "dx" and report.numbers[0].most == pytest.approx(
        actions[:, 0].max(), abs=1e-5
    )


def test_numbers_of_an_unknown_robot_are_asked_about(tmp_path):
    recordings = [replace(record(n), actions=np.ones((NUM_FRAMES - 1, 12))) for n in range(2)]
    report = inspect_dataset(write(tmp_path / "x", recordings), with_video=False)
    assert report.embodiment.width == 12 and not report.faults
    assert {"embodiment", "meaning"} <= {o.fault for o in report.findings if o.status == "ask"}


def test_shards_are_read_as_well(clean, tmp_path):
    with ShardWriter(tmp_path / "shards", max_bytes=10**8) as writer:
        for number, one in enumerate(clean):
            record_of = ClipRecord(
                key=f"clip_{number}", source="a.mp4", span_s=(0.0, NUM_FRAMES / 5), fps=5.0,
                num_frames=NUM_FRAMES, height=HEIGHT, width=WIDTH, caption="an arm",
            )  # fmt: skip
            content = {}
            for name, array in (("action", one.actions), ("state", one.states)):
                np.save(tmp_path / "array.npy", array)
                content[f"{name}.npy"] = (tmp_path / "array.npy").read_bytes()
            encode_video(tmp_path / "clip.mp4", Video(turned(one).frames_THWC, 5.0), crf=12)
            content["mp4"] = (tmp_path / "clip.mp4").read_bytes()
            writer.add(record_of, content)
    report = inspect_dataset(tmp_path / "shards", "bridge_7")
    assert list(found(report)) == [("image orientation", "pictures")]


def test_other_widths_and_rows_name_file_row_and_what_is_expected(clean, tmp_path):
    folder = write(tmp_path / "x", clean)
    with pytest.raises(SampleError, match=r"episode_000\.action\.npy' has 7 numbers.*expected 10"):
        inspect_dataset(folder, "arm_10")
    np.save(folder / "episode_001.action.npy", np.zeros((5, 7)))
    with pytest.raises(SampleError, match=r"episode_001.*5 actions for 24 states"):
        inspect_dataset(folder, "bridge_7")
    np.save(folder / "episode_001.action.npy", np.full((23, 7), np.nan))
    with pytest.raises(NumericsError, match=r"episode_001.*NaN or infinity in row 0"):
        inspect_dataset(folder, "bridge_7")
    with pytest.raises(MissingFileError, match="no recording with actions"):
        inspect_dataset(tmp_path, "bridge_7")


def test_states_with_quaternions_serve_an_arm_of_6d_rotations(clean, tmp_path):
    """As exports of other toolkits have them; a quaternion of length 0 is named."""
    arm = {**find_embodiment("arm_10").to_dict(), "state": [
        {"part": "arm", "kind": "position", "names": ["x", "y", "z"], "units": "cm",
         "relation": "absolute", "frame": "base"},
        {"part": "arm", "kind": "rotation", "names": ["qx", "qy", "qz", "qw"], "units": "none",
         "relation": "absolute", "frame": "base", "form": "quaternion_xyzw"},
        {"part": "arm", "kind": "opening", "names": ["hand"], "units": "0 to 1",
         "relation": "absolute", "high": "open"},
    ]}  # fmt: skip

    def in_other_numbers(one: Recording, backwards: bool = False) -> Recording:
        turned = Rotation.from_euler("xyz", one.states[:, 3:6])
        step = turned[:-1].inv() * turned[1:]
        matrices = (step.inv() if backwards else step).as_matrix()[:, :, :2]
        sixth = matrices.swapaxes(1, 2).reshape(-1, 6)
        actions = np.column_stack([one.actions[:, :3] / 20, sixth, one.actions[:, 6]])
        states = np.column_stack([one.states[:, :3] * 100, turned.as_quat(), one.states[:, 6]])
        return Recording(actions, states, one.frames_THWC)

    folder = write(tmp_path / "good", changed(clean, in_other_numbers))
    report = inspect_dataset(folder, arm)
    assert {one.status for one in report.findings} == {"ok"}, report.findings
    rows_for_columns = changed(clean, lambda one: in_other_numbers(one, backwards=True))
    report = inspect_dataset(write(tmp_path / "bad", rows_for_columns), arm, with_video=False)
    assert list(found(report)) == [("axis order", "r11 to r32")]
    states = np.load(folder / "episode_002.state.npy")
    states[4, 3:7] = 0
    np.save(folder / "episode_002.state.npy", states)
    with pytest.raises(SampleError, match=r"state beside .*episode_002.*no rotation in row 4 \(qx"):
        inspect_dataset(folder, arm)


def test_real_bridge_episodes_are_as_bridge_says(samples_dir):
    report = inspect_dataset(samples_dir / "robotics_bridge", "bridge_7")
    assert {one.status for one in report.findings} == {"ok"}
    upside_down = [
        replace(one, video=lambda one=one: turned_video(one.video()))
        for one in itertools.islice(read_recordings(samples_dir / "robotics_bridge"), 6)
    ]
    finding = picture_finding(upside_down, find_embodiment("bridge_7"))
    assert finding.status == "found" and "turned by 180 degrees" in finding.measured
    hanging = replace(find_embodiment("bridge_7"), image="turned_180")
    assert picture_finding(upside_down, hanging).status == "ok"


def test_faults_are_found_in_real_bridge_episodes(samples_dir, tmp_path):
    originals = list(read_recordings(samples_dir / "robotics_bridge"))
    for name, (change, fault, about) in FAULTS.items():
        if change in (turned, in_room):  # needs videos; this gripper turns little
            continue
        folder = tmp_path / name
        folder.mkdir()
        for number, one in enumerate(originals):
            assert one.states_TA is not None
            recording = change(Recording(one.actions_NA, one.states_TA, np.empty(0)))
            np.save(folder / f"{number}.action.npy", recording.actions)
            np.save(folder / f"{number}.state.npy", recording.states)
        report = inspect_dataset(folder, "bridge_7", with_video=False)
        assert (fault, about) in found(report), (name, found(report))


def test_the_command_prints_a_table_and_writes_what_training_takes(run_cli, clean, tmp_path):
    folder = write(tmp_path / "x", changed(clean, FAULTS["degrees"][0]))
    out = tmp_path / "report.json"
    words = ("dataset", "inspect", folder, "--embodiment", "bridge_7", "--without-video")
    ran = run_cli(*words, "--out", out)
    assert ran.code == Exit.FAILED, "a check did not hold"
    assert "FOUND" in ran.out and "1 fault" in ran.out and "dyaw" in ran.out
    assert find_embodiment(out).mean is not None
    report = run_cli(*words, "--json")
    assert [one["fault"] for one in report.json["findings"] if one["status"] == "found"] == [
        "degrees"
    ]
    assert run_cli("dataset", "inspect", folder, "--embodiment", "no_7").code == Exit.WRONG_USE
