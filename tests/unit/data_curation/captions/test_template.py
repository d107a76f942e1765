"""Template captions: every sentence rests on something that was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_curation.captions.template import measure_light, template_caption
from data_curation.clip import Clip

CLIP = Clip(source=Path("v.mp4"), name="v.mp4", num_frames=50, fps=10, width=96, height=64)


def lit(frames: np.ndarray) -> Clip:
    light = measure_light(frames)
    scores = {"luma": light.luma, "contrast": light.contrast, "saturation": light.saturation}
    return replace(CLIP, extra={"main_colour": light.colour}).with_scores(**scores)


def test_of_a_clip_of_which_nothing_is_known_its_shape_and_length_are_told():
    assert template_caption(CLIP) == "A landscape video of 5 seconds."
    assert (
        template_caption(replace(CLIP, height=200, num_frames=10))
        == "A portrait video of 1 second."
    )
    assert template_caption(replace(CLIP, height=96, num_frames=4)) == (
        "A square video of under a second."
    )


@pytest.mark.parametrize(
    ("colour", "words"),
    [
        ((255, 0, 0), "The picture is dimly lit, of low contrast and mostly red."),
        ((255, 0, 30), "The picture is dimly lit, of low contrast and mostly red."),
        ((0, 200, 0), "The picture is of low contrast and mostly green."),
        ((0, 0, 250), "The picture is dark, of low contrast and mostly blue."),
        ((250, 250, 250), "The picture is bright, of low contrast and in muted colors."),
        ((128, 128, 128), "The picture is of low contrast and in muted colors."),
    ],
)
def test_light_and_colour_are_told(colour, words):
    frames = np.full((2, 8, 8, 3), colour, dtype=np.uint8)
    assert template_caption(lit(frames)).endswith(words)


def test_between_the_limits_light_is_not_spoken_of():
    frames = np.full((2, 8, 8, 3), (150, 90, 90), dtype=np.uint8)
    frames[:, ::2] = (100, 200, 220)  # two hues, of which none is the main one
    assert template_caption(lit(frames)) == "A landscape video of 5 seconds."
    frames[:, :, ::2] = 255
    frames[:, :, 1::2] = 0
    assert "of high contrast" in template_caption(lit(frames))


def test_objects_labels_camera_and_motion_are_told():
    facts = {
        "objects": ["traffic_light", "aeroplane", "car"], "video_type": "driving",
        "environment": "unknown", "camera_motion": ["pan_left", "zoom_in"],
    }  # fmt: skip
    clip = replace(CLIP, extra=facts).with_scores(motion_global_mean=0.003)
    assert template_caption(clip) == (
        "A landscape video of 5 seconds. It shows a traffic light, an aeroplane and a car. Sorted "
        "under driving. The camera pans to the left. There is moderate motion."
    )


def test_a_camera_stands_still_where_little_moves_and_no_claim_is_made_elsewhere():
    clip = replace(CLIP, extra={"camera_motion": ["static"]})
    assert "camera" not in template_caption(clip)
    assert "camera" not in template_caption(clip.with_scores(motion_global_mean=0.01))
    assert "stands still" in template_caption(clip.with_scores(motion_global_mean=0.001))


def test_a_label_that_is_not_sure_is_not_told():
    clip = replace(CLIP, extra={"video_type": "driving", "environment": "city"})
    told = clip.with_scores(video_type_confidence=0.7, environment_confidence=0.4)
    assert template_caption(told).endswith("Sorted under driving.")


@pytest.mark.parametrize(
    ("motion", "words"), [(0, "almost no motion"), (0.001, "little motion"), (1, "strong motion")]
)
def test_the_amount_of_motion_has_a_name(motion, words):
    assert words in template_caption(CLIP.with_scores(motion_global_mean=motion))


def test_what_was_not_found_is_not_spoken_of():
    facts = {"objects": [], "video_type": "unknown", "environment": "unknown", "main_colour": ""}
    assert template_caption(replace(CLIP, extra=facts)) == "A landscape video of 5 seconds."
