"""A tokenizer on trial: what is computed, kept, left out, repeated and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.data.sample import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.evaluation.record import read_record
from nemo_cosmos.evaluation.sets import i3d
from nemo_cosmos.evaluation.sets.i3d import KVD_I3D
from nemo_cosmos.testing.tiny import tiny_tokenizer
from nemo_cosmos.video import Video, encode_video

NUM_CODES = 8 * 8 * 8 * 5 * 5 * 5


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizers")
    for name in ("cv", "dv"):
        tiny_tokenizer(f"tokenizer_nano_{name}4x8x8").save(folder / name)
    return {name: folder / name for name in ("cv", "dv")}


@pytest.fixture
def videos(tmp_path, moving_square_THWC) -> Path:
    folder = tmp_path / "videos"
    for number, name in enumerate("abc"):
        frames = np.roll(moving_square_THWC[:9], number, axis=1)
        encode_video(folder / f"{name}.mp4", Video(frames, fps=10))
    return folder


@pytest.fixture
def run(run_cli):
    return lambda *words: run_cli("evaluate", *words)


def test_a_discrete_tokenizer_is_scored_with_its_codes_and_all_to_repeat(
    run, tokenizers, videos, tmp_path
):
    out = tmp_path / "out"
    words = ("--tokenizer", tokenizers["dv"], "--data", videos, "--out", out, "--json")
    record = run(*words).json
    assert list(record["scores"]) == ["psnr", "ssim", "code_usage", "code_perplexity"]
    assert 1 / NUM_CODES <= record["scores"]["code_usage"]["value"] <= 1
    assert list(record["clips"]) == ["a", "b", "c"]
    assert record["inputs"]["model"]["codebook_size"] == NUM_CODES
    assert record["inputs"]["model"]["compression"] == "4x8x8"
    assert set(record["inputs"]["sha256"]) == {"a", "b", "c"}
    assert (out / "videos" / "reconstruction" / "a.mp4").is_file()
    page = (out / "evaluation.html").read_text()
    assert page.count("data:video/mp4") >= 2 and "code_perplexity" in page
    assert run(*words).json["scores"] == record["scores"]  # from what was kept
    assert run("--repeat", out / "evaluation.json").code == 0


def test_what_is_no_video_to_open_is_one_reason(run, tokenizers, videos, tmp_path):
    (videos / "d.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (videos / "._a.mp4").write_bytes(b"\0\5\26\7")
    (videos / "e.mp4").mkdir()
    out = tmp_path / "out"
    words = ("--tokenizer", tokenizers["cv"], "--data", videos, "-m", "psnr", "--out", out)
    found = run(*words, "--json").json
    assert list(found["skipped"]) == ["d"] and found["num_clips"] == 3
    assert run("--repeat", out).code == 0


def test_a_repetition_of_other_weights_or_videos_is_refused(run, tokenizers, videos, tmp_path):
    out = tmp_path / "out"
    run("--tokenizer", tokenizers["cv"], "--data", videos, "--out", out)
    file = out / "evaluation.json"
    record = json.loads(file.read_text())
    record["inputs"]["model"]["weights_sha256"] = "0" * 64
    (tmp_path / "edited.json").write_text(json.dumps(record))
    assert "The weights are not those" in run("--repeat", tmp_path / "edited.json").err
    (videos / "c.mp4").unlink()
    assert "The videos are not those" in run("--repeat", file).err


def test_a_suite_leaves_out_what_the_videos_do_not_allow(
    run, tokenizers, videos, tmp_path, monkeypatch
):
    monkeypatch.setattr("nemo_cosmos.evaluation.pair.lpips._network", lambda name: _Distance())
    monkeypatch.setattr(i3d, "_network", lambda: pytest.fail("too short for a clip"))
    monkeypatch.setattr(i3d, "CLIP_FRAMES", 9)
    monkeypatch.setattr(i3d, "_logits", lambda clips: np.zeros((len(clips), 400), np.float32))
    out = tmp_path / "out"
    words = ("--tokenizer", tokenizers["cv"], "--data", videos, "--suite", "tokenizer")
    record = run(*words, "--out", out, "--json").json
    assert list(record["scores"]) == ["psnr", "ssim", "lpips_vgg"]
    assert set(record["not_computed"]) == {"kvd_i3d", "fvd_i3d"}
    assert "at least 256 rows" in record["not_computed"]["fvd_i3d"]
    assert {row["benchmark"] for row in record["published"]["rows"]} == {"TokenBench", "DAVIS"}
    markdown = (out / "evaluation.md").read_text()
    assert "1 not computed: fvd_i3d" in markdown and "Cosmos-CV8x8x8" in markdown
    assert read_record(out / "evaluation.json").scores.keys() == record["scores"].keys()
    # By name it is an error.
    named = run(*words, "-m", "kvd_i3d")
    assert named.code != 0 and f"at least {KVD_I3D.min_rows} rows" in named.err


class _Distance:
    """Stands for LPIPS' network, which this is no test of."""

    min_side_px = 1

    def __call__(self, frames):
        return [frames]

    def lpips(self, a, b):
        return (a[0] - b[0]).abs().mean((1, 2, 3))


