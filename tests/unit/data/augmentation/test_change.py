"""What is drawn for a clip, its colours, and the words of its mirror image."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.data.augmentation.change import Change, choose_axis, draw_change, speeds_that_fit
from nemo_cosmos.data.augmentation.settings import Augmentation, Variants
from nemo_cosmos.data.augmentation.words import mirror_words, names_a_side
from nemo_cosmos.errors import ConfigError


def drawn(settings, count=200):
    random = np.random.default_rng(1)
    return [draw_change(settings, random, settings.speed) for _ in range(count)]


def test_changes_stay_within_the_settings():
    settings = Augmentation(flip=0.3, crop=0.2, colour=0.1, speed=(1, 2, 4))
    changes = drawn(settings)
    assert 0.2 < np.mean([change.is_mirrored for change in changes]) < 0.4
    assert {change.speed for change in changes} == {1, 2, 4}
    assert 0.8 <= min(change.kept for change in changes) < 0.85
    for change in changes:
        assert all(0.9 <= one <= 1.1 for one in (change.brightness, change.contrast))
        picture = change.picture((40, 60))
        top, left, bottom, right = picture.box
        assert 0 <= top < bottom <= 40 and 0 <= left < right <= 60
        assert abs(picture.kept_size[1] / picture.kept_size[0] - 1.5) < 0.06


def test_one_setting_leaves_the_others_where_they_were():
    with_colour = drawn(Augmentation(flip=0.5, crop=0.2, colour=0.1))
    without = drawn(Augmentation(flip=0.5, crop=0.2))
    for one, other in zip(with_colour, without, strict=True):
        assert (one.is_mirrored, one.kept, one.place) == (
            other.is_mirrored,
            other.kept,
            other.place,
        )
        assert other.brightness == other.contrast == other.saturation == 1


def test_a_mirrored_picture_twice_mirrored_is_itself():
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 60, 3), np.uint8)
    picture = Change(is_mirrored=True).picture((40, 60))
    np.testing.assert_array_equal(picture.frames(frames), frames[:, :, ::-1])
    np.testing.assert_array_equal(picture.frames(picture.frames(frames)), frames)


def test_colours_change_as_they_are_called():
    frames = np.random.default_rng(0).integers(60, 120, (2, 8, 8, 3), np.uint8)
    grey = frames @ np.array([0.299, 0.587, 0.114])
    assert Change().colours(frames) is frames
    brighter = Change(brightness=1.2).colours(frames)
    np.testing.assert_allclose(brighter, frames * 1.2, atol=0.51)
    flat = Change(contrast=0.5).colours(frames)
    np.testing.assert_allclose(flat.std(), frames.std() / 2, rtol=0.05)
    np.testing.assert_allclose(flat.mean(), grey.mean(), atol=1.5)
    pale = Change(saturation=0).colours(frames)
    np.testing.assert_allclose(pale, np.repeat(grey[..., None], 3, -1), atol=0.51)
    assert Change(brightness=1.9).colours(frames + np.uint8(120)).max() == 255, "no wrap around"


@pytest.mark.parametrize(
    ("available", "expected"), [(9, (1,)), (17, (1, 2)), (16, (1,)), (33, (1, 2, 4))]
)
def test_a_clip_is_as_fast_as_it_is_long(available, expected):
    assert speeds_that_fit(Augmentation(speed=(1, 2, 4)), 9, available) == expected


def test_an_image_has_no_speed():
    assert speeds_that_fit(Augmentation(speed=(2, 4)), 1, 30) == (1,)


def test_the_axis_may_be_chosen():
    poses = np.eye(4)[None]
    assert [choose_axis(name, poses) for name in ("auto", "x", "y")] == [0, 0, 1]
    assert choose_axis("auto", None) == 1


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("The arm moves left, then to the right.", "The arm moves right, then to the left."),
        ("Left of the LEFTMOST cup", "Right of the RIGHTMOST cup"),
        ("It turns clockwise.", "It turns counterclockwise."),
        ("It turns counter-clockwise.", "It turns clockwise."),
        ("A right-hand turn on a bright night", "A left-hand turn on a bright night"),
        ("A cup is left on the table.", None),
        ("Right after that it stops.", None),
        ("A cup stands upright.", "A cup stands upright."),
    ],
)
def test_words_of_a_mirrored_clip(text, mirrored):
    assert mirror_words(text) == mirrored


def test_sides_are_noticed():
    assert names_a_side("It moves Left.")
    assert not names_a_side("A bright copyright sign.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "changes nothing"),
        ({"speed": (1,)}, "changes nothing"),
        ({"speed": ()}, "speed is empty"),
        ({"speed": (0,)}, "speed is 0"),
        ({"speed": 2}, "must be a list"),
        ({"flip": 1.5}, "flip is 1.5; it must be 0 to 1"),
        ({"flip": "often"}, "flip is 'often'"),
        ({"flip": float("nan")}, "flip is nan"),
        ({"crop": 1.0}, "crop is 1"),
        ({"flip": 0.5, "mirror_axis": "z"}, "mirror_axis takes no 'z'"),
        ({"flip": 0.5, "number": 0}, "number is 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Variants(**options)
