"""Priors and decoding against formulas that are written out one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.faces.boxes import (
    Face,
    decode_faces,
    overlap,
    prior_boxes,
    suppress,
)


def priors_one_by_one(height, width):
    """Loops over levels, rows, columns and sizes, as the paper's training code numbers them."""
    found = []
    for stride, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for row in range(math.ceil(height / stride)):
            for column in range(math.ceil(width / stride)):
                centre = ((column + 0.5) * stride, (row + 0.5) * stride)
                found += [(*centre, size) for size in sizes]
    return found


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (840, 840)])
def test_priors(size):
    assert prior_boxes(*size).tolist() == [[*map(float, p)] for p in priors_one_by_one(*size)]


def test_the_reference_size_has_the_known_number_of_priors():
    assert len(prior_boxes(840, 840)) == 29126


def test_decoding_one_number_at_a_time():
    rng = np.random.default_rng(1)
    height, width = 70, 130
    priors = priors_one_by_one(height, width)
    loc = rng.normal(size=(len(priors), 4)).astype(np.float32)
    score = np.zeros(len(priors), np.float32)
    chosen = [3, 117, len(priors) - 1]
    score[chosen] = [0.9, 0.8, 0.75]
    faces = decode_faces(loc, score, height, width)
    assert len(faces) == 3
    for face, index in zip(faces, chosen, strict=True):
        # In shares of the picture, as the reference keeps its priors, and back to pixels.
        x, y, size = priors[index]
        cx = x / width + float(loc[index, 0]) * 0.1 * (size / width)
        cy = y / height + float(loc[index, 1]) * 0.1 * (size / height)
        w = size / width * math.exp(float(loc[index, 2]) * 0.2)
        h = size / height * math.exp(float(loc[index, 3]) * 0.2)
        expected = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        assert (face.x, face.y, face.width, face.height) == pytest.approx(expected, rel=1e-6)
        assert face.score == pytest.approx(float(score[index]))


@pytest.mark.parametrize(
    ("loc", "score"),
    [
        (np.zeros((5, 4)), np.zeros(5)),
        (np.full((128, 4), np.nan), np.zeros(128)),
        (np.zeros((128, 4)), np.full(128, np.inf)),
    ],
)
def test_other_shapes_and_numbers_that_are_none_are_errors(loc, score):
    assert len(prior_boxes(48, 64)) == 128
    with pytest.raises(GuardrailError, match="face detector"):
        decode_faces(loc, score, 48, 64)


def test_huge_offsets_do_not_overflow():
    loc = np.full((128, 4), 1e30, np.float32)
    assert all(math.isfinite(f.width) for f in decode_faces(loc, np.ones(128), 48, 64))


def test_suppression_keeps_the_best_of_each_heap():
    rng = np.random.default_rng(2)
    faces = [Face(*rng.uniform(0, 60, 2), *rng.uniform(20, 40, 2), s) for s in rng.random(60)]
    expected: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(overlap(face, kept) <= 0.4 for kept in expected):
            expected.append(face)
    assert suppress(faces) == expected
    assert suppress([]) == []
