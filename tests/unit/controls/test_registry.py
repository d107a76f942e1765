"""Controls are found by name, ours and those of other packages, by one rule for all rooms."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nemo_cosmos.controls import (
    Control,
    Signal,
    SignalArray,
    available_controls,
    get_control,
    get_controls,
    known_signal,
    registry,
)
from nemo_cosmos.errors import ConfigError

WIND = Control("wind", (Signal("wind.npy", (SignalArray("wind", "frame", (2,)),)),), {})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of somebody else's that registers a control, and one that is broken."""
    found = {"wind": f"{__name__}:WIND", "broken": "json:dumps"}
    monkeypatch.setattr(registry, "installed", lambda places: found)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def test_action_is_built_in() -> None:
    assert available_controls()["action"] == registry.BUILT_IN["action"]
    (signal,) = get_control("action").signals
    assert signal.suffix == "action.npy" and signal.time_axes == {"action": "step"}


@pytest.mark.usefixtures("installed")
def test_another_packages_control_is_found_with_its_signal() -> None:
    assert get_control("wind") is WIND
    assert [control.name for control in get_controls(["wind", "action"])] == ["wind", "action"]


def test_unknown_names_raise_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no control 'acton'.*'action'"):
        get_control("acton")


def test_a_name_given_twice() -> None:
    with pytest.raises(ConfigError, match="'action' is given twice"):
        get_controls(["action", "action"])


@pytest.mark.usefixtures("installed")
def test_an_entry_point_that_is_no_control() -> None:
    with pytest.raises(ConfigError, match="json:dumps, a function; expected"):
        get_control("broken")


@pytest.mark.usefixtures("installed")
def test_a_family_that_a_control_has_no_embedder_for() -> None:
    with pytest.raises(ConfigError, match="'wind' cannot steer a model of the family 'diffusion'"):
        get_control("wind").embedder("diffusion")


def test_signals_of_known_files() -> None:
    known = known_signal("state.npy")
    assert known is not None and known.time_axes == {"state": "frame"}
    assert known_signal("unheard_of.npz") is None


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_controls_signals_agree_with_the_known_files(name: str) -> None:
    for signal in get_control(name).signals:
        known = known_signal(signal.suffix)
        assert known is not None and known.time_axes == signal.time_axes


def test_reading_a_signal_needs_no_torch() -> None:
    code = (
        "import sys; from nemo_cosmos.controls import get_control; get_control('action'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
