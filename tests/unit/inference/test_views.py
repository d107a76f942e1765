"""A world of several cameras: what it is asked, given and told, and what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    SampleError,
    VideoError,
    WrongFrameCountError,
)
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference import WorldPipeline
from nemo_cosmos.inference import pipeline as pipeline_module
from nemo_cosmos.inference.trial.checks import trial_checks
from nemo_cosmos.inference.trial.run import try_world
from nemo_cosmos.inference.trial.videos import Trial
from nemo_cosmos.inference.views import RecordedRig, view_sources
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import Video, decode, encode_video
from nemo_cosmos.video.pictures import LABEL_HEIGHT_PX

QUICK = {"steps": 2, "guidance": 0.0}
VIEWS = ("front", "left", "roof")
HEIGHT, WIDTH = 32, 48


def rig_of(num_views: int, **changes: Any) -> dict[str, np.ndarray]:
    """Cameras that look around, of pictures twice as large as the world's."""
    angles = np.arange(num_views) * 0.8
    poses = np.tile(np.eye(4), (num_views, 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angles)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angles), -np.sin(angles)
    matrix = np.array([[60.0, 0, WIDTH], [0, 60, HEIGHT], [0, 0, 1]])
    return {
        "poses": poses,
        "intrinsics": np.tile(matrix, (num_views, 1, 1)),
        "size": np.tile([2.0 * HEIGHT, 2.0 * WIDTH], (num_views, 1)),
        **changes,
    }


RIG = RecordedRig(VIEWS, rig_of(3))
NAMED = RecordedRig(VIEWS)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("worlds")
    encoder = {"kind": "words", "path": None, "max_length": 6, "dim": 12}
    slots = {"view_slots": ("front", "left"), "text_encoder": encoder}
    return {
        "plain": write_world(folder / "plain", max_given_views=1, **slots),
        "driving": write_world(folder / "driving", controls=["driving"], **slots),
        "layout": write_world(folder / "layout", controls=["layout"], **slots),
        "one": write_world(folder / "one", text_encoder=encoder),
    }


@pytest.fixture
def load(
    worlds: dict[str, Path],
    guards: GuardPolicy,
    word_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], WorldPipeline]:
    monkeypatch.setattr(pipeline_module, "load_text_encoder", lambda spec: word_encoder)
    return lambda kind: WorldPipeline.from_folder(worlds[kind], guards)


