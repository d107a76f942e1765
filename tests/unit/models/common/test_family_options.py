"""The generation options of all families, found without their networks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from nemo_cosmos.models.autoregressive.options import AROptions
from nemo_cosmos.models.common import family
from nemo_cosmos.models.diffusion.options import DiffusionOptions


@dataclass(frozen=True)
class FlowOptions:
    speed: float = 1.0


def test_families_of_other_packages_add_theirs(monkeypatch):
    point = EntryPoint("flow", f"{__name__}:FlowOptions", family.OPTIONS_ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: FlowOptions)
    monkeypatch.setattr(family, "entry_points", lambda group: [point])
    assert family.generation_options() == {
        "diffusion": DiffusionOptions,
        "autoregressive": AROptions,
        "flow": FlowOptions,
    }


def test_no_network_is_imported():
    code = (
        "import sys\nfrom nemo_cosmos.models.common.family import generation_options\n"
        "generation_options()\nprint('torch' in sys.modules)"
    )
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "False\n"
