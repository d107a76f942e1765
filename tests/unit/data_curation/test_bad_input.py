"""``nemo-cosmos curate`` on everything that people call a video: a reason, or correct output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.video import Video, encode_video, probe

sys.path.append(str(Path(__file__).parent))  # the programs import what they share by name
from curation_workers import curate_command

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}

REJECTED = {
    "0 bytes.mp4": "not_a_video",
    "truncated.mp4": "not_a_video",
    "header alone.mp4": "not_a_video",
    "sound.mp4": "not_a_video",
    "text.mp4": "not_a_video",
    "encrypted.mp4": "encrypted",
    "photo.mp4": "still_image",
    "one frame.mp4": "too_short",
    "1x1.mkv": "too_small",
    "16k.mkv": "too_large",
    "gone.mp4": "unreadable",
    "pipe.mp4": "unreadable",
    "broken words.mp4": "sidecar",
    "wrong actions.mp4": "sidecar",
}
#: What is kept: frames, frames a second, height and width.
KEPT = {
    "1 fps.mp4": (12, 1, 64, 96),
    "240 fps.mp4": (300, 240, 64, 96),
    "odd.mp4": (20, 10, 61, 85),
    "negative times.mkv": (20, 10, 64, 96),
    " spaces  around .mp4": (20, 10, 64, 96),
    "new\nline.mp4": (20, 10, 64, 96),
    "'\"$(quotes) & <tags>.mp4": (20, 10, 64, 96),
    "día 日本 🎬.mp4": (20, 10, 64, 96),
    r"not utf-8 \xff.mp4": (20, 10, 64, 96),
    "CAPITALS.MP4": (20, 10, 64, 96),
    "sub/-dash/--help.mp4": (20, 10, 64, 96),
}


def write(path: Path, pictures, codec: str = "libx264", first_pts: int = 0, **options: str) -> None:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = pictures[0].height, pictures[0].width
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number, frame in enumerate(pictures):
            frame.pts, frame.time_base = number + first_pts, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def pictures(frames: np.ndarray) -> list[av.VideoFrame]:
    return [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]


def make_bad(folder: Path, scene, write_sound) -> None:
    """The files of :data:`REJECTED`."""
    good = folder / "broken words.mp4"
    encode_video(good, Video(scene(1, 20), fps=10))
    content = good.read_bytes()
    good.with_suffix(".json").write_text("{")
    shutil.copy(good, folder / "wrong actions.mp4")
    np.save(folder / "wrong actions.action.npy", np.zeros((7, 7), np.float32))
    (folder / "0 bytes.mp4").touch()
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (folder / "header alone.mp4").write_bytes(content[:32])
    (folder / "text.mp4").write_text("<html>404 not found</html>" * 20)
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    write_sound(folder / "sound.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8)
    write(folder / "encrypted.mp4", pictures(noise), **CENC)
    cv2.imwrite(str(folder / "photo.png"), scene(1, 1)[0])
    (folder / "photo.png").rename(folder / "photo.mp4")
    encode_video(folder / "one frame.mp4", Video(scene(1, 1), fps=10))
    write(folder / "1x1.mkv", pictures(np.zeros((3, 1, 1, 3), np.uint8)), codec="ffv1")
    huge = av.VideoFrame(15360, 8640, "yuvj420p")
    for plane in huge.planes:
        plane.update(bytes(plane.buffer_size))
    write(folder / "16k.mkv", [huge] * 2, codec="mjpeg")


def make_odd(folder: Path, scene) -> None:
    """The files of :data:`KEPT`, each of other pictures so that none is a duplicate."""
    for seed, (name, (num_frames, fps, height, width)) in enumerate(KEPT.items(), 10):
        path = folder / os.fsdecode(name.encode().replace(rb"\xff", b"\xff"))
        frames = scene(seed, num_frames)[:, :height, :width]
        if name.startswith("negative"):
            write(path, pictures(frames), first_pts=-5)
        else:
            encode_video(path, Video(frames, fps=fps))


@pytest.fixture(scope="module")
def run(tmp_path_factory, build_scene_once, write_sound_once):
    """One run on all of them."""
    base = tmp_path_factory.mktemp("bad")
    (base / "raw").mkdir()
    make_bad(base / "raw", build_scene_once, write_sound_once)
    make_odd(base / "raw", build_scene_once)
    code, out, err = curate_command(base / "raw", base / "out", "--skip", "all")
    assert code == 0, err
    lines = (base / "out" / "rejected.jsonl").read_text().splitlines()
    return SimpleNamespace(
        summary=json.loads(out),
        rejected={item["name"]: item for item in map(json.loads, lines)},
        samples={sample.record.source: sample for sample in read_samples(base / "out" / "v0")},
        report=(base / "out" / "report.html").read_text(),
    )


def test_every_file_is_accounted_for(run):
    assert run.summary["num_sources"] == len(REJECTED) + len(KEPT)
    assert run.rejected.keys() == REJECTED.keys()
    assert run.samples.keys() == KEPT.keys()
    assert sum(run.summary["rejected"].values()) == len(REJECTED)
    assert run.summary["num_dead"] == 0
    assert run.summary["version"] == "films@1"


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_used_is_rejected_with_its_reason(run, name):
    item = run.rejected[name]
    assert item["reason"] == REJECTED[name]
    assert item["detail"] and "Error" not in item["detail"]
    assert run.summary["rejected"][item["reason"]] >= 1
    assert item["reason"] in run.report


@pytest.mark.parametrize("name", KEPT, ids=ascii)
def test_what_is_odd_is_kept_as_it_is(run, name):
    num_frames, fps, height, width = KEPT[name]
    sample = run.samples[name]
    info = probe(sample.read("mp4"))
    assert (info.num_frames, info.fps, info.height, info.width) == (num_frames, fps, height, width)
    assert (sample.record.num_frames, sample.record.fps) == (num_frames, fps)
    sample.verify()


@pytest.mark.parametrize("content", ["nothing", "notes", "missing"])
def test_an_input_without_video_is_one_paragraph(tmp_path, content):
    if content != "missing":
        (tmp_path / "raw").mkdir()
    if content == "notes":
        (tmp_path / "raw" / "notes.txt").write_text("x")
    code, out, err = curate_command(tmp_path / "raw", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("Error: The input") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_outputs_and_catalogues_that_cannot_be_written_are_one_paragraph(tmp_path, scene):
    encode_video(tmp_path / "raw" / "a.mp4", Video(scene(1, 20), fps=10))
    (tmp_path / "file").touch()
    taken = tmp_path / "file" / "out"
    for output, catalogue in ((taken, tmp_path / "c.db"), (tmp_path / "out", taken)):
        more = ("--skip", "all", "--catalogue", str(catalogue))
        code, _, err = curate_command(tmp_path / "raw", output, *more)
        assert code == 2
        assert err.startswith("Error: ") and err.count("\n") == 1 and str(taken) in err


def test_a_list_may_name_files_that_are_no_text_and_files_that_are_gone(tmp_path, scene):
    encode_video(tmp_path / os.fsdecode(b"\xff.mp4"), Video(scene(1, 20), fps=10))
    (tmp_path / "list.txt").write_bytes(b"\xff.mp4\n\r\ngone.mp4\n")
    _, out, _ = curate_command(tmp_path / "list.txt", tmp_path / "out", "--skip", "all")
    assert json.loads(out)["num_clips"] == 1
    assert json.loads(out)["rejected"] == {"unreadable": 1}


CURATE = """
import sys
from pathlib import Path
from curation_workers import curate_command
code, _, err = curate_command(Path(sys.argv[1]), Path(sys.argv[2]), "--skip", "all")
print(code, err)
"""


def curate_without_rights(raw: Path, output: Path) -> str:
    """Exit code and standard error of a run that may read what its modes say, even as root."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        rights = "-dac_override,-dac_read_search"
        prefix = ["setpriv", "--bounding-set", rights, "--inh-caps", rights]
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and setpriv (util-linux) is not here")
    here = Path(__file__).parent
    command = [*prefix, sys.executable, "-W", "ignore", "-c", CURATE, str(raw), str(output)]
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[2]}"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_what_may_not_be_read_is_counted(tmp_path, scene):
    raw = tmp_path / "raw"
    for seed, name in enumerate(("open.mp4", "secret.mp4", "closed/inside.mp4")):
        encode_video(raw / name, Video(scene(seed, 20), fps=10))
    (raw / "secret.mp4").chmod(0)
    (raw / "closed").chmod(0)
    try:
        said = curate_without_rights(raw, tmp_path / "out")
    finally:
        (raw / "closed").chmod(0o755)
    assert said.startswith("0 "), said
    lines = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    found = {item["name"]: item for item in map(json.loads, lines)}
    assert {name: item["reason"] for name, item in found.items()} == {
        "secret.mp4": "unreadable",
        "closed": "unreadable",
    }
    assert all("may not be read" in item["detail"] for item in found.values())


def test_a_folder_that_may_not_be_read_is_one_paragraph(tmp_path, scene):
    encode_video(tmp_path / "raw" / "a.mp4", Video(scene(1, 20), fps=10))
    (tmp_path / "raw").chmod(0)
    said = curate_without_rights(tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw").chmod(0o755)
    assert said.startswith("2 Error: ") and "may not be read" in said
