"""Windows of pixels for tokenizers may be changed; without augmentation they stay as they were."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.data.augmentation.settings import Augmentation
from nemo_cosmos.data.loading.loader import SampleDraw
from nemo_cosmos.data.modules import VideoDataModule
from nemo_cosmos.errors import ConfigError

from ..conftest import HEIGHT, WIDTH

SIZE = (HEIGHT, WIDTH)


def videos(curated, augment=None, size=SIZE, num_frames=9, count=12):
    module = VideoDataModule(curated, num_frames=num_frames, size=size, augment=augment)
    dataset = module.make_dataset([curated], for_training=True)
    (bucket,) = dataset.videos
    draws = [SampleDraw(0, bucket, position) for position in range(count)]
    items = [dataset[draw] for draw in draws]
    return [(item["video"].numpy().astype(int), float(item["fps"])) for item in items]


def test_a_flip_mirrors_the_same_window(curated):
    plain, flipped = videos(curated), videos(curated, Augmentation(flip=1.0))
    for (before, _), (after, _) in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(after, before[..., ::-1])


def test_some_are_mirrored(curated):
    plain, some = videos(curated), videos(curated, Augmentation(flip=0.5))
    same = [np.array_equal(a, b) for (a, _), (b, _) in zip(plain, some, strict=True)]
    assert 0 < sum(same) < len(same)


def test_speed_halves_the_rate(curated):
    found = videos(curated, Augmentation(speed=(2,)))
    assert {fps for _, fps in found} == {12.0}
    moved = [int(np.argmax(video[0, t, 28] > 150)) for video, _ in found[:1] for t in range(9)]
    assert set(np.diff(moved)) == {4}, "the square moves two columns a frame"


def test_a_crop_shows_less_at_the_same_size(curated):
    found = videos(curated, Augmentation(crop=0.5), size=(32, 48))
    assert {video.shape for video, _ in found} == {(3, 9, 32, 48)}
    sizes = [int((video[0, 0] > 150).sum()) for video, _ in found]
    assert max(sizes) > 90, "the whole square has 64 pixels where nothing is cut away"


def test_validation_sees_clips_as_they_are(curated):
    module = VideoDataModule(curated, num_frames=9, size=SIZE, augment=Augmentation(flip=1.0))
    assert module.make_dataset([curated], for_training=False).augment is None


def test_another_object_is_refused(curated):
    with pytest.raises(ConfigError, match="must be an Augmentation"):
        VideoDataModule(curated, augment=0.5)


def test_colours_change_alike_in_all_frames_and_nothing_moves(curated):
    plain, changed = videos(curated), videos(curated, Augmentation(colour=0.5))
    light = []
    for (before, fps), (after, same_fps) in zip(plain, changed, strict=True):
        assert fps == same_fps
        # One map of colours leads from the old pixels of all frames to the new ones in their place.
        old, new = (video.reshape(3, -1).T for video in (before, after))
        known = np.c_[old, np.ones(len(old))]
        mapped = known @ np.linalg.lstsq(known, new, rcond=None)[0]
        assert np.abs(new - np.clip(mapped, 0, 255)).mean() < 2
        light.append(round(float(after.mean() / before.mean()), 2))
    assert len(set(light)) > 3, "each window has a light of its own"


@pytest.mark.parametrize(
    "change",
    [
        Augmentation(flip=1.0),
        Augmentation(crop=0.5),
        Augmentation(colour=0.3),
        Augmentation(speed=(2,)),
        Augmentation(flip=0.5, crop=0.3, colour=0.2, speed=(1, 2)),
    ],
    ids=["flip", "crop", "colour", "speed", "all"],
)
def test_a_changed_window_comes_with_no_control_that_it_would_make_untrue(curated, change):
    """The clips have actions, which tell of the window as it was filmed; the rate is kept true."""
    module = VideoDataModule(curated, num_frames=9, size=SIZE, augment=change)
    dataset = module.make_dataset([curated], for_training=True)
    (bucket,) = dataset.videos
    for position in range(6):
        item = dataset[SampleDraw(0, bucket, position)]
        assert set(item) - {"skipped"} == {"key", "views", "video", "fps"}
        # The square moves two columns a frame of the clip, 48 columns a second at any speed.
        is_square_TW = item["video"][0, :, 28].numpy() > 150
        steps = np.diff(is_square_TW.argmax(axis=1))
        if not (change.flip or change.crop or change.colour):
            assert set(steps) == {48 / float(item["fps"])}
