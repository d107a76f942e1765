from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import (
    Cancelled,
    ConfigError,
    GuardrailError,
    InputError,
    PromptError,
    SampleError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference import WorldPipeline
from nemo_cosmos.inference import pipeline as pipeline_module
from nemo_cosmos.video import Video, decode, encode_video

QUICK = {"steps": 2, "guidance": 1.0}
MakePipe = Callable[..., WorldPipeline]


@pytest.fixture
def make_pipe(
    make_world: Callable[..., Path],
    guards: GuardPolicy,
    word_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> MakePipe:
    monkeypatch.setattr(pipeline_module, "load_text_encoder", lambda spec: word_encoder)
    return lambda **kind: WorldPipeline.from_folder(make_world(**kind), guards)


@pytest.fixture
def frames() -> np.ndarray:
    ramp = np.linspace(0, 255, 32 * 48, dtype=np.uint8).reshape(32, 48)
    frame = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)
    return np.stack([np.roll(frame, shift, axis=1) for shift in range(12)])


def test_generate_makes_the_same_guarded_video_from_the_same_seed(make_pipe: MakePipe) -> None:
    pipe = make_pipe(task="text2world")
    steps: list[tuple[int, int]] = []
    first = pipe.generate("a red block", progress=lambda i, n: steps.append((i, n)), **QUICK)
    again = pipe.generate("a red block", **QUICK)
    other = pipe.generate("a red block", seed=2, **QUICK)
    assert first.video.frames_THWC.shape == (9, 32, 48, 3) and first.video.fps == 10
    assert np.array_equal(first.video.frames_THWC, again.video.frames_THWC)
    assert not np.array_equal(first.video.frames_THWC, other.video.frames_THWC)
    assert not first.video.frames_THWC[:, 0].any(), "the filter has worked on it"
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a blue ball"}, {"guidance": 3.0}, {"negative_prompt": "dark"}, {"fps": 30.0}],
)
def test_what_is_asked_for_changes_the_video(make_pipe: MakePipe, change: dict[str, Any]) -> None:
    pipe = make_pipe(task="text2world")
    asked = {"prompt": "a red block", **QUICK}
    first, changed = pipe.generate(**asked), pipe.generate(**{**asked, **change})
    assert not np.array_equal(first.video.frames_THWC, changed.video.frames_THWC)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"negative_prompt": "dark", "guidance": 0.0}, "above 0"),
        ({"temperature": 0.5}, "temperature is an option of autoregressive models"),
        ({"stepz": 3}, "no option 'stepz'.*'steps'"),
    ],
)
def test_what_would_change_nothing_is_refused(
    make_pipe: MakePipe, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pipe(task="text2world").generate("a red block", **asked)


def test_size_and_length_can_be_chosen(make_pipe: MakePipe) -> None:
    video = (
        make_pipe(task="text2world")
        .generate("a red block", num_frames=5, height=48, width=32, sampler="edm_euler", **QUICK)
        .video
    )
    assert video.frames_THWC.shape == (5, 48, 32, 3)


@pytest.mark.parametrize("num_given", [1, 5])
def test_predict_starts_with_the_given_frames(
    make_pipe: MakePipe, frames: np.ndarray, num_given: int
) -> None:
    pipe = make_pipe()
    result = pipe.predict("roll on", frames, num_condition_frames=num_given, **QUICK)
    tokenizer = pipe.world.tokenizer
    given = torch.from_numpy(frames[-num_given:].transpose(3, 0, 1, 2)[None]) / 127.5 - 1
    expected = tokenizer.decode(tokenizer.encode(given))[0].permute(1, 2, 3, 0)
    shown = torch.from_numpy(result.video.frames_THWC[:num_given]).float() / 127.5 - 1
    difference = (shown - expected)[:, 1:].abs().mean()  # the filter has darkened row 0
    # Augmentation sigma is 0.001; a random tokenizer amplifies it a little.
    assert difference < 0.02
    assert not np.array_equal(result.video.frames_THWC[-1], result.video.frames_THWC[0])


def test_given_frames_are_scaled_and_cropped(make_pipe: MakePipe) -> None:
    large = np.random.default_rng(0).integers(0, 255, (1, 90, 70, 3), dtype=np.uint8)
    assert make_pipe().predict("go", large, **QUICK).video.frames_THWC.shape == (9, 32, 48, 3)


def test_actions_steer_the_video_and_need_no_prompt(
    make_pipe: MakePipe, frames: np.ndarray
) -> None:
    pipe = make_pipe(control="action")
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(8, 7)).astype(np.float32)
    first = pipe.predict(None, frames, control={"action": actions}, **QUICK)
    other = pipe.predict(None, frames, control={"action": -actions}, **QUICK)
    assert not np.array_equal(first.video.frames_THWC, other.video.frames_THWC)
    assert set(first.provenance["control_sha256"]) == {"action"}
    assert first.provenance["prompt_sha256"] is None


