"""The choice of renderer: OpenGL by EGL or OSMesa, else our own.

EGL and OSMesa are system libraries. A failing one may end the process, so each is tried in a
process of its own first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from nemo_cosmos.errors import ConfigError, MissingDependencyError
from nemo_cosmos.platform import has, require
from post_training.rendering.camera import CAMERA_NAME, SUPERSAMPLE
from post_training.rendering.painter import SoftwareRenderer

if TYPE_CHECKING:
    from mujoco import MjData, MjModel

GL_VARIABLE = "MUJOCO_GL"
DEBIAN_PACKAGES = {"egl": "libegl1", "osmesa": "libosmesa6"}
RENDERERS = ("auto", "egl", "osmesa", "software")

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
renderer.close()
"""
_PROBE_TIMEOUT_S = 120
_GL_OFF = "disable"


class Renderer(Protocol):
    """Draws the scene as the camera sees it."""

    name: str

    def render(self, data: MjData) -> np.ndarray:
        """Picture of a state, uint8 ``(H, W, 3)`` RGB."""

    def close(self) -> None:
        """Free its resources."""


class GLRenderer:
    """MuJoCo's OpenGL renderer, drawing large and averaging down.

    Args:
        name: ``egl`` or ``osmesa``.
        model: the compiled scene.
        height: height of the pictures in pixels.
        width: width of the pictures in pixels.
    """

    def __init__(self, name: str, model: MjModel, height: int, width: int) -> None:
        self.name = name
        self._output = (width, height)
        large = (height * SUPERSAMPLE, width * SUPERSAMPLE)
        screen = model.vis.global_
        screen.offheight = max(screen.offheight, large[0])
        screen.offwidth = max(screen.offwidth, large[1])
        self._renderer = require("mujoco").Renderer(model, *large)

    def render(self, data: MjData) -> np.ndarray:
        """Picture of a state, uint8 ``(H, W, 3)`` RGB."""
        self._renderer.update_scene(data, CAMERA_NAME)
        large_HWC = self._renderer.render()
        return cv2.resize(large_HWC, self._output, interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


def choose_renderer(wanted: str = "auto", say: Callable[[str], None] = print) -> str:
    """Find a renderer that works on this machine.

    Args:
        wanted: one of :data:`RENDERERS`; ``auto`` takes the first that works.
        say: gets one paragraph when ``auto`` falls back to the software renderer.

    Returns:
        ``egl``, ``osmesa`` or ``software``.

    Raises:
        ConfigError: an unknown name.
        MissingDependencyError: MuJoCo, or the system library of the renderer asked for, is not
            installed.
    """
    if wanted not in RENDERERS:
        raise ConfigError(
            f"There is no renderer '{wanted}'. The renderers are {', '.join(RENDERERS)}."
        )
    if not has("mujoco"):  # importing it here would fix the choice of OpenGL for this process
        require("mujoco")
    reasons = {}
    for name in DEBIAN_PACKAGES if wanted == "auto" else (wanted,):
        reason = None if name == "software" else _why_not(name)
        if reason is None:
            return name
        reasons[name] = f"{name} ({reason})"
    if wanted != "auto":
        package = DEBIAN_PACKAGES[wanted]
        raise MissingDependencyError(
            f"The renderer '{wanted}' does not work on this machine: {reasons[wanted]}. On Debian "
            f"and Ubuntu, 'apt-get install {package}' brings its library. The renderer 'software' "
            "needs none."
        )
    say(
        f"No OpenGL renderer works here: {'; '.join(reasons.values())}. On Debian and Ubuntu, "
        f"'apt-get install {DEBIAN_PACKAGES['egl']}' or 'apt-get install "
        f"{DEBIAN_PACKAGES['osmesa']}' brings one. Going on with the software renderer, which "
        "draws the same scene without it."
    )
    return "software"


def prepare_environment(name: str) -> None:
    """Tell MuJoCo which OpenGL to load; it looks only once, when it is imported.

    Args:
        name: ``egl``, ``osmesa`` or ``software``.

    Raises:
        ConfigError: MuJoCo is imported already, for another one.
    """
    value = _GL_OFF if name == "software" else name
    if "mujoco" in sys.modules and name != "software" and os.environ.get(GL_VARIABLE) != value:
        raise ConfigError(
            f"MuJoCo is already imported in this process without {GL_VARIABLE}={value}. Set the "
            "variable before Python starts, or use the renderer 'software'."
        )
    if "mujoco" not in sys.modules:
        os.environ[GL_VARIABLE] = value


def make_renderer(name: str, model: MjModel, height: int, width: int) -> Renderer:
    """Build a renderer that :func:`choose_renderer` named, after :func:`prepare_environment`."""
    if name == "software":
        return SoftwareRenderer(model, height, width)
    return GLRenderer(name, model, height, width)


def _why_not(name: str) -> str | None:
    """Render one picture in another process; return None if it works, else the reason."""
    environment = {**os.environ, GL_VARIABLE: name}
    environment.pop("PYOPENGL_PLATFORM", None)  # MuJoCo sets it to fit
    command = [sys.executable, "-c", _PROBE]
    try:
        result = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S} s"
    if result.returncode == 0:
        return None
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"the trial ended with status {result.returncode}"