def moving(shift: int, num_frames: int = 9, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A square that moves from where this camera sees it first."""
    frames = np.full((num_frames, *size, 3), 60 + 40 * shift, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 4 * shift + number : 4 * shift + number + 10] = 230
    return frames


@pytest.fixture
def given() -> dict[str, np.ndarray]:
    return {view: moving(number)[:1] for number, view in enumerate(VIEWS)}


def test_a_rig_decides_what_is_made_and_the_grid_shows_all_in_step(
    load: Callable[[str], WorldPipeline], tmp_path: Path
) -> None:
    pipe = load("plain")
    made = pipe.generate("a town", rig=RIG, **QUICK)
    assert made.views == VIEWS
    assert all(one.frames_THWC.shape == (9, HEIGHT, WIDTH, 3) for one in made.by_view.values())
    assert not any(one.frames_THWC[:, 0].any() for one in made.by_view.values()), "all are guarded"
    grid_THWC = made.video.frames_THWC
    assert len(grid_THWC) == 9 and grid_THWC.shape[1] == HEIGHT + LABEL_HEIGHT_PX
    assert (grid_THWC[:, LABEL_HEIGHT_PX:, :WIDTH] == made.by_view["front"].frames_THWC).all()
    unknown = pipe.generate("a town", rig=NAMED, **QUICK)
    turned = pipe.generate("a town", rig=RecordedRig(VIEWS, rig_of(3)), seed=1, **QUICK)
    frames = [one.by_view["left"].frames_THWC for one in (made, unknown, turned)]
    assert (frames[0] == frames[2]).all() and (frames[0] != frames[1]).any()

    made.save(tmp_path / "drive.mp4")
    assert sorted(file.name for file in (tmp_path / "drive").iterdir()) == [
        "front.mp4", "left.mp4", "roof.mp4",
    ]  # fmt: skip
    record = json.loads((tmp_path / "drive.json").read_text())
    assert record["video"]["views"] == list(VIEWS) and record["video"]["num_frames"] == 9
    assert "rig.poses" in record["control_sha256"]
    assert set(view_sources(tmp_path / "drive")) == set(VIEWS)


def test_frames_of_every_camera_are_continued_chunk_by_chunk(
    load: Callable[[str], WorldPipeline], given: dict[str, np.ndarray], tmp_path: Path
) -> None:
    pipe = load("plain")
    made = pipe.predict("a town", given, rig=RIG, **QUICK)
    other = pipe.predict("a town", {**given, "left": moving(3)[:1]}, rig=RIG, **QUICK)
    for view in VIEWS:  # a camera sees what another is given
        assert (made.by_view[view].frames_THWC != other.by_view[view].frames_THWC).any()
    longer = pipe.extend("a town", given, 2, rig=RIG, **QUICK)
    assert longer.by_view["roof"].num_frames == 9 + 4  # a chunk continues five frames
    for view, frames_THWC in given.items():
        assert (longer.by_view[view].frames_THWC[0, 1:] == frames_THWC[0, 1:]).all()


def test_a_whole_view_leads_to_the_others(load: Callable[[str], WorldPipeline]) -> None:
    pipe = load("plain")
    one = {"front": moving(0)}
    made = pipe.predict("a town", one, rig=NAMED, whole=["front"], **QUICK)
    other = pipe.predict("a town", {"front": moving(2)}, rig=NAMED, whole=["front"], **QUICK)
    assert (made.by_view["left"].frames_THWC != other.by_view["left"].frames_THWC).any()
    longer = pipe.extend("a town", {"front": moving(0, 13)}, 2, rig=NAMED, whole=["front"], **QUICK)
    assert {one.num_frames for one in longer.by_view.values()} == {13}
    assert (longer.by_view["front"].frames_THWC[:, 1:] == moving(0, 13)[:, 1:]).all()
    both = {"front": moving(0), "left": moving(1)[:1], "roof": moving(2)[:1]}
    begun = pipe.predict("a town", both, rig=NAMED, whole=["front"], **QUICK)
    assert (begun.by_view["left"].frames_THWC != made.by_view["left"].frames_THWC).any()


def test_each_camera_shows_its_own_words(load: Callable[[str], WorldPipeline]) -> None:
    pipe = load("plain")
    same = pipe.generate("a town", rig=NAMED, **QUICK)
    named = pipe.generate("a town", rig=NAMED, view_prompts={"left": "a town"}, **QUICK)
    other = pipe.generate("a town", rig=NAMED, view_prompts={"left": "rain"}, **QUICK)
    for view in VIEWS:
        frames = [one.by_view[view].frames_THWC for one in (same, named, other)]
        assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1, "the same words"
        assert (frames[0] != frames[2]).any()
    hashes = other.provenance["view_prompts_sha256"]
    assert list(hashes) == list(VIEWS) and hashes["front"] == hashes["roof"] != hashes["left"]
    assert "view_prompts_sha256" not in same.provenance


@pytest.mark.parametrize("num_views", [1, 7])
def test_a_number_of_cameras_that_no_name_was_trained_for(
    load: Callable[[str], WorldPipeline], num_views: int
) -> None:
    names = tuple(f"camera_{number}" for number in range(num_views))
    rig = RecordedRig(names, rig_of(num_views))
    path = np.linspace([0, 0, 0], [3.0, 0, 0], 9, dtype=np.float32)
    pipe = load("driving")
    asked = {"rig": rig, "steps": 1, "guidance": 0.0}
    made = pipe.generate("a town", control={"trajectory": path}, **asked)
    other = pipe.generate("a town", control={"trajectory": 3 * path}, **asked)
    assert made.views == names if num_views > 1 else made.video.num_frames == 9
    assert (made.video.frames_THWC != other.video.frames_THWC).any()


def write_layouts(folder: Path, num_frames: int = 9, shift: int = 0) -> Path:
    """A layout video for each camera, twice as large as the world's pictures."""
    folder.mkdir()
    for number, view in enumerate(VIEWS):
        frames = moving(number + shift, num_frames, (2 * HEIGHT, 2 * WIDTH))
        encode_video(folder / f"{view}.mp4", Video(frames, 10.0), crf=8)
    return folder


def test_layout_videos_steer_every_camera(
    load: Callable[[str], WorldPipeline], given: dict[str, np.ndarray], tmp_path: Path
) -> None:
    pipe = load("layout")
    own, other = (write_layouts(tmp_path / name, 13, shift) for name, shift in (("a", 0), ("b", 2)))
    ask = {"rig": NAMED, **QUICK}
    made = [pipe.predict("a town", given, control={"layout": one}, **ask) for one in (own, other)]
    frames = decode(own / "left.mp4").frames_THWC
    assert frames.shape == (13, 2 * HEIGHT, 2 * WIDTH, 3)
    in_memory = {view: decode(own / f"{view}.mp4") for view in reversed(VIEWS)}
    again = pipe.predict("a town", given, control={"layout": in_memory}, **ask)
    for view in VIEWS:
        seen = [one.by_view[view].frames_THWC for one in (*made, again)]
        assert (seen[0] != seen[1]).any() and np.abs(seen[0].astype(int) - seen[2]).max() <= 1
    assert "layout.left" in made[0].provenance["control_sha256"]
    longer = pipe.extend("a town", given, 2, control={"layout": own}, **ask)
    assert longer.by_view["roof"].num_frames == 13
    assert pipe.generate("a town", control={"layout": own}, **ask).views == VIEWS


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"left": None}, InputError, "no layout video of left. Give one for each camera"),
        ({"rear": moving(0)}, InputError, "'rear', which is no camera of the rig"),
        ({"left": moving(0, 5)}, VideoError, "'front' has 9 frames, 'left' has 5 frames"),
        (dict.fromkeys(VIEWS, moving(0, 5)), WrongFrameCountError, "Layout of view 'front': The"),
        ({"left": moving(0, 9, (64, 48))}, VideoError, "48x32 pixels, 'left' has 48x64"),
    ],
)
def test_layout_videos_of_other_cameras_are_refused(
    load: Callable[[str], WorldPipeline], change: dict, error: type[Exception], message: str
) -> None:
    asked = {**{view: moving(0) for view in VIEWS}, **change}
    layouts = {view: frames for view, frames in asked.items() if frames is not None}
    with pytest.raises(error, match=message):
        load("layout").generate("a town", rig=NAMED, control={"layout": layouts}, **QUICK)


