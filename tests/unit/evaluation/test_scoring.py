"""Sets and pairs in memory, kept scores, and folders that are evaluated again after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, NumericsError
from nemo_cosmos.evaluation import (
    Alignment,
    Case,
    CaseMetric,
    Features,
    Judgement,
    JudgeMetric,
    PairMetric,
    SetMetric,
    choose_metrics,
    evaluate_cases,
    evaluate_folders,
    evaluate_pair,
    make_record,
    read_prompts,
    score_cases,
    scores_table,
    summarise,
    write_report,
)
from nemo_cosmos.evaluation.sharing import ScoreJournal
from nemo_cosmos.exits import Exit, saved_or_too_short
from nemo_cosmos.video import Video, encode_video


def brightness(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]


GAP = SetMetric(
    name="gap_brightness",
    description="difference of the mean brightness of two sets",
    higher_is_better=False,
    extract=brightness,
    compare=lambda generated, truth: float(abs(generated.mean() - truth.mean())),
    min_rows=4,
)
JUDGE = JudgeMetric(
    name="length",
    description="the length of the prompt",
    higher_is_better=True,
    unit="letters",
    judge=lambda cases: [Judgement(float(len(case.prompt)), "counted") for case in cases],
    batch_size=2,
)


SPEED = CaseMetric(
    name="speed",
    description="what was recorded",
    higher_is_better=True,
    needs=frozenset({"speed"}),
    compute=lambda case: float(case.recorded["speed"]["speed"][0]),
)


def video(value: int, num_frames: int = 3) -> np.ndarray:
    return np.full((num_frames, 16, 16, 3), value, np.uint8)


def test_sets_pairs_and_judges_together():
    cases = [Case(str(n), video(10 * n), video(10 * n + 5), "a" * n) for n in (1, 2, 3)]
    result = evaluate_cases(cases, [*choose_metrics(["psnr"]), GAP, JUDGE])
    assert result.scores["gap_brightness"].value == 5.0
    assert (result.scores["length"].value, result.scores["length"].num) == (2.0, 3)
    assert result.clips["1"].scores["psnr"] == pytest.approx(20 * np.log10(51), abs=1e-5)
    assert result.clips["1"].curves["psnr"] == pytest.approx([20 * np.log10(51)] * 3, abs=1e-5)
    table = scores_table(result)
    footers = [str(column.footer).replace("\\", "") for column in table.columns]
    assert footers[-2:] == ["5.000\n[5.000, 5.000]", "2.000\n[1.000, 3.000]"]


def test_what_cannot_be_scored_is_an_error_with_the_fix():
    with pytest.raises(InputError, match=r"at least 4 rows.*at least 2 videos"):
        evaluate_cases([Case("a", video(1), video(2))], [GAP])
    for metric in (GAP, *choose_metrics(["psnr"])):
        with pytest.raises(ConfigError, match=f"'{metric.name}' needs 'truth'"):
            evaluate_cases([Case("a", video(1))], [metric])
    with pytest.raises(ConfigError, match="--prompts"):
        evaluate_cases([Case("a", video(1), video(2))], [JUDGE])
    with pytest.raises(ConfigError, match="evaluate_cases"):
        evaluate_pair(video(1), video(2), [GAP])
    with pytest.raises(ConfigError, match="2 videos with 1 different"):
        evaluate_cases([Case("a", video(1), video(2))] * 2)
    with pytest.raises(ConfigError, match="0 videos"):
        evaluate_cases([])


def test_what_may_be_left_out_is_left_out_of_the_videos_that_lack_it():
    cases = [
        Case(str(n), video(10 * n), video(10 * n + 5), recorded={"speed": values})
        for n, values in enumerate([{"speed": np.ones(1)}, {}, {"speed": np.full(1, np.nan)}])
    ]
    metrics = [*choose_metrics(["psnr"]), SPEED, JUDGE, GAP]
    optional = {SPEED.name, JUDGE.name, GAP.name}
    clips = dict(zip("abc", score_cases(cases, metrics, optional), strict=True))
    assert clips["a"].scores["speed"] == 1.0
    assert "needs 'speed'" in clips["b"].lacking["speed"]
    assert "is nan" in clips["c"].lacking["speed"] and "speed" not in clips["c"].scores
    result = summarise(clips, metrics, optional=optional)
    assert result.scores["psnr"].num == 3 and result.scores["speed"].num == 1
    assert result.lacking["speed"].keys() == {"b", "c"}
    assert "--prompts" in result.not_computed["length"]
    few = summarise({"a": clips["a"]}, metrics, optional=optional)
    assert "at least 4 rows" in few.not_computed["gap_brightness"]
    with pytest.raises(InputError, match="at least 4 rows"):
        summarise({"a": clips["a"]}, metrics, optional={JUDGE.name})
    with pytest.raises(InputError, match="None of 1 metrics can be computed"):
        summarise(clips, [JUDGE], optional=optional)
    with pytest.raises(ConfigError, match="needs 'speed'"):
        score_cases(cases, [SPEED])


def test_scores_that_did_without_a_metric_do_not_stand_for_it(folders, tmp_path):
    np.save(folders[1] / "a.speed.npy", np.ones(25, np.float32))
    metrics = [*choose_metrics(["psnr"]), SPEED]
    found = evaluate_folders(*folders, metrics, work=tmp_path / "work", optional=["speed"])
    assert found.scores["speed"].num == 1 and found.scores["psnr"].num == 3
    strict = evaluate_folders(*folders, metrics, work=tmp_path / "work")
    assert strict.scores["psnr"].num == 1 and strict.skipped.keys() == {"b.mp4", "c.mp4"}


def test_a_set_metric_may_take_several_videos_at_once():
    seen: list[int] = []

    def extract_many(videos):
        seen.append(len(videos))
        return [brightness(frames) for frames in videos]

    cases = [Case(str(n), video(n), video(n + 5)) for n in range(5)]
    batched = replace(GAP, extract_many=extract_many, batch_size=2)
    together = evaluate_cases(cases, [batched])
    assert seen == [4, 4, 2]
    assert together.scores == evaluate_cases(cases, [GAP]).scores


def test_a_number_that_is_none_is_an_error():
    metric = PairMetric(
        name="broken", description="", higher_is_better=True, compute=lambda a, b: float("nan")
    )
    with pytest.raises(NumericsError, match="'broken' of 'a' is nan"):
        evaluate_cases([Case("a", video(1), video(2))], [metric])


@pytest.fixture
def folders(tmp_path: Path, moving_square_THWC) -> tuple[Path, Path]:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        encode_video(tmp_path / "truth" / name, Video(moving_square_THWC, fps=10))
        encode_video(tmp_path / "generated" / name, Video(moving_square_THWC, fps=10), crf=35)
    return tmp_path / "generated", tmp_path / "truth"


class StoppedError(BaseException):
    pass


def counting(name: str = "counted", version: str = "1", stop_at: int | None = None):
    """A pair metric that counts how often it is computed, and may stop the run."""
    calls: list[int] = []

    def compute(generated, truth):
        if stop_at is not None and len(calls) == stop_at:
            raise StoppedError
        calls.append(len(generated))
        return 1.0

    metric = PairMetric(
        name=name, description="", higher_is_better=True, compute=compute,
        describe_features=lambda: Features("none", version),
    )  # fmt: skip
    return metric, calls


def test_a_stopped_run_resumes_and_gives_the_same(folders, tmp_path, no_work_yet):
    whole = evaluate_folders(*folders, [counting()[0], GAP], work=tmp_path / "other")
    no_work_yet()
    for stop_at, code in ((0, Exit.TOO_SHORT), (2, Exit.SAVED)):
        stopping, calls = counting(stop_at=stop_at)
        with pytest.raises(StoppedError):
            evaluate_folders(*folders, [stopping, GAP], work=tmp_path / "work")
        assert saved_or_too_short() is code
    metric, calls = counting()
    progress: list[tuple[int, int]] = []
    resumed = evaluate_folders(
        *folders, [metric, GAP], work=tmp_path / "work", on_pair=lambda *done: progress.append(done)
    )
    assert len(calls) == 1 and progress == [(1, 3), (2, 3), (3, 3)]
    assert resumed.clips.keys() == whole.clips.keys()
    assert resumed.scores == whole.scores
    assert list(resumed.clips) == ["a.mp4", "b.mp4", "c.mp4"]


def test_other_files_options_and_features_are_scored_again(folders, tmp_path, moving_square_THWC):
    def run(alignment=None, **features):
        metric, calls = counting(**features)
        evaluate_folders(*folders, [metric], alignment, work=tmp_path / "work")
        return len(calls)

    assert (run(), run()) == (3, 0)
    assert run(Alignment(skip_frames=1)) == 3
    assert run(version="2") == 3
    encode_video(folders[0] / "b.mp4", Video(moving_square_THWC, fps=10), crf=20)
    assert (run(), run()) == (1, 0)


def test_a_damaged_entry_is_computed_again(tmp_path):
    metric, _ = counting()
    journal = ScoreJournal(tmp_path, [metric])
    (kept,) = evaluate_cases([Case("a", video(1), video(2))], [metric]).clips.values()
    journal.record("a", kept)
    assert journal.find("a") == kept and journal.find("b") is None
    (entry,) = tmp_path.glob("*.npz")
    for content in (b"", entry.read_bytes()[:-30], b"noise"):
        entry.write_bytes(content)
        assert journal.find("a") is None


def test_judges_need_no_truth_and_take_prompts_by_name_or_stem(folders, tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"a.mp4": "one", "b": "three", "c": "seven"}))
    result = evaluate_folders(folders[0], None, [JUDGE], prompts=read_prompts(file))
    assert [clip.scores["length"] for clip in result.clips.values()] == [3, 5, 5]
    write_report(result, tmp_path / "out", make_record(result, {}))
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["scores"]["length"]["num"] == 3
    assert written["reasons"]["a.mp4"] == {"length": "counted"}
    assert "length" in (tmp_path / "out" / "evaluation.html").read_text()


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', "words"])
def test_prompts_that_cannot_be_read_are_an_error(tmp_path, content):
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(ConfigError, match=r"Expected a JSON object"):
        read_prompts(tmp_path / "prompts.json")
    with pytest.raises(MissingFileError, match="no file of prompts"):
        read_prompts(tmp_path / "nowhere.json")
