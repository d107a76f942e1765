from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError, MissingDependencyError
from nemo_cosmos.platform import has
from post_training.rendering import choice
from post_training.rendering.choice import choose_renderer

pytestmark = pytest.mark.skipif(not has("mujoco"), reason="MuJoCo is not installed (extra 'sim')")


def test_without_opengl_the_packages_are_named_and_software_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_PROBE", "raise SystemExit('no such library')")
    said: list[str] = []
    assert choose_renderer("auto", said.append) == "software"
    assert len(said) == 1
    assert "libegl1" in said[0]
    assert "libosmesa6" in said[0]
    assert "no such library" in said[0]
    with pytest.raises(MissingDependencyError, match=r"'osmesa' does not work.*libosmesa6"):
        choose_renderer("osmesa")


def test_a_renderer_that_aborts_its_process_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_PROBE", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(MissingDependencyError, match="ended with status -9"):
        choose_renderer("egl")
    monkeypatch.setattr(choice, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(choice, "_PROBE_TIMEOUT_S", 0.2)
    with pytest.raises(MissingDependencyError, match=r"no answer within 0\.2 s"):
        choose_renderer("egl")


def test_auto_takes_the_first_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'"
    monkeypatch.setattr(choice, "_PROBE", probe)
    assert choose_renderer("auto") == "osmesa"
    with pytest.raises(ConfigError, match="auto, egl, osmesa, software"):
        choose_renderer("vulkan")
