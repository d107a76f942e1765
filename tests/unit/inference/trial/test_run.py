"""A world on trial: recorded episodes in, scores and obedience out, resumable and repeatable."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.controls import CAMERA, Control, Signal
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, SampleError
from nemo_cosmos.evaluation import choose_metrics
from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.obedience import OTHER
from nemo_cosmos.evaluation.record import as_record, make_record
from nemo_cosmos.evaluation.report import write_report
from nemo_cosmos.evaluation.run import Part, Scored
from nemo_cosmos.guardrails.site import site_policy
from nemo_cosmos.inference.episodes import Shape, find_episodes
from nemo_cosmos.inference.offloading import Turns
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.trial import run as module
from nemo_cosmos.inference.trial.checks import trial_checks
from nemo_cosmos.inference.trial.run import repeat_trial, try_world
from nemo_cosmos.inference.trial.scores import score_names, trial_evaluation, trial_metrics
from nemo_cosmos.inference.trial.videos import MEASURED, Trial
from nemo_cosmos.video import Video, encode_video
from post_training.robotics.signal import ACTION

SHAPE = Shape(num_frames=9, height=32, width=48, fps=10.0)
QUICK = {"steps": 2, "guidance": 0.0}


def write_recording(folder: Path, name: str, num_frames: int = 12, fps: float = 10.0) -> None:
    """A square that moves to the right, with actions of its own."""
    generator = np.random.default_rng(sum(map(ord, name)))
    frames_THWC = np.full((num_frames, 48, 72, 3), 90, np.uint8)
    for frame, picture in enumerate(frames_THWC):
        picture[10:30, 2 * frame : 2 * frame + 20] = 220
    folder.mkdir(parents=True, exist_ok=True)
    encode_video(folder / f"{name}.mp4", Video(frames_THWC, fps=fps), crf=12)
    actions = generator.normal(0, 0.5, (num_frames - 1, 7)).astype(np.float32)
    np.save(folder / f"{name}.action.npy", actions)
    (folder / f"{name}.json").write_text(json.dumps({"caption": f"a square {name}"}))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_recording(tmp_path / "episodes", name)
    return tmp_path / "episodes"


@pytest.fixture
def pipeline(make_world, word_encoder, guards, monkeypatch) -> WorldPipeline:
    monkeypatch.setattr(
        "nemo_cosmos.inference.pipeline.load_text_encoder", lambda spec: word_encoder
    )
    return WorldPipeline.from_folder(make_world(control="action"), guards)


def test_episodes_are_cut_sized_and_told(recordings):
    first, *_ = found = find_episodes(recordings, [ACTION], SHAPE)
    assert [one.name for one in found] == ["a", "b", "c"]
    episode = first.read()
    assert episode.truth_THWC.shape == (9, 32, 48, 3) and episode.prompt == "a square a"
    assert episode.control["action"]["action"].shape == (8, 7)
    assert len(find_episodes(recordings, [ACTION], SHAPE, limit=2)) == 2
    with pytest.raises(MissingFileError, match="holds no recording"):
        find_episodes(recordings.parent, [ACTION], SHAPE)


def test_an_episodes_camera_sees_what_the_crop_leaves(recordings):
    matrices_T33 = np.tile([[60.0, 0, 36], [0, 60, 24], [0, 0, 1]], (12, 1, 1))
    camera = {"poses": np.tile(np.eye(4), (12, 1, 1)), "intrinsics": matrices_T33}
    np.savez(recordings / "a.camera.npz", **camera, size=np.array([48, 72]))
    square = replace(SHAPE, width=32)  # of 48 columns 8 go on each side
    for told, extra in (([CAMERA], ()), ([ACTION], ("camera",))):
        episode = find_episodes(recordings, told, square, limit=1, recorded=extra)[0].read()
        found = {**episode.control, **episode.recorded}["camera"]
        assert found["intrinsics"][0].tolist() == [[40, 0, 16], [0, 40, 16], [0, 0, 1]]
        assert found["size"].tolist() == [32, 32] and len(found["poses"]) == 9


def test_a_further_camera_is_no_episode_of_its_own(recordings):
    shutil.copy(recordings / "a.mp4", recordings / "a.wrist.mp4")
    assert [one.name for one in find_episodes(recordings, [ACTION], SHAPE)] == ["a", "b", "c"]


def test_episodes_of_shards(recordings, tmp_path):
    content = {
        "mp4": (recordings / "a.mp4").read_bytes(),
        ACTION.suffix: (recordings / "a.action.npy").read_bytes(),
    }
    record = ClipRecord(
        key="clip", source="a.mp4", span_s=(0.0, 1.2), fps=10.0, num_frames=12, width=72,
        height=48, caption="a square",
    )  # fmt: skip
    with ShardWriter(tmp_path / "shards") as writer:
        writer.add(record, content)
    (episode,) = find_episodes(tmp_path / "shards", [ACTION], SHAPE)
    same = find_episodes(recordings, [ACTION], SHAPE, limit=1)[0].read()
    found = episode.read()
    assert episode.name == "clip" and found.prompt == "a square"
    assert (found.truth_THWC == same.truth_THWC).all()
    assert (found.control["action"]["action"] == same.control["action"]["action"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 8}, "has 8 frames, but the model makes 9"),
        ({"fps": 5.0}, "5 frames/s, but the model makes 10"),
    ],
)
def test_an_episode_that_does_not_fit_says_why(tmp_path, change, message):
    write_recording(tmp_path / "e", "a", **change)
    (episode,) = find_episodes(tmp_path / "e", [ACTION], SHAPE)
    with pytest.raises(InputError, match=message):
        episode.read()


def test_a_trial_scores_what_it_is_told_and_keeps_it(pipeline, recordings, tmp_path, monkeypatch):
    write_recording(recordings, "short", num_frames=5)
    (recordings / "b.action.npy").unlink()
    seen: list[tuple[int, int]] = []
    trial = Trial(("psnr", "motion_following"), options=QUICK)
    evaluation, inputs = try_world(
        pipeline,
        recordings,
        trial,
        out=tmp_path / "out",
        work=tmp_path / "work",
        progress=lambda *n: seen.append(n),
    )
    assert seen[-1] == (20, 20)
    assert "b.action.npy" in evaluation.skipped["b"] and "5 frames" in evaluation.skipped["short"]
    assert set(evaluation.clips) <= {"a", "c"} and evaluation.first_frame == 1
    names = {"psnr", "psnr.other", "psnr.x0", "action_sensitivity", "action_dose_response"}
    assert names | {"latent_l2", "generation_s"} <= set(evaluation.scores)
    assert (tmp_path / "out" / "videos" / "own" / "a.mp4").is_file()
    assert (tmp_path / "out" / "videos" / "truth" / "a.json").exists() is False
    # The random weights do react to actions.
    for one in evaluation.clips.values():
        assert one.scores["psnr.other"] != one.scores["psnr"] != one.scores["psnr.x0"]
    monkeypatch.setattr(WorldPipeline, "run", lambda *_: pytest.fail("generated again"))
    again, _ = try_world(pipeline, recordings, trial, work=tmp_path / "work")
    assert again.scores == evaluation.scores
    assert inputs["episodes"] == ["a", "b", "c", "short"] and inputs["seeds"] == [1]


def test_seeds_are_averaged_within_an_episode(pipeline, recordings):
    def psnr(*seeds: int) -> dict[str, float]:
        trial = Trial(("psnr",), seeds, told=(), options=QUICK)
        found, _ = try_world(pipeline, recordings, trial)
        return {name: clip.scores["psnr"] for name, clip in found.clips.items()}

    first, second, both = psnr(1), psnr(2), psnr(1, 2)
    assert first != second
    for name in both:
        assert both[name] == pytest.approx((first[name] + second[name]) / 2)
    with pytest.raises(ConfigError, match="each once"):
        Trial(seeds=(1, 1))


def test_a_recorded_trial_comes_out_again_and_other_weights_do_not(
    pipeline, recordings, tmp_path, monkeypatch, guards
):
    folder = tmp_path / "world"
    shutil.copytree(pipeline.world.folder, folder)
    world = WorldPipeline.from_folder(folder, guards)
    trial = Trial(("psnr",), options=QUICK, limit=2)
    evaluation, inputs = try_world(world, recordings, trial)
    record = as_record(json.loads(json.dumps(make_record(evaluation, inputs))), "before")
    now = repeat_trial(record, guards)
    for name, clip in record.clips.items():
        for metric, value in clip.items():
            if not metric.startswith(("generation_s", "host_peak_gb")):
                assert now.clips[name][metric] == pytest.approx(value, abs=1e-9)
    damaged = as_record({**record.content, "inputs": {"kind": "world"}}, "damaged")
    with pytest.raises(ConfigError, match="inputs in 'damaged' are damaged"):
        repeat_trial(damaged, guards)
    shutil.rmtree(folder)
    shutil.copytree(pipeline.world.folder, folder)
    monkeypatch.setattr(
        module.WorldPipeline, "model_record", {"weights_sha256": "x", "tokenizer_sha256": "y"}
    )
    with pytest.raises(ConfigError, match="weights_sha256 is x, was"):
        repeat_trial(record, guards)


def test_checks_before_a_world_is_loaded(pipeline, recordings, tmp_path):
    def found(
        data=recordings, out=tmp_path / "out", required=(), world=pipeline.world.folder, **trial
    ) -> dict[str, str]:
        checks = trial_checks(world, data, Trial(**trial), out, required)
        results = {}
        for check in checks:
            try:
                results[check.name] = check.look()
            except InputError as error:
                results[check.name] = f"wrong: {error}"
        return results

    assert found()["episodes"] == "3 episodes, 1 seed"
    assert "at least two" in found(limit=1)["episodes"]
    assert "is also read" in found(out=recordings)["output"]
    assert "no metric 'x'" in found(metrics=("x",))["metrics"]
    assert "wrong" in found(data=tmp_path / "nowhere")["episodes"]
    assert "tensors" in found()["weights"]
    for options, message in (
        ({"stepz": 2}, "stepz"),
        ({"steps": "two"}, "steps"),
        ({"steps": 0}, "steps"),
        ({"num_frames": 8}, "8 frames"),
        ({"height": 33}, "33"),
    ):
        assert message in found(options=options)["episodes"]
    assert "wrong" in found(options={"steps": 0})["episodes"]
    assert "wrong" in found(seeds=(-1,))["episodes"]
    assert "nearest are 'action_sensitivity'" in found(required=["action_sensitivty"])["metrics"]
    assert "psnr" in found(required=["action_sensitivity_psnr", "psnr.x0.5"])["metrics"]
    for name in ("a", "b", "c"):
        (recordings / f"{name}.action.npy").unlink()
    assert "action.npy" in found()["episodes"]


def test_a_text_only_world_is_refused_before_it_is_loaded(make_world, recordings):
    checks = trial_checks(make_world(task="text2world"), recordings, Trial())
    with pytest.raises(InputError, match="from text alone"):
        next(check for check in checks if check.name == "episodes").look()


def test_names_of_scores_are_those_that_come_out(pipeline, recordings):
    trial = Trial(("psnr", "motion_following"), options=QUICK)
    evaluation, _ = try_world(pipeline, recordings, trial)
    told = [one.name for one in trial.told]
    metrics = [*choose_metrics(trial.metrics), *MEASURED]
    assert set(score_names(metrics, "action", told)) == set(evaluation.scores)


def test_a_refused_video_counts_as_refused_and_has_no_other_score(pipeline, recordings, tmp_path):
    (recordings / "b.json").write_text(json.dumps({"caption": "someone sharpens a knife"}))
    for told in ((), (OTHER,)):
        trial = Trial(("psnr",), options=QUICK, seeds=(1, 2), told=told)
        evaluation, _ = try_world(pipeline, recordings, trial)
        scores = evaluation.scores
        assert (scores["psnr"].num, scores["guard_refused"].num) == (2, 3)
        assert scores["guard_refused"].value == pytest.approx(1 / 3)
        assert scores["guard_refused.no_knives.violence"].value == pytest.approx(1 / 3)
        assert scores["guard_changed"].value == 0 and scores["guard_changed"].num == 3
        assert "knife" in evaluation.skipped["b"] and scores["guard_refused"].low is not None
        content = make_record(evaluation, {})
        write_report(evaluation, tmp_path, content, {})
        record = as_record(content, "a test")
        assert record.clips["b"]["guard_refused"] == 1 and "psnr" not in record.clips["b"]


def test_memory_and_time_are_measured(pipeline, recordings):
    evaluation, _ = try_world(pipeline, recordings, Trial(("psnr",), options=QUICK, told=()))
    assert 0.1 < evaluation.scores["host_peak_gb"].value < 100
    assert evaluation.scores["generation_s"].value > 0


def test_a_world_that_takes_no_frames_cannot_be_tried(
    make_world, word_encoder, guards, monkeypatch, recordings
):
    monkeypatch.setattr(
        "nemo_cosmos.inference.pipeline.load_text_encoder", lambda spec: word_encoder
    )
    world = WorldPipeline.from_folder(make_world(task="text2world"), guards)
    with pytest.raises(InputError, match="from text alone"):
        try_world(world, recordings)


def test_the_command(recordings, make_world, word_encoder, run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "nemo_cosmos.inference.pipeline.load_text_encoder", lambda spec: word_encoder
    )
    monkeypatch.setenv("NEMO_COSMOS_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    world, out = make_world(control="action"), tmp_path / "out"
    words = ["evaluate", "--model", world, "--data", recordings, "-m", "psnr", "--limit", 2]
    words += ["--option", "steps=1", "--option", "guidance=0", "--disable-guard", "face_blur"]
    assert run_cli(*words, "--check").code == 0
    absent = run_cli(*words, "--check", "--offload", "diffusion_decoder")
    assert absent.code == 2 and "own tokenizer decodes" in absent.err
    words += ["--offload", "network", "--offload", "tokenizer"]
    refused = run_cli(*words, "--out", out, "--require", "action_sensitivity_psnr>100", "--json")
    assert refused.code == 3 and "does not hold" in refused.err
    assert refused.json["scores"]["action_sensitivity_psnr"]["num"] == 2
    assert "face_blur" not in refused.json["inputs"]["guards"]
    assert "action_dose_response" in run_cli(*words, "--out", out).out
    monkeypatch.setattr(
        "nemo_cosmos.guardrails.site.site_policy", lambda: site_policy(["face_blur"])
    )
    assert run_cli("evaluate", "--repeat", out).code == 0
    assert "both --model WORLD and --data" in run_cli("evaluate", "--model", world).err
    assert "whole numbers" in run_cli(*words, "--seeds", "a").err
    assert "NAME=VALUE" in run_cli(*words, "--option", "steps").err
    assert "--trim takes effect only with" in run_cli(*words, "--trim").err
    assert "--option takes effect" in run_cli("evaluate", world, "--option", "steps=1").err
    assert "--offload takes effect" in run_cli("evaluate", world, "--offload", "network").err


def test_parts_of_a_tried_world_wait_for_each_other(
    recordings, make_world, word_encoder, guards, monkeypatch
):
    """The scores stay the same, and the network left the device while the tokenizer worked."""
    monkeypatch.setattr(
        "nemo_cosmos.inference.pipeline.load_text_encoder", lambda spec: word_encoder
    )
    taken: list[str] = []
    take = Turns.take
    monkeypatch.setattr(Turns, "take", lambda self, name: (taken.append(name), take(self, name)))
    trial, world = Trial(("psnr",), limit=1, told=(), options=QUICK), make_world(control="action")
    found = [
        module.evaluate_world(world, recordings, trial, guards=guards, offload=parts)[0]
        for parts in ((), ("network", "tokenizer"))
    ]
    assert found[0].scores["psnr"].value == found[1].scores["psnr"].value
    assert {"network", "tokenizer"} <= set(taken)


def test_a_control_may_say_how_well_a_video_follows_it():
    """A camera's sensitivity is what its own path gains, in path lengths of error."""
    camera = Control("camera", (CAMERA,), {}, following="camera_path_error")
    metrics = trial_metrics((), camera.following)
    assert [metric.name for metric in metrics].count("camera_path_error") == 1
    assert "camera_path_error" not in [one.name for one in trial_metrics((), "motion_following")]
    assert "camera_path_error" not in [one.name for one in trial_metrics(("psnr",), "x")]
    names = score_names(metrics, "camera", ["other"], camera.following)
    assert {"camera_sensitivity", "camera_sensitivity_motion_following"} <= set(names)

    def scored(error: float) -> Scored:
        measured = dict.fromkeys([metric.name for metric in MEASURED], 0.0)
        clips = {n: CaseScores({**measured, "camera_path_error": error}) for n in "ab"}
        return Scored(Part({}, []), clips, {})

    told = {"own": [scored(0.1)], "other": [scored(0.5)]}
    path_error = choose_metrics(["camera_path_error"])
    evaluation = trial_evaluation(told, path_error, "camera", frozenset(), camera.following)
    assert evaluation.scores["camera_sensitivity"].value == pytest.approx(0.4)