def test_windows_and_lengths_are_options(run, tokenizers, videos):
    words = ("--tokenizer", tokenizers["cv"], "--data", videos, "-m", "psnr", "--json")
    whole = run(*words).json["scores"]["psnr"]["value"]
    record = run(*words, "--window-frames", 5, "--max-frames", 6, "--limit", 2).json
    assert record["num_clips"] == 2 and record["inputs"]["max_frames"] == 6
    assert record["scores"]["psnr"]["value"] != whole


def test_shards_of_curation_serve_as_videos(run, tokenizers, videos, tmp_path):
    clip = ClipRecord(
        key="clip", source="a.mp4", span_s=(0.0, 0.9), fps=10.0, num_frames=9, width=64,
        height=48, caption="a square",
    )  # fmt: skip
    shards = tmp_path / "shards"
    with ShardWriter(shards) as writer:
        writer.add(clip, {"mp4": (videos / "a.mp4").read_bytes()})
    words = ("--tokenizer", tokenizers["cv"], "-m", "psnr", "--json")
    from_shard, from_folder = (run(*words, "--data", place).json for place in (shards, videos))
    assert from_shard["clips"]["clip"] == from_folder["clips"]["a"]
    assert from_shard["inputs"]["sha256"]["clip"] == from_folder["inputs"]["sha256"]["a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "code_usage"], "this one is continuous"),
        (["--metric", "prompt_following"], "more than a video and its reconstruction"),
        (["--window-frames", "8"], "5 or 9"),
        (["--steps", "3"], "No such option"),
        (["--option", "steps=3"], "only with a model"),
        (["--trim"], "only with two folders"),
        (["--require", "code_usage>0"], "this one is continuous"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    run, tokenizers, videos, words, message, monkeypatch
):
    monkeypatch.setattr(
        "nemo_cosmos.tokenizing.trial.reconstruct", lambda *_: pytest.fail("reconstructed")
    )
    result = run("--tokenizer", tokenizers["cv"], "--data", videos, *words)
    assert result.code == 2 and message in " ".join(result.err.split())


def test_python_users_call_the_same(run, tokenizers, videos):
    from nemo_cosmos import evaluate_tokenizer

    record = evaluate_tokenizer(tokenizers["dv"], videos, metrics=["code_usage"], limit=2)
    words = ("--tokenizer", tokenizers["dv"], "--data", videos, "-m", "code_usage", "--limit", 2)
    assert (
        record.scores["code_usage"].to_json() == run(*words, "--json").json["scores"]["code_usage"]
    )


def test_missing_inputs_are_named(run, tokenizers, videos, tmp_path):
    nowhere = tmp_path / "nowhere"
    assert "nowhere" in run("--tokenizer", nowhere, "--data", videos).err
    assert "holds no video" in run("--tokenizer", tokenizers["cv"], "--data", nowhere).err
    assert "--data" in run("--tokenizer", tokenizers["cv"]).err


def test_a_damaged_video_is_skipped_and_named(run, tokenizers, videos):
    (videos / "b.mp4").write_bytes(b"no video")
    record = run("--tokenizer", tokenizers["cv"], "--data", videos, "-m", "psnr", "--json").json
    assert record["num_clips"] == 2 and list(record["skipped"]) == ["b"]
