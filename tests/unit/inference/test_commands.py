"""generate, predict and extend from the command line, with real files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.inference import pipeline as pipeline_module
from nemo_cosmos.testing.tiny import tiny_tokenizer
from nemo_cosmos.video import Video, decode, encode_video

QUICK = ["--steps", "1", "--guidance", "0", "--disable-guard", "face_blur", "--json"]


@pytest.fixture
def run(
    tmp_path: Path,
    word_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Callable[..., Any],
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(pipeline_module, "load_text_encoder", lambda spec: word_encoder)
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> dict[str, Any]:
        ran = run_cli(*words)
        return {"code": ran.code, "out": ran.out, "error": ran.err}

    return call


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "first.png")
    return tmp_path / "first.png"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = np.random.default_rng(0).integers(0, 255, (7, 32, 48, 3), dtype=np.uint8)
    encode_video(tmp_path / "clip.mp4", Video(frames, fps=10))
    return tmp_path / "clip.mp4"


def test_generate_writes_video_and_provenance(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], tmp_path: Path
) -> None:
    world = make_world(task="text2world")
    told = json.loads(run("generate", world, "-p", "a red block", *QUICK)["out"])
    assert told["num_frames"] == 9 and told["video"] == "outputs/generate.mp4"
    assert decode(tmp_path / told["video"]).num_frames == 9
    record = json.loads((tmp_path / told["provenance"]).read_text())
    verdicts = {verdict["guard"]: verdict["category"] for verdict in record["guards"]}
    assert verdicts["face_blur"] == "disabled", "what was turned off is on record"


def test_predict_from_an_image_with_actions(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], image: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "actions.npy", np.zeros((8, 7), np.float32))
    call = ["predict", make_world(control="action"), "--input", image, *QUICK]
    told = json.loads(run(*call, "--actions", "actions.npy")["out"])
    assert told["num_frames"] == 9
    generic = run(*call, "--control", "action=actions.npy", "--out", "again.mp4")
    assert json.loads(generic["out"])["video"] == "again.mp4"
    assert np.array_equal(
        decode(tmp_path / "again.mp4").frames_THWC, decode(tmp_path / told["video"]).frames_THWC
    )


def test_a_camera_made_of_moves_steers(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], image: Path, tmp_path: Path
) -> None:
    for name, move in (("pan", "pan:40"), ("dolly", "dolly:0.5")):
        words = ["--move", move, "--frames", "9", "--size", "32x48"]
        assert run("camera", "move", f"{name}.camera.npz", *words)["code"] == 0
        assert (tmp_path / f"{name}.camera.png").is_file()
    call = ["predict", make_world(control="camera"), "--input", image, *QUICK]
    videos = {}
    for out, name in (("pan", "pan"), ("again", "pan"), ("dolly", "dolly")):
        run(*call, "--control", f"camera={name}.camera.npz", "--out", f"{out}.mp4")
        videos[out] = decode(tmp_path / f"{out}.mp4").frames_THWC
    assert np.array_equal(videos["pan"], videos["again"])
    assert not np.array_equal(videos["pan"], videos["dolly"])


def test_extend_a_clip_and_say_so_in_words(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], clip: Path
) -> None:
    words = ["extend", make_world(), "-i", clip, "-p", "go on", "--chunks", "2", *QUICK[:-1]]
    assert "extend.mp4: 13 frames of 48x32 at 10 fps" in run(*words)["out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--control", "action"], "is not NAME=PATH"),
        (["--actions", "none.npy"], "no file 'none.npy'"),
        (["--actions", "first.png"], "ending .npy or .npz"),
        (["--actions", "many.npz"], "is one array"),
        (["--actions", "few.npy"], "has 3 rows, but this video of 9 frames takes 8"),
        (["--actions", "nan.npy"], "'action' of 'nan.npy' holds NaN or infinity in row"),
        (["--actions", "huge.npy"], "reaches a magnitude of 1e+06"),
        (["--actions", "more.npy"], "has 11 rows, but this video of 9 frames takes 8"),
        (["--actions", "few.npy", "--control", "action=few.npy"], "given twice"),
        (["--precision", "float8"], "'float32'"),
        (["--disable-guard", "faces"], "face_blur"),
        (["--num-frames", "10"], "9 or 13"),
        (["--input", "nowhere.mp4"], "nowhere.mp4"),
        (["--input", "broken.mp4"], "broken.mp4"),
        (["--begin", "middle"], "'first', 'last'"),
        (["--num-condition-frames", "0"], "must be 1"),
        (["--fps", "1e9"], "at most 1,000"),
        (["--out", "x.gif"], "does not end in .mp4"),
        (["--out", "first.png/x.mp4"], "is a file, not a folder"),
    ],
)
def test_bad_input_is_one_paragraph(
    run: Callable[..., dict[str, Any]],
    make_world: Callable[..., Path],
    image: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    np.save(tmp_path / "few.npy", np.zeros((3, 7), np.float32))
    np.save(tmp_path / "more.npy", np.zeros((11, 7), np.float32))
    np.save(tmp_path / "nan.npy", np.full((8, 7), np.nan, np.float32))
    np.save(tmp_path / "huge.npy", np.full((8, 7), 1e6, np.float32))
    np.savez(tmp_path / "many.npz", a=np.zeros(3))
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    call = ["predict", make_world(control="action"), "--input", image, *QUICK, *words]
    result = run(*call)
    assert result["code"] == 2 and message in result["error"]
    assert not (tmp_path / "outputs").exists()


def test_extend_does_not_advise_to_extend(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], image: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "few.npy", np.zeros((3, 7), np.float32))
    call = ["extend", make_world(control="action"), "-i", image, *QUICK, "--actions", "few.npy"]
    error = run(*call)["error"]
    assert "number of chunks" in error and "'extend'" not in error


def test_the_folder_of_a_run_is_as_good_as_its_export(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "my_run").mkdir()
    (tmp_path / "my_run" / "export").symlink_to(make_world(task="text2world"))
    told = run("generate", tmp_path / "my_run", "-p", "a block", *QUICK)
    assert told["code"] == 0, told["error"]


def test_options_that_a_person_did_not_give_are_the_models_own(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], tmp_path: Path
) -> None:
    call = ["generate", make_world(task="text2world"), "-p", "a block", *QUICK]
    told = json.loads(run(*call, "--steps", "2", "--sampler", "edm_euler")["out"])
    options = json.loads((tmp_path / told["provenance"]).read_text())["options"]
    assert options["seed"] == 1 and options["num_frames"] == 9
    assert (options["steps"], options["sampler"]) == (2, "edm_euler")


def test_out_is_checked_before_the_model_is_loaded(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = run("generate", tmp_path / "no_model", "-p", "x", "--out", tmp_path)
    assert result["code"] == 2 and str(tmp_path) in result["error"]
    assert "no_model" not in result["error"]


def test_the_given_video_is_not_written_over(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "mine.mp4").write_bytes(b"the only copy")
    for verb, options in (("predict", []), ("extend", ["--check"])):
        call = [verb, tmp_path / "no_model", "-i", tmp_path / "mine.mp4", *options]
        result = run(*call, "--out", "mine.mp4")
        assert result["code"] == 2 and "is also read" in result["error"]
    assert (tmp_path / "mine.mp4").read_bytes() == b"the only copy"


def test_a_world_whose_tokenizer_was_exchanged_is_refused_unless_it_is_meant(
    run: Callable[..., dict[str, Any]], make_world: Callable[..., Path], tmp_path: Path
) -> None:
    world = tmp_path / "world"
    shutil.copytree(make_world(task="text2world"), world)
    torch.manual_seed(3)
    tiny_tokenizer().save(world / "tokenizer")
    call = ["generate", world, "-p", "a block", *QUICK]
    refused = run(*call)
    assert refused["code"] == 2 and "--allow-mismatch tokenizer" in refused["error"]
    told = json.loads(run(*call, "--allow-mismatch", "tokenizer")["out"])
    record = json.loads((tmp_path / told["provenance"]).read_text())
    assert "two tokenizers" in record["model"]["allowed_mismatch"][0]
    assert "'tokenizer'" in run(*call, "--allow-mismatch", "tokeniser")["error"]


def test_check_stops_before_the_work_with_a_table(
    run: Callable[..., dict[str, Any]],
    make_world: Callable[..., Path],
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_module.WorldPipeline, "from_folder", lambda *_: pytest.fail("?"))
    np.save(tmp_path / "few.npy", np.zeros((3, 7), np.float32))
    np.save(tmp_path / "right.npy", np.zeros((8, 7), np.float32))
    call = ["predict", make_world(control="action"), "--input", image, *QUICK, "--check"]
    well = run(*call, "--actions", "right.npy")
    assert well["code"] == 0, well
    found = {row["check"]: row for row in json.loads(well["out"])}
    assert all(row["ok"] for row in found.values())
    assert found["request"]["found"] == "9 frames of 48x32 at 10 fps, 1 of them given"
    assert "tensors" in found["weights"]["found"] and "free" in found["room"]["found"]
    bad = run(*call[:-2], "--check", "--actions", "few.npy", "--out", image / "x.mp4")
    assert bad["code"] == 2
    for words in ("output │ wrong", "request │ wrong", "has 3 rows", "world │ ok"):
        assert words in " ".join(bad["out"].split())
    assert not (tmp_path / "outputs").exists()


def test_an_illegal_request_is_refused_before_weights_are_loaded(
    run: Callable[..., dict[str, Any]],
    make_world: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_module.WorldPipeline, "from_folder", lambda *_: pytest.fail("?"))
    call = ["generate", make_world(task="text2world"), "-p", "a block", *QUICK]
    for words in (["--num-frames", "10"], ["--height", "33"], ["--tensor-parallel", "0"]):
        assert run(*call, *words)["code"] == 2
