"""``nemo-cosmos curate`` on a folder of raw video."""

from __future__ import annotations

import pytest

from data_curation.catalogue import open_catalogue, plan_removals
from nemo_cosmos.cli.main import Exit


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """The site's catalogue lies in the user's data folder, whatever the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))


@pytest.fixture
def run(run_cli):
    return lambda *words: run_cli("curate", *words)


def test_json(run, raw, tmp_path):
    content = run(raw, tmp_path / "out", "--min-clip-s", 1, "--skip", "all", "--json").json
    assert content["num_clips"] == 3
    assert content["rejected"] == {"motion": 1, "not_a_video": 1}


def test_words(run, raw, tmp_path):
    still = ["--min-motion", 0, "--min-patch-motion", 0]
    words = run(raw, tmp_path / "out", "--split", "none", "--skip", "all", *still).out
    assert "3 clips" in words and "rejected: 1 not_a_video" in words and "report.html" in words


def test_each_run_becomes_a_version_that_leads_back_to_its_sources(run, raw, tmp_path):
    arguments = [raw, tmp_path / "out", "--min-clip-s", 1, "--skip", "all", "--name", "arm"]
    assert "Version: arm@1" in run(*arguments).out
    assert run(*arguments, "--json").json["version"] == "arm@1"  # nothing new
    assert "Version: arm@2" in run(*arguments, "--min-motion", 0, "--min-patch-motion", 0).out
    with open_catalogue(tmp_path / "data" / "nemo_cosmos" / "catalogue.db") as opened:
        first, second = opened.datasets("arm")
        (added,) = opened.diff(first, second).added
        (clip,) = opened.lineage(added)
    assert clip["video"]["location"] == str(raw / "still.mp4")


def test_a_catalogue_of_an_earlier_release_is_mentioned(run_cli, tmp_path):
    (tmp_path / "outputs").mkdir()
    with open_catalogue(tmp_path / "outputs" / "catalogue.db"):
        pass
    ran = run_cli("dataset", "list")
    assert ran.code == Exit.DONE and "configure storage.catalogue=" in ran.err
    assert run_cli("dataset", "list").err == ""  # the new one is there now


def test_nothing_left_is_said(run, raw, tmp_path):
    said = run(raw, tmp_path / "out", "--min-clip-s", 50).out
    assert "Every clip was rejected" in said and "hint: 4 by too_short: short recordings?" in said
    with open_catalogue(tmp_path / "data" / "nemo_cosmos" / "catalogue.db") as opened:
        assert opened.datasets() == []
        # The sources are known nevertheless, so that they are deleted in time.
        assert {each.path for each in plan_removals(opened, raw_days=-1)} == {
            str(path) for path in raw.rglob("*.mp4")
        }


def test_an_unknown_way_to_split(run, raw, tmp_path):
    ran = run(raw, tmp_path / "out", "--split", "scene")
    assert ran.code == Exit.WRONG_USE and "--split takes no 'scene'" in ran.err


def test_a_filter_that_rejects_most_says_which_option_lets_clips_pass(run, raw, tmp_path):
    words = [raw, tmp_path / "out", "--min-clip-s", 1, "--skip", "all", "--min-motion", 1]
    content = run(*words, "--json").json
    assert content["num_clips"] == 0
    (hint,) = content["hints"]
    assert hint == "4 by motion: fixed cameras? --min-motion 0 --min-patch-motion 0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--crf", "99"), "--crf is 99.0; it must be 0 to 51."),
        (("--min-motion", "nan"), "--min-motion is nan; it must be a number, 0 to 1."),
        (("--max-clip-s", "inf"), "--max-clip-s is inf; it must be a number"),
        (("--shard-mb", "nan"), "--shard-mb is nan"),
        (("--workers", "0"), "--workers is 0; it must be 1 to 4,096."),
        (("--worker-memory-gb", "-1"), "--worker-memory-gb is -1.0"),
        (("--profile", "4k"), "--profile takes no '4k'"),
        (("--vlm-url", "localhost:8000", "--vlm-model", "m"), "not the URL of an endpoint"),
        (("--text-encoder", "gone/t5"), "gone/t5"),
    ],
)
def test_what_cannot_be_right_ends_before_the_first_source(run, raw, tmp_path, words, message):
    ran = run(raw, tmp_path / "out", *words)
    assert ran.code == Exit.WRONG_USE and message in ran.err
    assert not list(tmp_path.glob("out/**/*.mp4")) and not (tmp_path / "out" / "v0").exists()


@pytest.mark.parametrize("command", ["curate", "transcode"])
def test_check_stops_before_the_first_source(run_cli, raw, tmp_path, command):
    well = run_cli(command, raw, tmp_path / "out", "--check", "--json")
    assert well.code == Exit.DONE and [row["check"] for row in well.json if row["ok"]] == [
        "options", "output", "sources", "room",
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    bad = run_cli(command, tmp_path / "none", tmp_path / "file", "--decoder", "x", "--check")
    words = " ".join(bad.out.split())
    assert bad.code == Exit.WRONG_USE
    for name in ("options", "output", "sources"):
        assert f"{name} │ wrong" in words
    refused = run_cli(command, raw, tmp_path / "file")
    assert refused.code == Exit.WRONG_USE and "is a file" in refused.err


@pytest.mark.parametrize("command", ["curate", "transcode"])
def test_the_output_must_be_apart_from_the_videos(run_cli, raw, command):
    names = sorted(path.name for path in raw.rglob("*"))
    for place in (raw, raw / "out", raw.parent):
        for words in (["--check"], []):
            ran = run_cli(command, raw, place, *words)
            assert ran.code == Exit.WRONG_USE
            assert "Choose another place" in " ".join((ran.out + ran.err).split()).replace(
                " │ ", ""
            )
    assert sorted(path.name for path in raw.rglob("*")) == names
