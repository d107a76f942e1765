"""``nemo-cosmos evaluate`` on folders of real mp4 files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.evaluation.suites import SUITES
from nemo_cosmos.testing.chat_server import ChatServer
from nemo_cosmos.video import Video, encode_video

READ = "nemo_cosmos.evaluation.files.pairs.read_pair"


@pytest.fixture
def run(run_cli):
    return lambda *words: run_cli("evaluate", *words)


@pytest.fixture
def folders(tmp_path: Path, moving_square_THWC) -> tuple[Path, Path]:
    truth, generated = tmp_path / "truth", tmp_path / "generated"
    for name in ("a.mp4", "b.mp4"):
        encode_video(truth / name, Video(moving_square_THWC, fps=10))
        encode_video(generated / name, Video(moving_square_THWC, fps=10), crf=35)
    encode_video(truth / "unused.mp4", Video(moving_square_THWC, fps=10))
    return generated, truth


def test_json_files_and_plot(run, folders, tmp_path):
    out = tmp_path / "out"
    result = run(*folders, "--json", "--skip-frames", 1, "--out", out).json
    assert result["num_clips"] == 2
    assert set(result["clips"]) == {"a.mp4", "b.mp4"}
    value = {name: score["value"] for name, score in result["scores"].items()}
    assert value["psnr"] > value["psnr_repeat_first"]
    assert value["motion_following"] > 0.9
    assert json.loads((out / "evaluation.json").read_text()) == result
    drift = json.loads((out / "curves.json").read_text())
    assert drift["first_frame"] == 1 and set(drift["curves"]) == {"psnr", "ssim"}
    assert len(drift["curves"]["psnr"]["a.mp4"]) == 24
    page = (out / "evaluation.html").read_text()
    assert page.count("data:video/mp4") >= 2 and "a.mp4" in page


def test_an_output_that_cannot_be_written_is_an_error_before_any_work(
    run, folders, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(READ, lambda *_: pytest.fail("decoded"))
    assert "is a file, not a folder" in run(*folders, "--out", tmp_path / "file").err


def test_table(run, folders):
    output = run(*folders, "-m", "psnr", "-m", "ssim").out
    assert "a.mp4" in output and "mean" in output and "psnr" in output


def test_judges_are_asked_without_a_truth(run, folders, tmp_path, monkeypatch):
    server = ChatServer(lambda body: '{"reason": "It moves.", "score": 4}')
    monkeypatch.setenv("NEMO_COSMOS_JUDGE_URL", server.url)
    monkeypatch.setenv("NEMO_COSMOS_JUDGE_MODEL", "a-judge")
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"a": "A square moves.", "b": "A square moves."}))
    words = (folders[0], "-m", "prompt_following", "--json")
    assert "needs 'prompt'" in run(*words).err
    result = json.loads(run(*words, "--prompts", prompts).out)
    server.close()
    assert result["scores"]["prompt_following"]["value"] == 4.0
    assert result["metrics"]["prompt_following"]["features"]["version"] == "a-judge"


def test_lengths_and_sizes_must_agree_unless_told(run, folders, moving_square_THWC):
    generated, truth = folders
    small = np.ascontiguousarray(moving_square_THWC[:20, ::2, ::2])
    encode_video(generated / "a.mp4", Video(small, fps=10))
    assert "--trim" in run(generated / "a.mp4", truth / "a.mp4").err
    assert "--resize" in run(generated / "a.mp4", truth, "--trim").err
    run(generated / "a.mp4", truth, "--trim", "--resize")
    assert "leaves none" in run(generated / "a.mp4", truth, "--trim", "--skip-frames", 20).err


def test_missing_folders_and_counterparts(run, folders, tmp_path):
    generated, truth = folders
    assert "no file or folder" in run(generated, tmp_path / "nowhere").err
    (tmp_path / "empty").mkdir()
    assert "no .mp4" in run(tmp_path / "empty", truth).err
    (truth / "b.mp4").unlink()
    assert "b.mp4" in run(generated, truth).err


def test_frames_of_different_times_are_compared_only_where_it_is_meant(
    run, folders, moving_square_THWC, monkeypatch
):
    for name in ("a.mp4", "b.mp4"):
        encode_video(folders[1] / name, Video(moving_square_THWC, fps=25))
    with monkeypatch.context() as patched:
        patched.setattr(READ, lambda *_: pytest.fail("decoded"))
        refused = run(*folders)
    assert refused.code == 2 and "10 and 25 frames a second" in refused.err
    result = run(*folders, "-m", "psnr", "--allow-mismatch", "frame_rate", "--json").json
    assert "25 frames a second" in result["allowed_mismatch"][0]


def test_check_stops_before_a_video_is_decoded(run, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(READ, lambda *_: pytest.fail("decoded"))
    well = run(*folders, "--out", tmp_path / "out", "--check", "--json")
    assert well.code == 0 and all(row["ok"] for row in well.json)
    assert not (tmp_path / "out").exists()
    bad = run(*folders, "-m", "psnrr", "--out", folders[0] / "a.mp4", "--check", "--json")
    wrong = {row["check"]: row["found"] for row in bad.json if not row["ok"]}
    assert bad.code == 2 and wrong.keys() == {"output", "metrics"}
    assert "is a file" in wrong["output"] and "'psnr'" in wrong["metrics"]


def test_bad_clips_are_skipped_counted_and_named(run, folders, tmp_path, moving_square_THWC):
    generated, truth = folders
    encode_video(truth / "c.mp4", Video(moving_square_THWC, fps=10))
    encode_video(generated / "c.mp4", Video(moving_square_THWC[:20], fps=10))
    encode_video(truth / "d.mp4", Video(moving_square_THWC, fps=10))
    (generated / "d.mp4").write_bytes((truth / "d.mp4").read_bytes()[:300])
    encode_video(truth / "e.mp4", Video(moving_square_THWC, fps=25))
    encode_video(generated / "e.mp4", Video(moving_square_THWC, fps=10))
    found = run(*folders, "-m", "psnr", "--json").json
    assert found["num_clips"] == 2 and found["scores"]["psnr"]["num"] == 2
    assert list(found["skipped"]) == ["c.mp4", "d.mp4", "e.mp4"]
    assert "--trim" in found["skipped"]["c.mp4"]
    assert "25 frames a second" in found["skipped"]["e.mp4"]
    assert "3 skipped" in run(*folders, "-m", "psnr").out


def test_requirements_decide_the_exit_code(run, folders, monkeypatch):
    assert run(*folders, "-m", "psnr", "--require", "psnr>10").code == 0
    refused = run(*folders, "-m", "psnr", "--require", "psnr>90")
    assert refused.code == 3 and "does not hold" in refused.err
    monkeypatch.setitem(SUITES, "small", ("psnr", "ssim"))
    computed = run(*folders, "--suite", "small", "--require", "motion_following>0.5", "--json")
    assert set(computed.json["scores"]) == {"psnr", "ssim", "motion_following"}
    assert "NAME>NUMBER" in run(*folders, "--require", "psnr").err


def test_compare_and_repeat(run, folders, tmp_path, moving_square_THWC):
    before, after = tmp_path / "before", tmp_path / "after"
    run(*folders, "-m", "psnr", "--out", before)
    repeated = run("--repeat", before / "evaluation.json", "--json")
    assert repeated.code == 0 and repeated.json[0]["is_equal"]
    folders[0].rename(tmp_path / "moved")
    gone = run("--repeat", before)
    assert gone.code == 2 and "say where it is now" in gone.err
    assert run("--repeat", before, tmp_path / "moved").code == 0
    assert "without 'world'" in run("--repeat", before, "--model", tmp_path).err
    (tmp_path / "moved").rename(folders[0])
    for name in ("a.mp4", "b.mp4"):
        encode_video(folders[0] / name, Video(moving_square_THWC, fps=10), crf=10)
    changed = run("--repeat", before)
    assert changed.code == 2 and "2 of 2 videos are not those of" in changed.err
    run(*folders, "-m", "psnr", "--out", after)
    (found,) = run("--compare", before, after, "--json").json
    assert found["verdict"] == "the second is better" and found["difference"]["value"] > 1
    assert "the second is better" in run("--compare", before, after).out
    recorded = json.loads((before / "evaluation.json").read_text())
    recorded["scores"]["psnr"] |= {"value": 70.0, "low": 69.0, "high": 71.0}
    recorded["inputs"] = json.loads((after / "evaluation.json").read_text())["inputs"]
    (before / "evaluation.json").write_text(json.dumps(recorded))
    outside = run("--repeat", before)
    assert outside.code == 1 and "outside" in outside.out


def test_a_suite_leaves_out_what_cannot_be_computed_and_a_metric_does_not(run, tmp_path):
    flat_THWC = np.full((6, 64, 64, 3), 90, np.uint8)  # no two points that could be matched
    for folder, value in (("truth", 90), ("generated", 95)):
        flat_THWC[:, :32] = value
        encode_video(tmp_path / folder / "a.mp4", Video(flat_THWC, fps=10))
    folders, out = (tmp_path / "generated", tmp_path / "truth"), tmp_path / "out"
    asked = run(*folders, "--suite", "camera", "--out", out)
    assert asked.code == 0 and "not computed: sampson_sift: No two" in asked.out
    record = json.loads((out / "evaluation.json").read_text())
    assert "points in common" in record["not_computed"]["sampson_sift"]
    assert "psnr" in record["scores"] and "sampson_sift" not in record["scores"]
    assert "sampson_sift" in (out / "evaluation.html").read_text()
    assert run("--repeat", out).code == 0
    for words in (["-m", "sampson_sift"], ["--suite", "camera", "-m", "sampson_sift"]):
        named = run(*folders, *words, "--out", out)
        assert named.code == 2 and "points in common" in named.err
    required = run(*folders, "--suite", "camera", "--require", "sampson_sift<1")
    assert required.code == 2 and "points in common" in required.err


def test_list_and_modes(run, folders):
    listed = run("--list", "--json").json
    about = listed["metrics"]["lpips_vgg"]
    assert about["needs"] == ["truth"] and about["features"]["version"]
    assert about["batching"]["frames"][1] > 1 and about["higher_is_better"] is False
    assert listed["metrics"]["prompt_following"]["features"] is None, "no judge is configured"
    assert "psnr" in listed["suites"]["tokenizer"]
    assert "motion_following" in run("--list").out
    assert "nearest are 'tokenizer'" in run(*folders, "--suite", "tokeniser").err
    assert run().code == 2 and "got none" in run().err
    assert "got --list and a folder" in run(*folders, "--list").err


def test_what_is_no_video_to_open_is_one_reason_and_hidden_files_and_folders_are_none(
    run, folders, tmp_path
):
    generated = folders[0]
    (generated / "unused.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (generated / "._a.mp4").write_bytes(b"\0\5\26\7")
    (generated / "folder.mp4").mkdir()
    out = tmp_path / "out"
    found = run(*folders, "-m", "psnr", "--json", "--out", out).json
    assert found["num_clips"] == 2 and list(found["skipped"]) == ["unused.mp4"]
    assert run("--repeat", out).code == 0


def test_options_without_effect_are_refused_above_all_the_gate(run, folders, tmp_path):
    out = tmp_path / "out"
    assert run(*folders, "-m", "psnr", "--out", out).code == 0
    for mode in (("--repeat", out), ("--compare", out, out), ("--list",)):
        refused = run(*mode, "--require", "psnr>99")
        assert refused.code == 2 and "--require takes effect only with" in refused.err
        for option in (("--metric", "ssim"), ("--out", out), ("--workers", 2), ("--suite", "x")):
            refused = run(*mode, *option)
            assert refused.code == 2 and f"{option[0]} takes effect only with" in refused.err


@pytest.mark.parametrize("name", ["[red]a.mp4", "[b].mp4"])
def test_names_with_brackets_are_shown_as_they_are(run, folders, name):
    for folder in folders:
        (folder / "a.mp4").rename(folder / name)
    assert name in run(*folders, "-m", "psnr").out


def test_prompts_nested_without_end_are_one_paragraph(run, folders, tmp_path):
    prompts = tmp_path / "prompts.json"
    prompts.write_text("[" * 100_000)
    refused = run(*folders, "-m", "psnr", "--prompts", prompts)
    assert refused.code == 2 and "cannot be read" in refused.err


def test_curves_that_are_asked_for_must_be_there(run, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(READ, lambda *_: pytest.fail("decoded"))
    refused = run(*folders, "--training", tmp_path / "nowhere")
    assert refused.code == 2 and "no training curves" in refused.err
