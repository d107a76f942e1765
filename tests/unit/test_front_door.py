"""``import nemo_cosmos``: cheap, and yet every verb is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nemo_cosmos


def test_importing_the_package_brings_no_heavy_library():
    script = (
        "import sys, nemo_cosmos; dir(nemo_cosmos); "
        "print([name for name in ('torch', 'nemo', 'numpy', 'av') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", nemo_cosmos.__all__)
def test_every_name_of_the_front_door_opens(name):
    assert getattr(nemo_cosmos, name).__name__ == name
    assert name in dir(nemo_cosmos)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'genrate'"):
        _ = nemo_cosmos.genrate


def test_every_verb_of_the_api_stands_at_the_front_door():
    from nemo_cosmos import api

    assert set(api.__all__) <= set(nemo_cosmos.__all__)


def test_completion_shows_what_people_use():
    assert dir(nemo_cosmos) == sorted([*nemo_cosmos.__all__, "__version__"])
