"""Metrics that need more than frames: signals beside the true video."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, InputError
from nemo_cosmos.evaluation import Case, evaluate_cases, evaluate_folders
from nemo_cosmos.evaluation.files.recorded import cut_recorded
from nemo_cosmos.evaluation.metric import CaseMetric
from nemo_cosmos.video import Video, encode_video

NUM_FRAMES = 6


def _metric(needs, seen):
    def per_frame(case):
        seen.append(case)
        return np.arange(len(case.generated_THWC), dtype=np.float64)

    return CaseMetric(
        name="seen", description="", higher_is_better=True, needs=needs, per_frame=per_frame
    )


def _camera(step_m):
    """A camera of pictures twice as large, which moves along x."""
    poses_T44 = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    poses_T44[:, 0, 3] = step_m * np.arange(NUM_FRAMES)
    matrices_T33 = np.tile([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]], (NUM_FRAMES, 1, 1))
    return {"poses": poses_T44, "intrinsics": matrices_T33, "size": np.array([64, 64])}


@pytest.fixture
def folders(tmp_path):
    frames_THWC = np.random.default_rng(0).integers(0, 255, (NUM_FRAMES, 32, 32, 3), np.uint8)
    for name in ("generated", "truth"):
        (tmp_path / name).mkdir()
        encode_video(tmp_path / name / "clip.mp4", Video(frames_THWC, 8.0))
    np.savez(tmp_path / "truth" / "clip.camera.npz", **_camera(1.0))
    np.save(tmp_path / "truth" / "clip.action.npy", np.arange(NUM_FRAMES - 1)[:, None] * np.ones(7))
    return tmp_path


def test_a_metric_sees_what_belongs_to_the_compared_frames(folders):
    from nemo_cosmos.evaluation import Alignment

    seen = []
    metric = _metric(frozenset({"truth", "camera", "action"}), seen)
    found = evaluate_folders(
        folders / "generated", folders / "truth", [metric], Alignment(skip_frames=2)
    )
    (case,) = seen
    assert len(case.generated_THWC) == NUM_FRAMES - 2
    camera = case.recorded["camera"]
    np.testing.assert_array_equal(camera["poses"][:, 0, 3], [2, 3, 4, 5])
    np.testing.assert_array_equal(camera["size"], [32, 32])
    np.testing.assert_array_equal(camera["intrinsics"][0, :2], [[30, 0, 16], [0, 30, 16]])
    np.testing.assert_array_equal(case.recorded["action"]["action"][:, 0], [2, 3, 4])
    assert found.scores["seen"].value == 1.5
    assert found.clips["clip.mp4"].curves["seen"] == [0, 1, 2, 3]


def test_a_changed_signal_is_scored_again(folders):
    seen = []
    metric = _metric(frozenset({"camera"}), seen)
    for scale in (1, 1, 2):
        if scale == 2:
            file = folders / "truth" / "clip.camera.npz"
            np.savez(file, **_camera(2.0), extra=np.zeros(99))
        evaluate_folders(folders / "generated", folders / "truth", [metric], work=folders / "work")
    assert len(seen) == 2


def test_without_the_signal_the_error_names_the_file(folders):
    metric = _metric(frozenset({"trajectory"}), [])
    with pytest.raises(ConfigError, match=r"needs 'trajectory'.*NAME\.trajectory\.npy"):
        evaluate_folders(folders / "generated", folders / "truth", [metric])


def test_a_signal_of_another_length_is_refused(folders):
    np.save(folders / "truth" / "clip.action.npy", np.ones((3, 7)))
    with pytest.raises(InputError, match="3 rows; expected 5"):
        evaluate_folders(
            folders / "generated", folders / "truth", [_metric(frozenset({"action"}), [])]
        )


def test_from_python_without_what_it_needs():
    frames_THWC = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"NAME\.CAMERA\.mp4"):
        evaluate_cases([Case("a", frames_THWC)], [_metric(frozenset({"views"}), [])])


def test_the_last_frames_keep_their_steps():
    steps = np.arange(5)[:, None]
    np.testing.assert_array_equal(cut_recorded("action", {"action": steps}, 6, 4)["action"], [[4]])


def test_a_metric_without_a_function_is_refused():
    with pytest.raises(ConfigError, match="neither"):
        CaseMetric(name="none", description="", higher_is_better=True)


def _long_ones(name):
    return CaseMetric(
        name=name,
        description="",
        higher_is_better=True,
        needs=frozenset(),
        compute=lambda case: float(len(case.generated_THWC)),
        applies=lambda case: len(case.generated_THWC) > 2,
    )


def _clip(name, num_frames):
    frames_THWC = np.zeros((num_frames, 8, 8, 3), np.uint8)
    return Case(name, frames_THWC, frames_THWC)


def test_a_metric_is_the_mean_over_the_videos_that_it_applies_to(tmp_path):
    from nemo_cosmos.evaluation import choose_metrics, make_record, scores_table, write_report

    metrics = [*choose_metrics(["psnr"]), _long_ones("long")]
    found = evaluate_cases([_clip("a", 2), _clip("b", 4), _clip("c", 6)], metrics)
    assert (found.scores["long"].value, found.scores["long"].num) == (5.0, 2)
    assert found.scores["psnr"].num == 3
    assert "long" not in found.clips["a"].scores
    assert scores_table(found).row_count == 3
    write_report(found, tmp_path, make_record(found, {}))
    assert "long" in (tmp_path / "evaluation.md").read_text()


def test_a_metric_that_applies_to_no_video_says_so():
    with pytest.raises(InputError, match="'long' applies to none of the 1 video"):
        evaluate_cases([_clip("a", 2)], [_long_ones("long")])


def test_many_metrics_are_shown_one_below_the_other_with_their_number_of_videos():
    from nemo_cosmos.evaluation import scores_table

    many = [_long_ones(f"long{index}") for index in range(9)]
    table = scores_table(evaluate_cases([_clip("a", 2), _clip("b", 4)], many))
    assert table.row_count == 9
    (counts,) = [column for column in table.columns if column.header == "n"]
    assert set(counts.cells) == {"1"}
