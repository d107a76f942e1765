"""Files of further cameras: they belong to a video and are none of their own."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.evaluation import Alignment, evaluate_folders, match_videos
from nemo_cosmos.evaluation.files.folders import (
    Comparison,
    describe_folders,
    evaluation_checks,
    repeat_folders,
)
from nemo_cosmos.evaluation.files.views import view_files, without_views
from nemo_cosmos.evaluation.metric import CaseMetric
from nemo_cosmos.evaluation.record import as_record, make_record
from nemo_cosmos.testing.rooms import pinhole
from nemo_cosmos.video import Video, encode_video

NUM_FRAMES = 4


def write(folder, name, num_frames=NUM_FRAMES, fps=8.0, level=100):
    folder.mkdir(exist_ok=True)
    frames_THWC = np.full((num_frames, 16, 16, 3), level, np.uint8)
    encode_video(folder / f"{name}.mp4", Video(frames_THWC, fps))


@pytest.fixture
def folders(tmp_path):
    for folder in ("generated", "truth"):
        for name in ("a", "a.left", "a.right", "b.c", "b.c.left", "b.c.right"):
            write(tmp_path / folder, name, level=20 * len(name))
    camera = pinhole(np.zeros((NUM_FRAMES, 3)), np.zeros((NUM_FRAMES, 3)), (32, 32))
    for name in ("a", "a.left"):
        np.savez(tmp_path / "truth" / f"{name}.camera.npz", **camera)
    return tmp_path


def metric(seen, needs=("views",)):
    return CaseMetric(
        name="seen",
        description="",
        higher_is_better=True,
        needs=frozenset(needs),
        compute=lambda case: seen.append(case) or 1.0,
    )


def evaluate(folders, seen, alignment=None, needs=("views",), truth="truth"):
    return evaluate_folders(
        folders / "generated",
        folders / truth if truth else None,
        [metric(seen, needs)],
        alignment,
    )


def test_a_view_is_no_video_of_its_own(folders):
    pairs = match_videos(folders / "generated", folders / "truth")
    assert list(pairs) == ["a.mp4", "b.c.mp4"]
    assert list(pairs["b.c.mp4"].views()) == ["left", "right"]
    (folders / "generated" / "a.mp4").unlink()
    alone = match_videos(folders / "generated", None)
    assert list(alone) == ["a.left.mp4", "a.right.mp4", "b.c.mp4"], "views of nothing are videos"
    (found,) = [
        check.look()
        for check in evaluation_checks(Comparison(folders / "truth"))
        if check.name == "videos"
    ]
    assert "2 videos and 4 views of further cameras" in found


def test_names_with_signs_of_patterns_are_names(tmp_path):
    for name in ("a[1]", "a[1].left", "a1", "a1.right"):
        write(tmp_path, name)
    assert list(view_files(tmp_path / "a[1].mp4")) == ["left"]
    assert [file.stem for file in without_views(sorted(tmp_path.glob("*.mp4")))] == ["a1", "a[1]"]


def test_a_metric_sees_all_cameras_with_what_belongs_to_them(folders):
    seen = []
    evaluate(folders, seen, Alignment(skip_frames=1))
    first, second = seen
    assert list(first.views) == list(second.views) == ["left", "right"]
    left = first.views["left"]
    assert left.generated_THWC.shape == left.truth_THWC.shape == (NUM_FRAMES - 1, 16, 16, 3)
    assert abs(int(left.generated_THWC.mean()) - 20 * len("a.left")) < 4
    assert len(left.recorded["camera"]["poses"]) == NUM_FRAMES - 1
    assert left.recorded["camera"]["size"].tolist() == [16, 16], "in the frames' pixels"
    assert not first.views["right"].recorded


def test_without_a_truth_signals_stand_beside_the_generated_video(folders):
    seen = []
    found = evaluate_folders(folders / "truth", None, [metric(seen, ["views", "camera"])])
    assert [list(case.recorded) for case in seen] == [["camera"]]
    assert "needs 'camera'" in found.skipped["b.c.mp4"]


def test_views_are_not_read_for_metrics_that_do_not_look_at_them(folders):
    (folders / "generated" / "a.left.mp4").write_bytes(b"no video")
    seen = []
    evaluate(folders, seen, needs=("truth",))
    assert [case.views for case in seen] == [{}, {}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "a.left.mp4").unlink(), "has no view 'left'.*it has right"),
        (lambda folder: write(folder, "a.left", fps=10.0), "10 frames/s, the video itself 8"),
        (lambda folder: (folder / "a.left.mp4").write_bytes(b"no video"), "a.left.mp4"),
        (lambda folder: write(folder, "a.left", num_frames=3), "3 frames"),
    ],
)
def test_a_video_with_a_bad_view_is_skipped_with_the_reason(folders, change, message):
    change(folders / "generated")
    seen = []
    found = evaluate(folders, seen)
    assert [case.name for case in seen] == ["b.c.mp4"]
    assert list(found.skipped) == ["a.mp4"]
    assert re.search(message, found.skipped["a.mp4"])


def test_trim_cuts_all_cameras_alike(folders):
    write(folders / "generated", "a.left", num_frames=3)
    seen = []
    evaluate(folders, seen, Alignment(trim=True))
    assert {len(view.generated_THWC) for view in seen[0].views.values()} == {3}
    assert len(seen[0].generated_THWC) == len(seen[0].truth_THWC) == 3


def test_a_changed_view_is_scored_again_and_recorded(folders):
    seen = []
    for level in (10, 10, 200):
        if level == 200:
            write(folders / "generated", "a.left", level=level)
        evaluate_folders(
            folders / "generated", folders / "truth", [metric(seen)], work=folders / "work"
        )
    assert len(seen) == 3, "two videos, and the changed one again"
    hashes = describe_folders(Comparison(folders / "generated", folders / "truth"))["sha256"]
    # Three videos with their truth, and two camera files beside that.
    assert len(hashes["a.mp4"]) == 8 and len(hashes["b.c.mp4"]) == 6


def test_a_changed_signal_cannot_be_repeated(folders):
    seen = []
    found = evaluate(folders, seen, needs=("truth",))
    inputs = describe_folders(Comparison(folders / "generated", folders / "truth"))
    record = as_record(make_record(found, inputs), "the record")
    np.savez(folders / "truth" / "a.left.camera.npz", poses=np.eye(4))
    with pytest.raises(ConfigError, match=r"1 of 2 videos are not those.*'a\.mp4'"):
        repeat_folders(record)


def test_videos_without_views_are_told_how_to_give_them(folders):
    for file in folders.glob("*/*.left.mp4"):
        file.unlink()
    for file in folders.glob("*/*.right.mp4"):
        file.unlink()
    with pytest.raises((ConfigError, VideoError), match=r"NAME\.CAMERA\.mp4"):
        evaluate(folders, [])