def test_a_control_begins_at_the_first_frame_unless_told_otherwise(
    make_pipe: MakePipe, frames: np.ndarray
) -> None:
    pipe = make_pipe(control="action")
    call = {"control": {"action": np.ones((8, 7), np.float32)}, **QUICK}
    videos = {
        begin: pipe.predict(None, frames, begin=begin, **call).video.frames_THWC
        for begin in (None, "first", "last", 3)
    }
    assert np.array_equal(videos[None], videos["first"])
    assert np.array_equal(videos[3], pipe.predict(None, frames[3:4], **call).video.frames_THWC)
    assert np.array_equal(videos["last"], pipe.predict(None, frames[-1:], **call).video.frames_THWC)
    assert not np.array_equal(videos["first"], videos["last"])
    with pytest.raises(SampleError, match=r"has 11 rows, .* takes 8"):
        pipe.predict(None, frames, **{**call, "control": {"action": np.ones((11, 7))}})


def test_a_video_file_is_continued_at_the_models_rate(
    make_pipe: MakePipe, frames: np.ndarray, tmp_path: Path
) -> None:
    encode_video(tmp_path / "fast.mp4", Video(np.repeat(frames, 3, axis=0), fps=30))
    encode_video(tmp_path / "same.mp4", Video(frames, fps=10))
    pipe = make_pipe()
    call = {"num_condition_frames": 5, "begin": "first", **QUICK}
    results = [pipe.predict("go", tmp_path / name, **call) for name in ("fast.mp4", "same.mp4")]
    fast, same = (result.video.frames_THWC.astype(int) for result in results)
    for result in results:
        times_s = result.provenance["given_times_s"]
        assert times_s == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)
    other = pipe.predict("go", frames[:1].repeat(5, axis=0), **call).video.frames_THWC
    assert np.abs(fast - same).mean() < 0.3 * np.abs(other.astype(int) - same).mean()


def test_progress_stops_a_long_video_and_the_pipeline_works_afterwards(
    make_pipe: MakePipe, frames: np.ndarray
) -> None:
    pipe = make_pipe()
    steps: list[tuple[int, int]] = []

    def stop_in_second_chunk(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 4:
            raise Cancelled("the caller left")

    with pytest.raises(Cancelled, match="the caller left"):
        pipe.extend("go", frames, 3, progress=stop_in_second_chunk, **QUICK)
    assert steps == [(n, 9) for n in (1, 2, 3, 4)]
    assert pipe.predict("go", frames, **QUICK).video.num_frames == 9


def test_guidance_on_frames_and_control_changes_the_video(
    make_pipe: MakePipe, frames: np.ndarray
) -> None:
    pipe = make_pipe(control="action", control_dropout=0.1)
    call = {"control": {"action": np.ones((8, 7), np.float32)}, **QUICK}
    ways = ({}, {"guide_frames": True}, {"guide_control": True}, {"control_guidance": 2.0})
    first, *others = [pipe.predict("go", frames, **call, **way).video.frames_THWC for way in ways]
    assert all(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"control": "action"}, "never trained without its control"),
        ({"control_dropout": 0.1}, "has no control"),
    ],
)
@pytest.mark.parametrize("way", [{"control_guidance": 2.0}, {"guide_control": True}])
def test_guidance_on_a_control_needs_a_world_that_knows_its_absence(
    make_pipe: MakePipe, frames: np.ndarray, kind: Any, message: str, way: Any
) -> None:
    pipe = make_pipe(**kind)
    control = {"action": np.ones((8, 7), np.float32)} if "control" in kind else {}
    with pytest.raises(ConfigError, match=message):
        pipe.predict("go", frames, control=control, **QUICK, **way)


def test_extend_continues_chunk_by_chunk(make_pipe: MakePipe, frames: np.ndarray) -> None:
    pipe = make_pipe()
    steps: list[tuple[int, int]] = []
    result = pipe.extend(
        "roll on", frames[:1], num_chunks=3, progress=lambda i, n: steps.append((i, n)), **QUICK
    )
    # 9 frames from one, then twice 9 frames of which 5 are those before.
    assert result.video.num_frames == 9 + 2 * 4
    assert steps[0] == (1, 9) and steps[-1] == (9, 9)
    assert result.provenance["task"] == "extend"
    one = pipe.extend("roll on", frames[:1], num_chunks=1, **QUICK)
    assert np.array_equal(one.video.frames_THWC, result.video.frames_THWC[:9])