WRONG: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("plain", {}, InputError, "several cameras see together"),
    ("one", {"rig": NAMED}, InputError, "takes neither a rig"),
    ("one", {"frames": moving(0), "view_prompts": {"left": "rain"}}, InputError, "one camera's"),
    (
        "plain",
        {
            "rig": NAMED,
            "frames": {v: moving(0)[:1] for v in VIEWS},
            "view_prompts": {"rear": "rain"},
        },
        InputError,
        "prompt for the view 'rear'",
    ),
    ("one", {"frames": {"front": moving(0)[:1]}}, InputError, "takes neither a rig"),
    ("plain", {"rig": NAMED, "frames": moving(0)[:1]}, InputError, "the frames are of one"),
    ("plain", {"rig": NAMED, "frames": {"rear": moving(0)}}, InputError, "'rear' is no camera"),
    ("plain", {"rig": NAMED, "frames": {"left": moving(0)}}, InputError, "not of front, roof"),
    ("plain", {"rig": NAMED, "whole": ["roof"]}, InputError, "'roof' is to be given as a whole"),
    (
        "plain",
        {"rig": NAMED, "frames": {"front": moving(0), "left": moving(1)}, "whole": VIEWS[:2]},
        InputError,
        "trained to be given 1",
    ),
    (
        "plain",
        {"rig": NAMED, "frames": {"front": moving(0, 5)}, "whole": ["front"]},
        WrongFrameCountError,
        "View 'front': The input has 5 frames",
    ),
    (
        "driving",
        {"rig": NAMED, "frames": {view: moving(0)[:1] for view in VIEWS}},
        InputError,
        "takes 'rig', 'trajectory' as control, but got nothing",
    ),
]


@pytest.mark.parametrize(("kind", "change", "error", "message"), WRONG)
def test_what_does_not_belong_together_is_refused(
    load: Callable[[str], WorldPipeline],
    kind: str,
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    asked = {"frames": {"front": moving(0)[:1]}, **change}
    if kind == "plain" and not change:
        asked["frames"] = moving(0)[:1]
    with pytest.raises(error, match=message):
        load(kind).predict("a town", **asked, **QUICK)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Video(moving(1, 5), 10.0), r"'front' has 9 frames, 'left' has 5 frames"),
        (Video(moving(1, 9, (64, 48)), 10.0), r"48x32 pixels, 'left' has 48x64 pixels"),
        (Video(moving(1), 12.0), r"10 frames/s, 'left' has 12 frames/s"),
    ],
)
def test_views_of_other_moments_are_refused_up_front(
    load: Callable[[str], WorldPipeline], other: Video, message: str
) -> None:
    frames = {"front": Video(moving(0), 10.0), "left": other}
    with pytest.raises(VideoError, match=message):
        load("plain").predict("a town", frames, rig=RecordedRig(("front", "left")), **QUICK)


