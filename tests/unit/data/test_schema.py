"""The JSON of a sample: there and back, and what is refused."""

from __future__ import annotations

import json

import pytest

from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.errors import SampleError


def test_there_and_back(make_record):
    record = make_record(scores={"motion": 0.25}, sha256="ab", extra={"licence": "CC-BY-4.0"})
    again = ClipRecord.from_json(record.to_json())
    assert again == record
    assert again.extra == {"licence": "CC-BY-4.0"}
    assert again.duration_s == pytest.approx(25 / 24)


def test_same_record_gives_the_same_bytes(make_record):
    one = make_record(scores={"a": 1.0, "b": 2.0}, extra={"x": 1, "y": 2})
    other = make_record(scores={"b": 2.0, "a": 1.0}, extra={"y": 2, "x": 1})
    assert one.to_json() == other.to_json()


def test_json_is_readable_by_people(make_record):
    text = make_record(caption="ein Würfel fällt").to_json().decode()
    assert "ein Würfel fällt" in text
    assert json.loads(text)["span_s"] == [1.0, 1.0 + 25 / 24]


def test_extra_cannot_replace_a_field(make_record):
    record = make_record(extra={"key": "other"})
    assert json.loads(record.to_json())["key"] == "clip"


def test_with_changes_keeps_the_rest(make_record):
    record = make_record(extra={"a": 1}).with_changes(key="b", start_frame=8)
    assert record.key == "b"
    assert record.extra == {"a": 1, "start_frame": 8}


@pytest.mark.parametrize("caption", ["", "   ", "\n"])
def test_empty_caption(make_record, caption):
    with pytest.raises(SampleError, match=r"Sample 'clip' has no caption.*nemo-cosmos curate"):
        make_record(caption=caption)


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../x", "ä", "k" * 81, "a b"])
def test_key_that_cannot_name_a_file(make_record, key):
    with pytest.raises(SampleError, match="cannot name a sample"):
        make_record(key)


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": 0.0},
        {"fps": float("nan")},
        {"num_frames": 0},
        {"width": -1},
        {"height": 0},
        {"span_s": (2.0, 2.0)},
        {"span_s": (-1.0, 2.0)},
        {"span_s": (0.0, float("inf"))},
    ],
)
def test_impossible_values(make_record, changes):
    with pytest.raises(SampleError, match="Sample 'clip'"):
        make_record(**changes)


class TestParsing:
    def parse(self, record, **changes):
        data = {**json.loads(record.to_json()), **changes}
        data = {name: value for name, value in data.items() if value != "absent"}
        return ClipRecord.from_json(json.dumps(data), "sample 'clip' of 'a.tar'")

    @pytest.mark.parametrize("name", ["caption", "fps", "span_s", "source", "key"])
    def test_missing_value_is_named_with_the_shard(self, make_record, name):
        with pytest.raises(SampleError, match=rf"'clip' of 'a\.tar' has no '{name}'"):
            self.parse(make_record(), **{name: "absent"})

    def test_null_caption_is_a_missing_caption(self, make_record):
        with pytest.raises(SampleError, match="has no 'caption'"):
            self.parse(make_record(), caption=None)

    def test_empty_caption_names_the_shard(self, make_record):
        with pytest.raises(SampleError, match=r"In sample 'clip' of 'a\.tar': .*no caption"):
            self.parse(make_record(), caption="")

    @pytest.mark.parametrize(
        "changes",
        [{"caption": 5}, {"fps": "fast"}, {"span_s": [1]}, {"span_s": 3}, {"num_frames": []}],
    )
    def test_wrong_type(self, make_record, changes):
        with pytest.raises(SampleError, match="wrong type"):
            self.parse(make_record(), **changes)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
    def test_no_json(self, content):
        with pytest.raises(SampleError, match="cannot be parsed"):
            ClipRecord.from_json(content, "sample 'a'")

    @pytest.mark.parametrize("content", [b"[]", b"3", b"null"])
    def test_no_object(self, content):
        with pytest.raises(SampleError, match="expected an object"):
            ClipRecord.from_json(content)

    def test_optional_values_have_defaults(self, make_record):
        record = self.parse(make_record(), scores="absent", sha256="absent")
        assert (dict(record.scores), record.sha256) == ({}, "")