def test_extend_reads_the_controls_of_each_chunk(make_pipe: MakePipe, frames: np.ndarray) -> None:
    pipe = make_pipe(control="action")
    actions = np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)
    call = {"num_chunks": 2, "num_condition_frames": 5, **QUICK}
    base = pipe.extend(None, frames, control={"action": actions}, **call).video.frames_THWC
    assert len(base) == 13
    changed = actions.copy()
    changed[9:] += 1
    late = pipe.extend(None, frames, control={"action": changed}, **call).video.frames_THWC
    assert np.array_equal(base[:9], late[:9]) and not np.array_equal(base[9:], late[9:])
    with pytest.raises(SampleError, match=r"11 rows, .* 13 frames takes 12"):
        pipe.extend(None, frames, control={"action": actions[:-1]}, **call)


def test_result_is_saved_with_its_provenance(make_pipe: MakePipe, tmp_path: Path) -> None:
    pipe = make_pipe(task="text2world")
    result = pipe.generate("a red block", negative_prompt="dark", **QUICK)
    record_file = result.save(tmp_path / "out" / "video.mp4")
    assert decode(tmp_path / "out" / "video.mp4").num_frames == 9
    record = json.loads(record_file.read_text())
    assert record_file.name == "video.json"
    assert record["model"]["preset"] == "tiny" and len(record["model"]["weights_sha256"]) == 64
    assert record["options"]["seed"] == 1 and record["options"]["sampler"] == "res_2ab"
    assert [verdict["guard"] for verdict in record["guards"]] == ["no_knives", "darken"]
    assert record["versions"]["torch"] == torch.__version__
    assert "red block" not in json.dumps(record), "the prompt itself is not handed on"


def test_refused_prompt_costs_no_sampling(
    make_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_pipe(task="text2world")
    monkeypatch.setattr(pipe.generator, "generate", lambda *a: pytest.fail("sampled"))
    with pytest.raises(GuardrailError, match="no_knives"):
        pipe.generate("a knife", **QUICK)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_frames": 10}, WrongFrameCountError, "9 or 13"),
        ({"num_frames": 21}, WrongFrameCountError, "13 that this model"),
        ({"height": 40}, WrongSizeError, "32 and 48"),
        ({"width": 1280}, WrongSizeError, "up to 128"),
        ({"height": 0}, ConfigError, "height is 0"),
        ({"steps": 0}, ConfigError, "steps"),
        ({"steps": 2.5}, ConfigError, "steps is 2.5 .*whole number"),
        ({"height": "48"}, ConfigError, "height is '48'"),
        ({"prompt": 7}, PromptError, "expected text"),
        ({"guidance": -1.0}, ConfigError, "guidance"),
        ({"fps": 0.0}, ConfigError, "fps"),
        ({"seed": 2**32}, ConfigError, "seed"),
        ({"sampler": "euler"}, ConfigError, "'edm_euler'"),
        ({"guidence": 7.0}, ConfigError, "'guidance'"),
        ({"prompt": "one two three four five six seven"}, PromptError, "7 words"),
    ],
)
def test_illegal_options_name_what_is_legal(
    make_pipe: MakePipe, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    call = {"prompt": "a red block", **options}
    with pytest.raises(error, match=message):
        make_pipe(task="text2world").generate(**call)


def test_illegal_inputs(make_pipe: MakePipe, frames: np.ndarray) -> None:
    pipe = make_pipe()
    with pytest.raises(WrongFrameCountError, match="1 or 5"):
        pipe.predict("go", frames, num_condition_frames=3)
    with pytest.raises(WrongFrameCountError, match="leaves none to generate"):
        pipe.predict("go", frames, num_frames=1)
    with pytest.raises(WrongFrameCountError, match="2 frames, but 5"):
        pipe.predict("go", frames[:2], num_condition_frames=5)
    with pytest.raises(WrongFrameCountError, match="no frame to continue"):
        pipe.extend("go", frames[:0], num_chunks=1)
    with pytest.raises(ConfigError, match="num_chunks"):
        pipe.extend("go", frames, num_chunks=0)
    with pytest.raises(InputError, match="'action'"):
        pipe.predict("go", frames, control={"action": np.zeros((8, 7))})
    with pytest.raises(PromptError, match="no prompt"):
        pipe.predict(None, frames)
    with pytest.raises(InputError, match="Text2World"):
        make_pipe(task="text2world").predict("go", frames)
    with pytest.raises(InputError, match="'action' as control, but got nothing"):
        make_pipe(control="action").predict("go", frames)
    with pytest.raises(SampleError, match=r"5 rows, .* takes 8"):
        make_pipe(control="action").predict("go", frames, control={"action": np.zeros((5, 7))})
