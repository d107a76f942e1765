"""Versions that do not change, their difference, search, and the way back to a source."""

from __future__ import annotations

import pytest

from data_curation.catalogue import open_catalogue
from nemo_cosmos.errors import ConfigError, MissingFileError


@pytest.fixture
def two_versions(catalogue, make_folder, raw, clock):
    first = make_folder("one", {"k1": "red", "k2": "blue", "k3": "green"}, min_motion=0.1)
    second = make_folder("two", {"k1": "red", "k2": "yellow", "k4": "white"}, min_motion=0.2)
    catalogue.add(first, "robot", raw)
    clock.advance(days=1)
    catalogue.add(second, "robot", raw)
    return catalogue


def test_versions_are_numbered_and_the_newest_is_the_default(two_versions):
    assert [each["version"] for each in two_versions.datasets("robot")] == [1, 2]
    assert two_versions.dataset("robot")["version"] == 2
    first = two_versions.dataset("robot@1")
    assert (first["num_clips"], first["created"][:10]) == (3, "2026-01-01")
    assert first["config"]["settings"] == {"min_motion": 0.1}


def test_the_same_folder_is_the_same_version(two_versions, make_folder, tmp_path, raw):
    again = two_versions.add(tmp_path / "one", "robot", raw)
    assert again["version"] == 1 and len(two_versions.datasets()) == 2
    other_name = two_versions.add(tmp_path / "one", "arm", raw)
    assert (other_name["name"], other_name["version"]) == ("arm", 1)


def test_a_killed_addition_leaves_no_version_and_is_completed(
    catalogue, make_folder, raw, monkeypatch
):
    folder = make_folder("one", {"k1": "red", "k2": "blue"})
    whole = catalogue.store.add

    def dies(collection, documents):
        if collection.name == "dataset":
            raise KeyboardInterrupt
        return whole(collection, documents)

    monkeypatch.setattr(catalogue.store, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        catalogue.add(folder, "robot", raw)
    assert catalogue.datasets() == []
    monkeypatch.undo()
    version = catalogue.add(folder, "robot", raw)
    assert version["version"] == 1
    assert [clip["key"] for clip in catalogue.clips(version)] == ["k1", "k2"]


def test_a_number_taken_by_another_process_is_not_used_twice(catalogue, make_folder, raw):
    folder = make_folder("one", {"k1": "red"})
    catalogue.add(folder, "robot", raw)
    catalogue._next_version = lambda name: 1  # as if both had looked at the same time
    other = make_folder("two", {"k2": "blue"})
    assert catalogue.add(other, "robot", raw)["version"] == 2


def test_difference(two_versions):
    found = two_versions.diff(two_versions.dataset("robot@1"), two_versions.dataset("robot@2"))
    assert (found.added, found.removed, found.changed) == (["k4"], ["k3"], ["k2"])
    assert found.settings == {"min_motion": (0.1, 0.2)}


def test_search_by_words_scores_and_size(two_versions):
    first = two_versions.dataset("robot@1")

    def keys(**conditions):
        return [clip["key"] for clip in two_versions.clips(first, **conditions)]

    assert keys() == ["k1", "k2", "k3"]
    assert keys(words="red block") == ["k1"]
    assert keys(words="white") == []  # of the other version
    assert keys(where={"scores.motion": {"$gte": 0.1}}) == ["k2", "k3"]
    assert keys(where={"height": 360, "scores.motion": {"$lt": 0.1}}) == ["k1"]
    assert keys(where={"extra.task": "push"}, limit=2) == ["k1", "k2"]
    everywhere = [clip["key"] for clip in two_versions.clips(words="block")]
    assert everywhere == ["k1", "k2", "k2", "k3", "k4"]  # k2 once for each content


def test_a_clip_comes_with_its_facts(two_versions):
    clip = next(two_versions.clips(two_versions.dataset("robot@1")))
    assert clip["caption"] == "The arm pushes the red block"
    assert clip["caption_source"] == "template"
    assert clip["scores"] == {"motion": 0.0} and clip["extra"]["task"] == "push"
    assert clip["shard"].startswith("v0/") and clip["shard"].endswith(".tar")


def test_lineage_leads_to_the_source_and_the_settings(two_versions, raw):
    before, after = sorted(
        two_versions.lineage("k2"), key=lambda each: each["datasets"][0]["version"]
    )
    assert before["caption"].endswith("blue block") and after["caption"].endswith("yellow block")
    assert before["video"]["location"] == str(raw / "b.mp4")
    assert before["video"]["size_bytes"] == (raw / "b.mp4").stat().st_size
    assert [each["version"] for each in before["datasets"]] == [1]
    assert after["datasets"][0]["config"]["settings"] == {"min_motion": 0.2}
    (shared,) = two_versions.lineage("k1")
    assert sorted(each["version"] for each in shared["datasets"]) == [1, 2]


def test_unknown_names_are_one_clear_error(two_versions):
    with pytest.raises(ConfigError, match=r"nearest are: .*robot"):
        two_versions.dataset("robto")
    with pytest.raises(ConfigError, match=r"no version '7'; it has: 1, 2"):
        two_versions.dataset("robot@7")
    with pytest.raises(ConfigError, match="No clip has the key"):
        two_versions.lineage("nothing")


def test_a_field_that_no_clip_has_is_an_error_and_not_an_empty_answer(two_versions):
    first = two_versions.dataset("robot@1")
    for field, nearest in (("widht", "width"), ("scores.moton", r"scores\.motion")):
        with pytest.raises(ConfigError, match=f"No clip has a field '{field}'.*'{nearest}'"):
            list(two_versions.clips(first, where={field: {"$gt": 0}}))
    assert list(two_versions.clips(first, where={"width": {"$gt": 9999}})) == []


def test_a_folder_without_shards_or_with_a_broken_summary(embedded, tmp_path, make_folder):
    with pytest.raises(MissingFileError):
        embedded.add(tmp_path / "nowhere", "robot")
    folder = make_folder("one", {"k1": "red"})
    (folder / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        embedded.add(folder, "robot")
    (folder / "summary.json").unlink()
    assert embedded.add(folder, "robot")["config"] == {}


def test_an_empty_catalogue_says_how_to_fill_it(tmp_path):
    with pytest.raises(
        ConfigError, match=r"'a' in this catalogue. It is empty: 'nemo-cosmos curat"
    ):
        open_catalogue(tmp_path / "catalogue.db").dataset("a")
