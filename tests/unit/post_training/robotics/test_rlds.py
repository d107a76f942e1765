"""RLDS data sets, as TensorFlow Datasets wrote one: ``rlds_by_tfds`` says how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.video import decode
from post_training.robotics.rlds import RldsData, convert_rlds
from post_training.robotics.rlds.records import list_records, masked_crc32c

WRITTEN = Path(__file__).parent / "rlds_by_tfds"
TRAIN = "tiny_arm-train.tfrecord-00000-of-00001"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy that may be damaged, where TFDS puts it."""
    return Path(shutil.copytree(WRITTEN, tmp_path / "tiny_arm" / "1.0.0"))


def change_features(data: Path, change) -> None:
    file = data / "features.json"
    described = json.loads(file.read_text())
    steps = described["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    change(steps["featuresDict"]["features"])
    file.write_text(json.dumps(described))


def test_episodes_hold_what_tfds_wrote(tmp_path):
    report = convert_rlds(WRITTEN, tmp_path / "out", fps=5.0)
    assert (report.num_converted, report.num_views, report.rejected) == (2, 2, {})
    for episode, (split, num_steps) in enumerate([("train", 4), ("val", 5)]):
        stem = tmp_path / "out" / f"rlds_{split}_000000"
        record = json.loads(Path(f"{stem}.json").read_text())
        assert record["split"] == split and record["views"] == ["image_0", "wrist"]
        assert record["instruction"] == f"push the block {episode}" and record["fps"] == 5.0
        step_N1 = np.arange(num_steps)[:, None]
        told_NA = np.load(f"{stem}.robot_action.npy")
        expected_NA = 0.01 * np.arange(7) + 0.1 * step_N1 + episode
        np.testing.assert_allclose(told_NA, expected_NA, atol=1e-6)
        np.testing.assert_array_equal(
            np.load(f"{stem}.robot_state.npy"), np.arange(7) + 10 * step_N1
        )
        for suffix, grey in (("mp4", 250), ("wrist.mp4", 90)):
            frames_THWC = decode(f"{stem}.{suffix}").frames_THWC
            assert frames_THWC.shape == (num_steps, 32, 48, 3)
            for step in range(num_steps):  # the block, and the colours around it, in RGB
                block_HWC = frames_THWC[step, 10:14, 4 * step + 2 : 4 * step + 6]
                assert abs(float(block_HWC.mean()) - grey) < 20
                corner_C = frames_THWC[step, 26:30, 40:44].mean(axis=(0, 1))
                np.testing.assert_allclose(corner_C, [207, 192, 30 * episode + 10 * step], atol=25)


def test_stated_actions_become_the_control(tmp_path, run_cli):
    out = tmp_path / "out"
    words = ("--fps", 5, "--camera", "wrist", "--as-action", "--size", "64x96")
    ran = run_cli("convert", "rlds", WRITTEN, out, *words)
    assert ran.code == 0 and "nemo-cosmos curate" in ran.out
    record = json.loads((out / "rlds_val_000000.json").read_text())
    assert record["embodiment"] == "bridge_7" and "views" not in record
    assert np.load(out / "rlds_val_000000.action.npy").shape == (4, 7)
    assert decode(out / "rlds_val_000000.mp4").frames_THWC.shape == (5, 64, 96, 3)
    with pytest.raises(ConfigError, match=r"are 7 numbers, but the embodiment 'arm_10' has 10"):
        convert_rlds(WRITTEN, tmp_path / "other", 5.0, camera="wrist", embodiment="arm_10")
    ran = run_cli("convert", "rlds", WRITTEN, tmp_path / "other")
    assert ran.code == 2 and "--fps" in ran.err, "the rate is asked for, not guessed"
    ran = run_cli("convert", "rlds", WRITTEN, tmp_path / "other", "--fps", 5, "--camera", "depth")
    assert ran.code == 2 and "no camera 'depth'" in ran.err


def test_an_action_of_parts_becomes_one_row(data, tmp_path):
    def split(steps) -> None:  # as RT-1's actions are: a dictionary
        features = {"arm": steps.pop("action"), "wheel": steps["discount"]}
        steps["action"] = {"featuresDict": {"features": features}}

    change_features(data, split)
    rlds = RldsData(data)
    assert rlds.action_width == 8 and rlds.names_of("action")[6:] == ["arm_6", "wheel_0"]
    report = convert_rlds(data, tmp_path / "out", 5.0)
    assert "holds 0 values; expected 7 numbers" in report.rejected["episode 0 of 'train'"]


def test_damage_leaves_out_the_episode(data, tmp_path):
    content = (data / TRAIN).read_bytes()
    (data / TRAIN).write_bytes(content + content[:-9])  # a second record that was cut off
    report = convert_rlds(data, tmp_path / "cut", 5.0)
    assert report.num_converted == 2
    reason = report.rejected["episode 1 of 'train'"]
    where = f"Record 1 of '{data / TRAIN}', at byte {len(content)}"
    assert f"{where}, is damaged or cut off" in reason
    (data / TRAIN).write_bytes(content[:12] + b"\xff" * 40 + content[52:])
    reason = convert_rlds(data, tmp_path / "bad", 5.0).rejected["episode 0 of 'train'"]
    assert f"Record 0 of '{data / TRAIN}' is damaged" in reason
    (data / TRAIN).write_bytes(content.replace(b"\x89PNG", b"\0PNG"))
    report = convert_rlds(data, tmp_path / "png", 5.0, camera="wrist")
    assert "has a damaged picture at step 0" in report.rejected["episode 0 of 'train'"]
    assert not list((tmp_path / "png").glob("rlds_train*")), "nothing half-written"


def test_what_cannot_be_read_is_refused(data, tmp_path, run_cli):
    with pytest.raises(SampleError, match="expected an uncompressed TFRecord"):
        list(list_records(data / "features.json"))
    shutil.copytree(data, data.parent / "1.1.0")
    ran = run_cli("convert", "rlds", data.parent, tmp_path / "out", "--fps", 5)
    assert ran.code == 2 and "holds several data sets" in ran.err
    change_features(data, lambda steps: steps.pop("action"))
    with pytest.raises(SampleError, match="a step has no 'action' of numbers"):
        RldsData(data)
    (data / "features.json").write_text("{}")
    with pytest.raises(SampleError, match="does not describe episodes of RLDS"):
        RldsData(data)
    (data / "features.json").unlink()
    with pytest.raises(MissingFileError, match="TensorFlow Datasets writes it beside"):
        RldsData(data)
    with pytest.raises(MissingFileError, match="holds no RLDS data set"):
        RldsData(tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_cameras_of_several_sizes_ask_for_one(data, tmp_path):
    def enlarge(steps) -> None:
        observed = steps["observation"]["featuresDict"]["features"]
        observed["wrist"]["image"]["shape"]["dimensions"] = ["64", "96", "3"]

    change_features(data, enlarge)
    with pytest.raises(SampleError, match="expected views of one size"):
        convert_rlds(data, tmp_path / "out", 5.0)
    assert convert_rlds(data, tmp_path / "out", 5.0, size=(32, 48)).num_converted == 2


@pytest.mark.parametrize("below", [".", "bridge_dataset/1.0.0"])
def test_other_commands_name_the_one_that_reads_it(tmp_path, run_cli, below):
    folder = tmp_path / "oxe" / below
    folder.mkdir(parents=True)
    (folder / "features.json").write_text("{}")
    (folder / "bridge_dataset-train.tfrecord-00000-of-01024").write_bytes(b"\0" * 16)
    for words in (
        ("convert", "lerobot", tmp_path / "oxe", tmp_path / "out"),
        ("convert", "bridge", tmp_path / "oxe", tmp_path / "out"),
        ("dataset", "inspect", tmp_path / "oxe", "--embodiment", "bridge_7"),
        ("curate", tmp_path / "oxe", tmp_path / "out"),
    ):
        ran = run_cli(*words)
        assert ran.code == 2, words
        assert "is an RLDS data set" in ran.err and "nemo-cosmos convert rlds" in ran.err, words
    assert not (tmp_path / "out").exists()


def test_the_checksum_is_tensorflows():
    head = (WRITTEN / TRAIN).read_bytes()[:12]
    assert masked_crc32c(head[:8]) == int.from_bytes(head[8:12], "little")
