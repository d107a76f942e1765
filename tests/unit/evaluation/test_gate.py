"""A requirement holds only with the whole interval."""

from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.gate import Requirement, failures
from nemo_cosmos.evaluation.statistics import Score

SCORES = {"psnr": Score(23.0, 22.5, 23.5, 8), "lone": Score(1.0, None, None, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnr>22", None),
        ("psnr >= 22.5", None),
        ("psnr<24", None),
        ("psnr<=23.5", None),
        ("psnr>22.8", "is not shown"),
        ("psnr>23.2", "does not hold"),
        ("psnr<23.2", "is not shown"),
        ("psnr<20", "does not hold"),
        ("lone>0", "one video"),
    ],
)
def test_bounds(text, message):
    found = failures([Requirement.parse(text)], SCORES)
    assert (found == []) if message is None else (message in found[0])


@pytest.mark.parametrize("text", ["psnr", "psnr>", ">3", "psnr>x", "psnr=3", "psnr>nan", "a b>1"])
def test_another_form_is_an_error(text):
    with pytest.raises(ConfigError, match="NAME>NUMBER"):
        Requirement.parse(text)


def test_an_unknown_score_is_an_error():
    with pytest.raises(ConfigError, match="nearest are 'psnr'"):
        failures([Requirement.parse("psnrr>1")], SCORES)
