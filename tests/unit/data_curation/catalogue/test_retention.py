"""What is past its time is listed first, and deleted only when it is what the policy speaks of."""

from __future__ import annotations

import json
import os

import pytest

from data_curation.catalogue import plan_removals, remove
from data_curation.catalogue.retention import shred


@pytest.fixture
def recorded(catalogue, make_folder, raw):
    catalogue.add(make_folder("one", {"k1": "red", "k2": "blue"}), "robot", raw)
    return catalogue


def test_nothing_is_listed_before_its_time(recorded, clock):
    clock.advance(days=90)
    assert plan_removals(recorded) == []


def test_raw_after_90_days_and_processed_after_a_year(recorded, clock, raw, tmp_path):
    clock.advance(days=91)
    plan = plan_removals(recorded)
    assert [(each.kind, each.name, each.age_days) for each in plan] == [
        ("raw", "a.mp4", 91),
        ("raw", "b.mp4", 91),
    ]
    assert (raw / "a.mp4").exists()  # a plan touches nothing
    clock.advance(days=275)
    kinds = [each.kind for each in plan_removals(recorded)]
    assert kinds == ["raw", "raw", "processed"]


def test_deletion_is_done_marked_and_not_listed_again(recorded, clock, raw, tmp_path):
    clock.advance(days=366)
    plan = plan_removals(recorded)
    size_bytes = sum(each.size_bytes for each in plan)
    assert remove(recorded, plan) == size_bytes > 0
    assert list(raw.iterdir()) == [] and not (tmp_path / "one" / "v0").exists()
    assert plan_removals(recorded) == []
    (clip,) = recorded.lineage("k1")  # the facts stay
    assert clip["video"]["deleted"] and clip["datasets"][0]["deleted"]


def test_sources_of_which_nothing_was_kept_are_past_their_time_too(
    catalogue, make_folder, raw, clock
):
    (raw / "dark.mp4").write_bytes(b"rejected")
    folder = make_folder("one", {"k1": "red"})
    lines = [{"name": "dark.mp4", "reason": "motion"}, {"name": "a.mp4", "reason": "too_short"}]
    (folder / "rejected.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    catalogue.add(folder, "robot", raw)
    clock.advance(days=91)
    plan = plan_removals(catalogue)
    assert [each.name for each in plan] == ["a.mp4", "dark.mp4"]
    remove(catalogue, plan)
    assert [path.name for path in raw.iterdir()] == ["b.mp4"]


def test_all_that_shows_pictures_is_deleted_and_the_counts_stay(recorded, clock, tmp_path):
    folder = tmp_path / "one"
    for name in (".work/thumbnails/k1.jpg", "embeddings/vectors.npy", "report.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"what was seen")
    clock.advance(days=366)
    remove(recorded, plan_removals(recorded))
    assert [path.name for path in folder.iterdir()] == ["summary.json"]


def test_a_source_that_changed_since_is_kept(recorded, clock, raw):
    (raw / "a.mp4").write_bytes(b"another film")
    clock.advance(days=100)
    plan = plan_removals(recorded)
    assert [each.keep_because for each in plan] == ["changed since it was recorded", ""]
    remove(recorded, plan)
    assert [path.name for path in raw.iterdir()] == ["a.mp4"]


def test_shards_that_a_newer_version_uses_are_kept(recorded, clock, raw, tmp_path):
    clock.advance(days=300)
    recorded.add(tmp_path / "one", "arm", raw)
    clock.advance(days=100)
    assert [each.kind for each in plan_removals(recorded)] == ["raw", "raw"]


def test_content_is_overwritten_before_it_is_unlinked(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"secret" * 1000)
    with path.open("rb") as still_open:
        shred(path)
        assert list(tmp_path.iterdir()) == []
        after = still_open.read()
    assert len(after) == 6000 and b"secret" not in after


def test_links_do_not_lead_to_others_files(tmp_path):
    kept = tmp_path / "kept.mp4"
    kept.write_bytes(b"keep me")
    (tmp_path / "symbolic.mp4").symlink_to(kept)
    os.link(kept, tmp_path / "hard.mp4")
    shred(tmp_path / "symbolic.mp4")
    shred(tmp_path / "hard.mp4")
    assert kept.read_bytes() == b"keep me"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.mp4"]
