"""``evaluation.json`` is read back as it was written, and nothing damaged passes for scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, NemoCosmosError
from nemo_cosmos.evaluation import Case, choose_metrics, evaluate_cases, make_record, read_record
from nemo_cosmos.evaluation.comparison import check_repetition, compare
from nemo_cosmos.evaluation.files.folders import repeat_folders
from nemo_cosmos.evaluation.record import as_record, write_record


def frames(value: int) -> np.ndarray:
    return np.full((3, 16, 16, 3), value, np.uint8)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    cases = [Case(str(n), frames(n), frames(9 * n)) for n in (1, 2, 3)]
    evaluation = evaluate_cases(cases, choose_metrics(["psnr", "ssim"]))
    return write_record(make_record(evaluation, {"kind": "test"}, 1.25), tmp_path)


def test_what_was_written_is_read(written):
    record = read_record(written.parent)
    assert record.place == str(written) and record.inputs == {"kind": "test"}
    assert record.scores["psnr"].num == 3
    assert record.scores["psnr"].low <= record.scores["psnr"].value <= record.scores["psnr"].high
    assert set(record.clips) == {"1", "2", "3"} and record.metrics["psnr"]["unit"] == "dB"
    content = json.loads(written.read_text())
    assert content["duration_s"] == 1.25 and {"nemo_cosmos", "torch"} <= set(content["versions"])


def damage(content: dict, *path: str, value: object) -> dict:
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "wandb", "not an evaluation"),
        (("version",), 99, r"version 99.*nemo_cosmos that wrote it"),
        (("scores",), 3, "damaged"),
        (("scores", "psnr"), {}, "'value' is missing|'low' is missing"),
        (("scores", "psnr", "value"), "22.5", "'22.5' stands where a number must be"),
        (("scores", "psnr", "value"), True, "stands where a number"),
        (("scores", "psnr", "num"), 0, "of 0 videos"),
        (("clips", "1", "psnr"), None, "None stands where a number"),
        (("scores", "psnr", "value"), 10**400, "stands where a number"),
        (("clips", "1", "psnr"), float("nan"), "nan stands where a number"),
        (("metrics",), {}, "name different metrics"),
        (("metrics", "psnr"), ["dB"], "'psnr' is"),
        (("metrics", "psnr"), {"unit": "dB"}, "'higher_is_better' is missing"),
        (("metrics", "psnr", "unit"), 3, "lacks its unit"),
        (("skipped",), ["a"], "damaged"),
        (("version",), True, "version True"),
        (("scores", "psnr", "low"), 1e9, "interval is"),
        (("scores", "psnr", "high"), None, "interval is"),
        (("inputs",), None, "damaged"),
    ],
)
def test_a_damaged_record_is_named_with_what_is_wrong(written, path, value, message):
    content = damage(json.loads(written.read_text()), *path, value=value)
    written.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        read_record(written)


def test_a_file_that_is_no_json_or_is_not_there(written, tmp_path):
    written.write_bytes(written.read_bytes()[:100])
    with pytest.raises(ConfigError, match="damaged"):
        read_record(written)
    written.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="damaged"):
        read_record(written)
    written.write_text("[]")
    with pytest.raises(ConfigError, match="not an evaluation"):
        read_record(written)
    written.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="damaged"):
        read_record(written)
    with pytest.raises(MissingFileError, match="no evaluation"):
        read_record(tmp_path / "nowhere.json")


WRONG = (None, [], {}, "x", float("nan"), 10**400, -1, True, [1], {"a": 1}, 1.5)


def changed(content: object) -> Iterator[object]:
    """A record with each of its parts replaced by each wrong value, or left out."""
    if not isinstance(content, dict):
        return
    for key, part in content.items():
        yield {name: found for name, found in content.items() if name != key}
        yield from ({**content, key: wrong} for wrong in WRONG)
        yield from ({**content, key: inner} for inner in changed(part))


def test_nothing_wrong_in_a_record_is_more_than_a_message(written):
    content = json.loads(written.read_text())
    good = read_record(written)
    num_refused = 0
    for wrong in changed(content):
        try:
            record = as_record(wrong, "wrong")
            compare(record, good)
            compare(good, record)
            check_repetition(record, good)
        except NemoCosmosError:
            num_refused += 1
    assert num_refused > 300


def test_what_is_repeated_is_checked_before_it_is_done(written):
    content = json.loads(written.read_text())
    folder = str(written.parent)
    inputs = {
        "kind": "folders", "generated": folder, "truth": None, "prompts": None, "sha256": {},
        "alignment": {}, "allow_mismatch": [],
    }  # fmt: skip
    for name, wrong, message in (
        ("alignment", {"skip_frames": -1}, "skip_frames is -1"),
        ("alignment", {"skip": 1}, "damaged"),
        ("alignment", {"trim": "x"}, "trim is 'x'"),
        ("sha256", 3, "damaged"),
        ("generated", None, "damaged"),
        ("generated", f"{folder}/gone", "no file or folder"),
    ):
        record = as_record({**content, "inputs": {**inputs, name: wrong}}, "wrong")
        with pytest.raises(InputError, match=message):
            repeat_folders(record)