def test_a_rig_is_named_and_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "rig.npz", **rig_of(3))
    with pytest.raises(SampleError, match="does not name its cameras"):
        RecordedRig.read(tmp_path / "rig.npz")
    assert RecordedRig.read(tmp_path / "rig.npz", VIEWS).views == VIEWS
    np.savez(tmp_path / "rig.npz", **rig_of(3), names=np.array(VIEWS))
    assert RecordedRig.read(tmp_path / "rig.npz").views == VIEWS
    with pytest.raises(SampleError, match="3 cameras, but 2 names"):
        RecordedRig.read(tmp_path / "rig.npz", VIEWS[:2])
    with pytest.raises(ConfigError, match="two are the same"):
        RecordedRig(("front", "front"))
    sizes = rig_of(3)["size"] * np.array([[1.0], [1.0], [0.5]])
    with pytest.raises(SampleError, match="of several sizes"):
        RecordedRig(VIEWS, rig_of(3, size=sizes)).signal(HEIGHT, WIDTH)
    fitted = RIG.signal(HEIGHT, WIDTH)
    assert fitted["intrinsics"][0, 0, 0] == pytest.approx(30), "half as many pixels"


def test_a_folder_of_views(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"front\.mp4, left\.mp4"):
        view_sources(tmp_path / "none")
    with pytest.raises(MissingFileError, match="holds no view"):
        view_sources(tmp_path)
    encode_video(tmp_path / "front.mp4", Video(moving(0), 10.0))
    (tmp_path / "notes.txt").write_text("a drive")
    assert list(view_sources(tmp_path)) == ["front"]


def write_drive(folder: Path, key: str, shift: int) -> None:
    """A drive of two cameras with its rig and path."""
    folder.mkdir(exist_ok=True)
    for number, view in enumerate((key, f"{key}.left")):
        encode_video(folder / f"{view}.mp4", Video(moving(number + shift), 10.0), crf=10)
    np.savez(folder / f"{key}.rig.npz", **rig_of(2))
    path = np.linspace([0, 0, 0], [2.0 + shift, 0.1 * shift, 0], 9)
    np.save(folder / f"{key}.trajectory.npy", path.astype(np.float32))
    for number, view in enumerate((key, f"{key}.left")):
        layout = Video(moving(number + 2 * shift), 10.0)
        encode_video(folder / f"{view}.layout.mp4", layout, crf=10)
    record = {"caption": "a town", "views": ["front", "left"]}
    (folder / f"{key}.json").write_text(json.dumps(record))


@pytest.mark.parametrize("kind", ["plain", "driving", "layout"])
def test_a_trial_makes_and_scores_all_cameras_of_recorded_drives(
    kind: str,
    load: Callable[[str], WorldPipeline],
    worlds: dict[str, Path],
    tmp_path: Path,
) -> None:
    for shift, key in enumerate(("a", "b")):
        write_drive(tmp_path / "drives", key, shift)
    trial = Trial(
        ("psnr", "cross_view_agreement_sift"),
        options=QUICK,
        optional=frozenset({"cross_view_agreement_sift"}),
    )
    for check in trial_checks(worlds[kind], tmp_path / "drives", trial):
        check.look()
    seen: list[dict[str, Any]] = []
    pipe = load(kind)
    run = pipe.run
    pipe.run = lambda request, *others: seen.append(request) or run(request, *others)  # type: ignore[method-assign]
    evaluation, _ = try_world(pipe, tmp_path / "drives", trial, out=tmp_path / "out")
    assert {request.rig.views for request in seen} == {("front", "left")}
    assert all(request.rig.values["poses"].shape == (2, 4, 4) for request in seen)
    assert sorted(evaluation.clips) == ["a", "b"]
    grid = decode(tmp_path / "out" / "videos" / "truth" / "a.mp4").frames_THWC
    assert grid.shape[2] > 2 * WIDTH, "the report shows both cameras"
    assert (tmp_path / "out" / "videos" / "own" / "a" / "left.mp4").is_file()
    if kind != "plain":
        others = {name for name in evaluation.scores if name.startswith("other")}
        assert len(seen) > 2 or others, "it was told other paths, too"


def test_a_missing_camera_of_a_recording_is_named(
    load: Callable[[str], WorldPipeline], tmp_path: Path
) -> None:
    write_drive(tmp_path / "drives", "a", 0)
    (tmp_path / "drives" / "a.left.mp4").unlink()
    with pytest.raises(MissingFileError, match=r"no 'a\.left\.mp4' for 'left'"):
        try_world(load("plain"), tmp_path / "drives", Trial(options=QUICK))