def test_a_world_without_a_control_is_scored_and_told_nothing_else(
    make_world, word_encoder, guards, monkeypatch, recordings
):
    monkeypatch.setattr(
        "nemo_cosmos.inference.pipeline.load_text_encoder", lambda spec: word_encoder
    )
    world = WorldPipeline.from_folder(make_world(), guards)
    evaluation, inputs = try_world(world, recordings, Trial(("psnr",), options=QUICK, limit=2))
    assert {"psnr", "latent_l2"} <= set(evaluation.scores) and inputs["controls"] == []
    assert not any("." in name or "sensitivity" in name for name in evaluation.scores)


def test_what_no_episode_can_be_told_does_not_sink_the_rest(pipeline, recordings, monkeypatch):
    def fussy(signal, values, scale):
        if scale != 0.5:
            return {name: array * np.float32(scale) for name, array in values.items()}
        raise SampleError("half of it is no action")

    monkeypatch.setattr(Signal, "scaled", fussy)
    found, _ = try_world(pipeline, recordings, Trial(("psnr",), options=QUICK, limit=2))
    assert found.not_computed == {"told x0.5": "half of it is no action"}
    assert {"psnr.x0", "psnr.other", "action_sensitivity_psnr"} <= set(found.scores)
    assert "psnr.x0.5" not in found.scores and len(found.clips) == 2
