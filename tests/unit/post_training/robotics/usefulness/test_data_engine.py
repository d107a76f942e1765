"""A world as a data engine: generated episodes, what they teach, and an honest comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError, InputError, MissingFileError
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.inference.episodes import find_episodes, shape_of
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import Video, encode_video
from post_training.robotics.signal import ACTION
from post_training.robotics.usefulness.data_engine import (
    EngineTrial,
    check_no_leak,
    figure_names,
)
from post_training.robotics.usefulness.data_engine_findings import (
    BOTH,
    GENERATED,
    MEAN,
    REAL,
    Findings,
)
from post_training.robotics.usefulness.data_engine_report import (
    engine_checks,
    number_names,
    try_data_engine,
)
from post_training.robotics.usefulness.generated_episodes import (
    EpisodeMaker,
    partner_of,
    variants,
)
from post_training.robotics.usefulness.inverse_dynamics import Steps, Training, see

QUICK = EngineTrial(
    sizes=(2, 3),
    num_others=1,
    seeds=(1,),
    options={"steps": 1, "guidance": 0.0},
    training=Training(num_updates=3, num_hidden=8),
)


def record(folder: Path, name: str, seed: int, caption: str = "a square moves") -> None:
    generator = np.random.default_rng(seed)
    frames_THWC = np.full((9, 32, 48, 3), 90, np.uint8)
    place = generator.integers(0, 20)
    for frame, picture in enumerate(frames_THWC):
        picture[8:20, place + frame : place + frame + 12] = 220
    folder.mkdir(parents=True, exist_ok=True)
    encode_video(folder / f"{name}.mp4", Video(frames_THWC, fps=10.0), crf=12)
    np.save(folder / f"{name}.action.npy", generator.normal(0, 0.5, (8, 7)).astype(np.float32))
    (folder / f"{name}.json").write_text(json.dumps({"caption": caption}))


class NoKnives:
    """Refuses prompts about knives."""

    name, kind = "no_knives", "prompt"

    def check(self, x: object) -> Verdict:
        return Verdict("knife" not in str(x), self.name, "violence", "it is about a knife")


class Untouched:
    """A filter that lets every video pass as it is."""

    name, kind = "untouched", "filter"

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        return frames_THWC, Verdict(True, self.name, "safe", "nothing to do")


@pytest.fixture
def guards(tmp_path: Path) -> GuardPolicy:
    return GuardPolicy([NoKnives(), Untouched()], audit=AuditLog(tmp_path / "audit.jsonl"))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    encoder = {"kind": "embedded", "path": None, "max_length": 8, "dim": 512}
    return write_world(
        tmp_path_factory.mktemp("world") / "w",
        controls=("action",),
        text_encoder=encoder,
        crossattn_emb_channels=encoder["dim"],
    )


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for n in range(3):
        record(tmp_path / "real", f"r{n}", n)
    for n in range(2):
        record(tmp_path / "held", f"h{n}", 10 + n)
    return tmp_path / "real", tmp_path / "held"


def test_numbers_have_the_names_of_the_worlds_own_robot():
    assert number_names([ControlSpec("action")])[:2] == ("dx", "dy")
    joints = [
        {"part": "arm", "kind": "joints", "names": [f"j{n}" for n in range(7)], "units": "rad",
         "relation": "absolute"},
    ]  # fmt: skip
    seven = {"name": "seven", "title": "seven joints", "numbers": joints}
    told = ControlSpec("action", options={"embodiment": seven})
    assert number_names([told]) == tuple(f"j{n}" for n in range(7)), "not Bridge's"
    for name, width in (("two_arms_20", 20), ("humanoid_29", 29)):
        assert (
            len(set(number_names([ControlSpec("action", options={"embodiment": name})]))) == width
        )


def test_generated_episodes_are_kept_as_recordings_and_the_report_names_everything(
    world, places, guards, tmp_path
):
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    found = try_data_engine(
        world, *places, out, QUICK, guards=guards, progress=lambda *state: seen.append(state)
    )
    assert seen[-1] == (12, 12)  # 3 recordings x 2 variants, 2 sizes x 3 kinds of data
    assert list(found["scores"]) == figure_names(QUICK, 3, number_names([ControlSpec("action")]))
    assert found == json.loads((out / "data_engine.json").read_text()) | {"inputs": found["inputs"]}
    assert found["inputs"]["held_out_episodes"] == ["h0", "h1"]
    for name in ("data_engine.png", "predictions.png", "generated.png", "data_engine.md"):
        assert (out / name).stat().st_size > 0

    told = json.loads((out / "generated/other_1/r0.json").read_text())
    assert told["caption"] == "a square moves" and told["model"] == found["inputs"]["model"]
    others = np.load(places[0] / f"{told['actions_of']}.action.npy")
    assert (np.load(out / "generated/other_1/r0.action.npy") == others).all()

    film = out / "generated/own/r0.mp4"
    made_ns = film.stat().st_mtime_ns
    again = try_data_engine(world, *places, out, QUICK, guards=guards)
    assert again["scores"] == found["scores"] and film.stat().st_mtime_ns == made_ns


def test_a_generated_episode_is_made_again_where_what_made_it_changed(
    world, places, guards, tmp_path
):
    pipeline = WorldPipeline.from_folder(world, guards)
    shape = shape_of(pipeline.world.config.video, {})

    def make(**options: object) -> int:
        sources = find_episodes(places[0], [ACTION], shape)
        maker = EpisodeMaker(pipeline, sources, [3], tmp_path / "made", {"guidance": 0.0} | options)
        maker.make(variants(0))
        assert not maker.refused
        return (tmp_path / "made/own/r0.mp4").stat().st_mtime_ns

    first = make(steps=1)
    assert make(steps=1) == first
    (tmp_path / "made/own/r0.action.npy").unlink()  # it was stopped before it was whole
    second = make(steps=1)
    assert second != first
    third = make(steps=2)
    assert third != second
    record(places[0], "r0", 5)
    assert make(steps=2) != third


def test_what_a_guard_refuses_or_cannot_be_read_is_left_out_and_named(
    world, places, guards, tmp_path
):
    real, held = places
    record(real, "r1", 1, caption="a knife")
    record(real, "r3", 3)
    np.save(real / "r3.action.npy", np.full((8, 7), np.nan, np.float32))
    record(held, "r3", 13)
    found = try_data_engine(world, real, held, tmp_path / "out", QUICK, guards=guards)
    assert list(found["inputs"]["skipped"]) == [f"{real}/r3"]
    assert set(found["inputs"]["refused"]) == {"own/r1", "other_1/r1"}


def test_where_nothing_can_be_read_the_reason_is_named(world, places, guards, tmp_path):
    for n in range(2):
        frames = np.zeros((4, 32, 48, 3), np.uint8)
        encode_video(places[1] / f"h{n}.mp4", Video(frames, fps=10.0))
    with pytest.raises(InputError, match=r"h0\.mp4 has 4 frames, but the model makes 9"):
        try_data_engine(world, *places, tmp_path / "out", QUICK, guards=guards)


def test_recordings_on_both_sides_are_refused_under_any_name(world, places, guards, tmp_path):
    real, held = places
    with pytest.raises(ConfigError, match="are both"):
        try_data_engine(world, real, real, tmp_path / "out", QUICK, guards=guards)
    for suffix in ("mp4", "json", "action.npy"):
        (held / f"new_name.{suffix}").write_bytes((real / f"r1.{suffix}").read_bytes())
    with pytest.raises(ConfigError, match="'r1' is 'new_name'"):
        try_data_engine(world, real, held, tmp_path / "out", QUICK, guards=guards)
    assert not (tmp_path / "out").exists()


def test_the_same_scene_with_other_actions_is_no_leak():
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 48, 3)).astype(np.uint8)
    steps = Steps(see(frames), np.zeros((2, 7), np.float32))
    check_no_leak({"a": steps}, {"b": replace(steps, actions_NA=steps.actions_NA + 1)}, ("A", "B"))


def test_checks_see_what_would_fail_before_a_world_is_loaded(world, places, tmp_path):
    def wrong(real: Path, out: Path, trial: EngineTrial, base: Path = world) -> list[str]:
        faults = []
        for check in engine_checks(base, real, places[1], out, trial):
            try:
                check.look()
            except InputError as error:
                faults.append(f"{check.name}: {error}")
        return faults

    out = tmp_path / "out"
    assert wrong(places[0], out, QUICK) == []
    assert "needed" in wrong(places[0], out, EngineTrial(sizes=(2, 9)))[0]
    assert "lies inside" in wrong(places[0], places[0] / "out", QUICK)[0]
    assert "no recording" in wrong(tmp_path / "none", out, QUICK)[0]
    (places[0] / "r0.action.npy").unlink()
    assert "action.npy" in wrong(places[0], out, QUICK)[0]
    still = write_world(tmp_path / "still")
    assert "steered by nothing" in wrong(places[0], out, QUICK, still)[0]


def test_no_recording_to_test_on_is_an_error(world, places, guards, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="holds no recording"):
        try_data_engine(
            world, places[0], tmp_path / "empty", tmp_path / "out", QUICK, guards=guards
        )


def test_partners_stay_within_every_number_of_recordings_and_differ():
    sizes = [3, 4, 9, 10]
    for index in range(10):
        partners = [partner_of(index, number, sizes) for number in (1, 2)]
        assert index not in partners and len(set(partners)) == 2
        assert all(max(partners) < size for size in sizes if size > index)
    assert partner_of(1, 1, sizes) == partner_of(1, 1, [3])


def test_sizes_are_doubled_up_to_all():
    assert EngineTrial().sizes_for(32) == [4, 8, 16, 32]
    assert EngineTrial().sizes_for(21) == [4, 8, 16, 21]
    assert EngineTrial().sizes_for(3) == [3]
    for wrong in ({"sizes": (8, 4)}, {"sizes": (1, 2)}, {"seeds": ()}, {"options": {"seed": 1}}):
        with pytest.raises(ConfigError):
            EngineTrial(**wrong)


def test_figures_of_predictions_that_are_known():
    generator = np.random.default_rng(0)
    wanted = [generator.normal(size=(8, 2)).astype(np.float32) for _ in range(6)]
    spread = np.concatenate(wanted).std(axis=0)
    half = [one + 0.5 * spread for one in wanted]  # off by half a standard deviation everywhere
    quarter = [one + 0.25 * spread for one in wanted]
    predicted = {
        (REAL, 4): [quarter, quarter],
        (GENERATED, 4): [half, half],
        (BOTH, 4): [wanted, wanted],
        (MEAN, 4): [[np.zeros_like(one) for one in wanted]],
    }
    names = [f"e{n}" for n in range(6)]
    figures = Findings(names, ("x", "y"), wanted, [4], predicted).figures()
    expected = {"error.real.4": 0.25, "error.generated.4": 0.5, "ratio.4": 2.0, "gain.4": 1.0}
    for name, value in expected.items():
        score = figures[name].score
        np.testing.assert_allclose([score.value, score.low, score.high], value, rtol=1e-5)
    np.testing.assert_allclose(figures["mae.y.generated"].score.value, spread[1] / 2, rtol=1e-5)
    assert figures["r2.x.both"].score.value == pytest.approx(1)
    assert figures["r2.x.generated"].score.value == pytest.approx(0.75, abs=1e-5)
    assert figures["correlation.x.generated"].score.value == pytest.approx(1)
    assert figures["ratio.4"].score.num == 6


def test_r2_and_correlation_are_those_of_numpy_and_averages_leave_out_what_nothing_teaches():
    generator = np.random.default_rng(1)
    wanted = [generator.normal(size=(8, 3)).astype(np.float32) for _ in range(5)]
    noise = [one + generator.normal(0, [0.3, 3, 0.3], one.shape) for one in wanted]
    for one in wanted:
        one[:, 2] = 0.5  # a number that never changes
    predicted = {key: [noise] for key in ((REAL, 2), (GENERATED, 2), (BOTH, 2), (MEAN, 2))}
    findings = Findings([*"abcde"], ("x", "y", "z"), wanted, [2], predicted)
    figures = findings.figures()
    true, made = np.concatenate(wanted)[:, 0], np.concatenate(noise)[:, 0]
    r2 = 1 - np.square(made - true).sum() / np.square(true - true.mean()).sum()
    assert figures["r2.x.real"].score.value == pytest.approx(r2, abs=1e-5)
    correlation = np.corrcoef(made, true)[0, 1]
    assert figures["correlation.x.real"].score.value == pytest.approx(correlation, abs=1e-5)
    assert "r2.z.real" not in figures and "mae.z.real" in figures
    assert figures["r2.y.real"].score.value < 0 and list(findings.told_A) == [True, False, False]
    mean_x = np.abs(made - true).mean() / true.std()
    assert figures["error.real.2"].score.value == pytest.approx(mean_x, rel=1e-5)
