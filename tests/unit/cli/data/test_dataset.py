"""``nemo-cosmos dataset``: what a person types and reads."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_curation import CurateSettings, SplitSettings
from data_curation.catalogue import Catalogue
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import CuratedWriter, read_samples


def write_folder(folder: Path, captions: dict[str, str]) -> Path:
    with CuratedWriter(folder) as writer:
        for key, caption in captions.items():
            record = ClipRecord(
                key=key, source="a.mp4", span_s=(0.0, 3.0), fps=10.0, num_frames=30,
                width=640, height=360, caption=caption, scores={"motion": len(caption) / 100},
            )  # fmt: skip
            writer.add(record, {"mp4": caption.encode()})
    return folder


@pytest.fixture
def run(tmp_path: Path, run_cli):
    """Call ``nemo-cosmos dataset`` on a catalogue of its own: exit code, output, errors."""
    return lambda *words: run_cli("dataset", *words, "--catalogue", tmp_path / "catalogue.db")


@pytest.fixture
def filled(run, tmp_path: Path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.mp4").write_bytes(b"film")
    write_folder(tmp_path / "one", {"k1": "A red block", "k2": "A blue block that rolls"})
    write_folder(tmp_path / "two", {"k1": "A red block", "k3": "An arm"})
    for folder in ("one", "two"):
        code, out, _ = run("add", str(tmp_path / folder), "--name", "robot", "--source", str(raw))
        assert code == 0 and "2 clips" in out
    return run


def test_an_empty_catalogue_says_what_fills_it(run):
    assert run("list") == (0, "There is no data set yet; 'nemo-cosmos curate' adds one.\n", "")


def test_list_and_show(filled):
    _, out, _ = filled("list")
    assert "robot@1" in out and "robot@2" in out
    _, out, _ = filled("list", "--json")
    assert [json.loads(line)["version"] for line in out.splitlines()] == [1, 2]
    _, out, _ = filled("show", "robot@1", "--json")
    assert json.loads(out)["num_clips"] == 2
    _, out, _ = filled("show", "robot", "--clip", "k1", "--json")
    assert json.loads(out)["video"]["location"].endswith("raw/a.mp4")


def test_show_says_what_a_person_asks(run, tmp_path):
    folder = write_folder(tmp_path / "one", {"k1": "A red block"})
    settings = json.loads(json.dumps(asdict(CurateSettings(split=SplitSettings(min_clip_s=1)))))
    summary = {"settings": settings, "rejected": {"motion": 1, "too_short": 3}}
    (folder / "summary.json").write_text(json.dumps(summary))
    run("add", str(folder), "--name", "robot", "--source", str(tmp_path))
    _, out, _ = run("show", "robot")
    assert "robot@1, made 20" in out and "3 too_short, 1 motion" in out
    assert out.endswith("settings: split.min_clip_s = 1\n")
    _, out, _ = run("show", "robot", "--clip", "k1")
    assert f"source:  {tmp_path / 'a.mp4'}, 0.00 s to 3.00 s" in out
    assert f"in:      robot@1, {folder}/v0/" in out and "motion = 0.11" in out


def test_diff(filled):
    _, out, _ = filled("diff", "robot@1", "robot@2")
    assert out.splitlines() == [
        "1 clip added", "  k3", "1 clip removed", "  k2", "0 clips changed",
    ]  # fmt: skip
    _, out, _ = filled("diff", "robot@1", "robot@2", "--json")
    assert json.loads(out)["added"] == ["k3"]


def test_query(filled):
    _, out, _ = filled("query", "robot@1", "--words", "blue block", "--json")
    assert json.loads(out)["key"] == "k2"
    _, out, _ = filled("query", "--where", "scores.motion<0.1", "--where", "width=640")
    assert "k3" in out and "An arm" in out and "k2" not in out
    _, out, _ = filled("query", "--words", "zebra")
    assert out == "No clip meets the conditions.\n"


def test_keys_can_be_copied_from_the_table(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    key = "0b1c6c1e-5b1e-5a3c-8f0e-3f5f0f6a1b2c"
    write_folder(tmp_path / "one", {key: "A red block that a robot pushes to the left"})
    run("add", str(tmp_path / "one"), "--name", "robot")
    _, out, _ = run("query", "robot")
    assert key in out


def test_likeness_needs_a_version_and_embeddings(filled):
    code, _, err = filled("query", "--like", "k1")
    assert code != 0 and "name it" in err
    code, _, err = filled("query", "robot", "--like", "k1")
    assert code != 0 and "no embeddings" in err


def test_export(filled, tmp_path):
    code, out, _ = filled("export", "robot@1", str(tmp_path / "part"), "--words", "red")
    assert code == 0 and "1 clip in" in out
    assert [each.key for each in read_samples(tmp_path / "part" / "v0")] == ["k1"]


def test_retention_lists_first_and_deletes_on_demand(filled, tmp_path, monkeypatch):
    assert filled("retain")[1] == "Nothing is past its time.\n"
    later = datetime.now(UTC) + timedelta(days=100)
    monkeypatch.setattr(Catalogue.__init__, "__defaults__", (lambda: later,))
    _, out, _ = filled("retain")
    assert "raw: " in out and "Nothing was deleted" in out
    assert (tmp_path / "raw" / "a.mp4").exists()
    _, out, _ = filled("retain", "--apply")
    assert "Deleted" in out and not (tmp_path / "raw" / "a.mp4").exists()


def test_a_strange_condition_is_refused(filled):
    code, _, err = filled("query", "robot", "--where", "wide")
    assert code == 2 and "'wide' is not a condition" in err
