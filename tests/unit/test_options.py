"""Options are checked by name, type and range, with one clear error each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import build_options, option, option_fields


@dataclass(frozen=True)
class Choices:
    steps: int = option(35, "Steps.", least=1)
    guidance: float = option(7.0, "Strength.", least=0, most=100)
    fps: float | None = option(None, "Rate.", above=0)
    sampler: str = option("euler", "Way.", choices=("euler", "heun"))
    loud: bool = option(False, "Volume.")
    model: str = "known by the caller"


def test_defaults_and_values_of_numpy_are_taken():
    assert build_options(Choices, {}) == Choices()
    made = build_options(
        Choices, {"steps": np.int64(4), "guidance": 2, "fps": np.float32(0.5)}, model="m"
    )
    assert made == Choices(steps=4, guidance=2.0, fps=0.5, model="m")
    assert isinstance(made.guidance, float) and type(made.steps) is int
    assert [item.name for item in option_fields(Choices)][-1] == "loud"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 2.5}, "steps is 2.5 (float); it must be a whole number"),
        ({"steps": "4"}, "steps is '4' (str)"),
        ({"steps": True}, "steps is True"),
        ({"steps": None}, "steps is None"),
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"guidance": float("nan")}, "guidance is nan; it must be a number, 0 to 100."),
        ({"guidance": "7"}, "must be a number"),
        ({"guidance": 101}, "must be 0 to 100"),
        ({"guidance": float("inf")}, "guidance is inf; it must be a number, 0 to 100."),
        ({"fps": 0}, "fps is 0.0; it must be above 0"),
        ({"sampler": "eular"}, "sampler takes no 'eular'. The nearest are 'euler'"),
        ({"sampler": 3}, "must be text"),
        ({"loud": 1}, "True or False"),
        ({"step": 1}, "no option 'step'. The nearest are 'steps'"),
        ({"model": "other"}, "no option 'model'"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as found:
        build_options(Choices, values)
    assert message in str(found.value)
