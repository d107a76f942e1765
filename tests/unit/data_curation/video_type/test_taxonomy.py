"""Taxonomies: the product's own, the user's, and wrong ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_curation.video_type.taxonomy import OBJECTS, UNKNOWN, Label, likeliest, load_taxonomy
from nemo_cosmos.errors import ConfigError, MissingFileError


def probabilities(**share_of_class: float) -> np.ndarray:
    values = np.zeros(1000, dtype=np.float32)
    for name, share in share_of_class.items():
        values[int(name.removeprefix("c"))] = share
    return values


def test_the_product_has_the_nine_categories_and_its_own_environments():
    labels = load_taxonomy().labels
    assert len(labels["video_type"]) == 9
    wanted = ["city", "hospital", "zoo", "museum", "amusement_park", "retail"]
    assert list(labels["environment"]) == wanted
    assert all(label.classes for label in labels["environment"].values())
    prompts = [
        label.prompt
        for aspect in ("video_type", "environment")
        for label in labels[aspect].values()
    ]
    assert len(set(prompts)) == 15 and all(" " in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("number", "video_type", "environment"),
    [
        (920, "driving", "city"),  # traffic light
        (386, "nature_dynamics", "zoo"),  # African elephant
        (823, UNKNOWN, "hospital"),  # stethoscope
        (582, UNKNOWN, "retail"),  # grocery store
        (476, UNKNOWN, "amusement_park"),  # carousel
        (708, UNKNOWN, "museum"),  # pedestal
        (207, UNKNOWN, UNKNOWN),  # golden retriever: a pet, neither nature nor zoo
    ],
)
def test_classes_vote(number, video_type, environment):
    values = probabilities(**{f"c{number}": 1.0})
    taxonomy = load_taxonomy()
    assert likeliest(taxonomy.votes("video_type", values), 0.3)[0] == video_type
    assert likeliest(taxonomy.votes("environment", values), 0.3)[0] == environment


def test_all_objects_that_are_likely_enough_are_named():
    values = probabilities(c207=0.3, c235=0.2, c805=0.4, c504=0.1)  # two breeds, a ball, a cup
    assert load_taxonomy().objects(values, 0.4) == ["dog", "ball"]
    assert load_taxonomy().objects(values, 0.6) == []


@pytest.mark.parametrize(
    ("chances", "named"),
    [
        ({"c829": 0.6, "c675": 0.1}, ["tram"]),
        ({"c829": 0.5, "c675": 0.3}, ["vehicle"]),  # a tram, or a van that looks like one
        ({"c829": 0.3, "c675": 0.3}, ["vehicle"]),
        ({"c829": 0.3, "c675": 0.1}, []),
        ({"c829": 0.3, "c207": 0.3}, []),
        ({"c269": 0.4, "c207": 0.5}, ["animal"]),
        ({"c805": 0.6}, ["ball"]),
    ],
)
def test_an_object_is_named_where_it_is_clear_which_one_of_its_kind_it_is(chances, named):
    assert load_taxonomy().objects(probabilities(**chances), 0.5) == named


def test_no_class_stands_for_two_objects():
    classes = [
        number for label in load_taxonomy().labels[OBJECTS].values() for number in label.classes
    ]
    assert len(classes) == len(set(classes)) > 500


def test_votes_add_up_and_little_is_unknown():
    taxonomy = load_taxonomy()
    votes = taxonomy.votes("environment", probabilities(c919=0.2, c920=0.2))
    assert likeliest(votes, 0.3) == ("city", pytest.approx(0.4))
    votes = taxonomy.votes("environment", probabilities(c919=0.2))
    assert likeliest(votes, 0.3) == (UNKNOWN, pytest.approx(0.2))


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_ones_own(tmp_path, suffix):
    file = tmp_path / f"own.{suffix}"
    file.write_text(json.dumps({"video_type": {"cats": {"imagenet": ["281-283", 285]}}}))
    taxonomy = load_taxonomy(file)
    assert taxonomy.labels == {"video_type": {"cats": Label((281, 282, 283, 285), "cats")}}
    assert likeliest(taxonomy.votes("video_type", probabilities(c282=0.9)), 0.3)[0] == "cats"
    assert likeliest(taxonomy.votes("environment", probabilities(c282=0.9)), 0.3) == (UNKNOWN, 0.0)
    assert taxonomy.objects(probabilities(c282=0.9), 0.3) == []


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "{}",
        "place: {a: {imagenet: []}}",
        "video_type: {}",
        "video_type: {Cats: {imagenet: []}}",
        "video_type: {unknown: {imagenet: []}}",
        "video_type: {cats: [1]}",
        "video_type: {cats: {imagenet: [], prompt: 3}}",
        "objects: {cat: {imagenet: [281], kind: 3}}",
        "video_type: {cats: {prompt: cats}}",
        "video_type: {cats: {imagenet: [1000]}}",
        'video_type: {cats: {imagenet: ["9-3"]}}',
        "video_type: {cats: {imagenet: [tabby]}}",
        "video_type: {cats: {imagenet: [-1]}}",
        "{",
        "!!python/object/apply:os.system [echo]",
    ],
)
def test_wrong_ones_are_refused(tmp_path, content):
    (tmp_path / "t.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"t\.yaml"):
        load_taxonomy(tmp_path / "t.yaml")


def test_one_that_is_not_there(tmp_path):
    with pytest.raises(MissingFileError, match="cannot be read"):
        load_taxonomy(tmp_path / "none.yaml")
