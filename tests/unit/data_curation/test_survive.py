"""Runs that are killed in any phase, and disks that are full: the same command mends it all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_curation.catalogue import open_catalogue
from nemo_cosmos.video import Video, encode_video

sys.path.append(str(Path(__file__).parent))  # the programs import what they share by name
from curation_workers import curate_command, tree

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}

#: Where a run is killed, and at which call. The last three are phases of the catalogue.
PLACES = [
    ("data_curation.journal:Journal.record", 1),
    ("data_curation.stages.deduplicate:DeduplicateStage.process_all", 1),
    ("nemo_cosmos.data.shards.writer:CuratedWriter.add", 2),
    ("pathlib:Path.rename", 3),  # the old shards are moved aside, the new ones not in place
    ("data_curation.pipeline:write_index", 1),
    ("data_curation.pipeline:write_report", 1),
    ("data_curation.store:ClipStore.clear", 1),
    ("data_curation.catalogue.documents:SQLiteStore.add", 1),
    ("data_curation.catalogue.documents:SQLiteStore.add", 4),
    ("data_curation.catalogue.documents:SQLiteStore.add", 6),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, build_scene_once):
    """Input, the output of an earlier run on a part of it, that of an undisturbed run on all."""
    base = tmp_path_factory.mktemp("survive")
    for number, name in enumerate(("a", "b", "sub/c")):
        encode_video(base / "raw" / f"{name}.mp4", Video(build_scene_once(number, 20), fps=10))
    assert curate_command(base / "raw", base / "earlier" / "out")[0] == 0
    encode_video(base / "raw" / "late.mp4", Video(build_scene_once(9, 20), fps=10))
    assert curate_command(base / "raw", base / "straight" / "out")[0] == 0
    return base


def versions(folder: Path) -> list[tuple[int, list[str]]]:
    """Number and keys of each version in the catalogue beside an output."""
    with open_catalogue(folder / "catalogue.db") as opened:
        return [
            (each["version"], [clip["key"] for clip in opened.clips(each)])
            for each in opened.datasets("films")
        ]


def test_killed_in_any_phase(folders, tmp_path):
    words = []
    for number, (place, count) in enumerate(PLACES):
        shutil.copytree(folders / "earlier", tmp_path / str(number))
        words += [str(tmp_path / str(number) / "out"), place, str(count)]
    program = [sys.executable, "-W", "ignore", str(HERE / "killed_runs.py")]
    run = subprocess.run(
        [*program, str(folders / "raw"), *words],
        env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split() == [str(-signal.SIGKILL)] * len(PLACES)
    wanted = tree(folders / "straight" / "out")
    for number, (place, count) in enumerate(PLACES):
        code, out, err = curate_command(folders / "raw", tmp_path / str(number) / "out")
        assert code == 0, err
        assert tree(tmp_path / str(number) / "out") == wanted, (place, count)
        num_new = 1 if number == 0 else 0
        assert json.loads(out)["num_reused"] == 4 - num_new, (place, count)
        (first, _), (second, keys) = versions(tmp_path / str(number))
        assert (first, second, len(keys)) == (1, 2, 4), (place, count)


@pytest.fixture
def namespace():
    """What starts a command where a tmpfs may be mounted."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("this machine gives us no mount namespace of our own")
    return prefix


def test_full_disk_in_any_phase(folders, tmp_path, namespace):
    (tmp_path / "disk").mkdir()
    program = [sys.executable, "-W", "ignore", str(HERE / "small_disk.py")]
    places = [str(folders / name) for name in ("raw", "earlier", "straight/out")]
    run = subprocess.run(
        [*namespace, *program, *places, str(tmp_path / "disk"), *map(str, range(0, 64, 8))],
        env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(end["intact"] and end["same"] for end in ends), ends
    full = [end["message"].splitlines() for end in ends if end["code"]]
    assert len(full) >= 5
    for *progress, message in full:
        assert message.startswith("Error: No space left")
        assert "run the same command again" in message
        assert all(json.loads(line)["event"] == "progress" for line in progress)
