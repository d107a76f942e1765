"""Controls by name: one rule for the data room, the models, the recipes and the command line.

A control is a list of signals and, for each model family, the network that embeds them. To add one,
write a file with a :class:`Control` and register it in your package::

    [project.entry-points."nemo_cosmos.controls"]
    speed = "my_package.speed:SPEED"
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from nemo_cosmos.controls.camera import CAMERA, find_path_fault
from nemo_cosmos.controls.depth import SCENE_DEPTH
from nemo_cosmos.controls.mirror import mirrored_trajectory
from nemo_cosmos.controls.motions import join_motions, mirrored_motions, mirrored_states
from nemo_cosmos.controls.objects import OBJECTS
from nemo_cosmos.controls.rig import LAYOUT, RIG
from nemo_cosmos.controls.signal import Signal
from nemo_cosmos.controls.signal_array import SignalArray
from nemo_cosmos.controls.things import THINGS
from nemo_cosmos.errors import ConfigError, nearest_names

ENTRY_POINT_GROUP = "nemo_cosmos.controls"

BUILT_IN: Mapping[str, str] = {
    "action": "post_training.robotics.signal:ACTION_CONTROL",
    "camera": "post_training.camera.signal:CAMERA_CONTROL",
    "discrete": "post_training.decoder.signal:DISCRETE_CONTROL",
    "driving": "post_training.driving.signal:DRIVING_CONTROL",
    "layout": "post_training.driving.signal:LAYOUT_CONTROL",
    "rig": "post_training.driving.signal:RIG_CONTROL",
}
"""Our own controls, as ``module:object``; they are imported only when they are asked for."""

MAX_ACTION = 1e3
"""No unit in use (m, mm, rad, degrees, an opening of 0 to 1 or 255) gives a larger step."""

TRAJECTORY = Signal(
    "trajectory.npy",
    (SignalArray("trajectory", "frame"),),
    find_path_fault,
    in_picture=mirrored_trajectory,
)
"""The path of a vehicle or a camera: positions (T, 3) in metres, or poses (T, 4, 4)."""

SIGNALS = (
    Signal(
        "action.npy",
        (SignalArray("action", "step", max_abs=MAX_ACTION, join=join_motions),),
        in_picture=mirrored_motions,
    ),
    Signal("state.npy", (SignalArray("state", "frame"),), in_picture=mirrored_states),
    TRAJECTORY,
    CAMERA,
    RIG,
    LAYOUT,
    OBJECTS,
    THINGS,
    SCENE_DEPTH,
)
"""Files whose rows mean the same in every data set."""


@dataclass(frozen=True)
class ControlSpec:
    """Which control a model has, as configurations and world folders record it.

    Attributes:
        name: name of a registered control.
        options: what its embedder is built with, such as the statistics of the actions.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return plain data for ``config.json``."""
        return {"name": self.name, "options": dict(self.options)}


@dataclass(frozen=True)
class Control:
    """A registered control.

    Attributes:
        name: its name in configurations.
        signals: the files that it reads.
        embedders: classes that embed the signals, by model family (``diffusion``,
            ``autoregressive``): the class itself, or ``module:class``, which is imported only when
            a model is built.
        following: the metric that says how well a video follows it; what a model's own control
            gains in it is its sensitivity. A camera's is ``camera_path_error``.
        settle: completes the options that a model is made with, such as a name by its record, so
            that a world folder needs nothing else; None where they are complete.
        signals_of: the signals as a model's options make them; None where they are always the same.
        comparable: what of a model's options must agree with those of other weights, in one form
            for all releases; None for all of them as they are.
    """

    name: str
    signals: tuple[Signal, ...]
    embedders: Mapping[str, str | type[Any]]
    following: str = "motion_following"
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    signals_of: Callable[[Mapping[str, Any]], tuple[Signal, ...]] | None = None
    comparable: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None

    def embedder(self, family: str) -> type[Any]:
        """Return the class that embeds the signals for a model family.

        Raises:
            ConfigError: the control has none for this family.
        """
        if family not in self.embedders:
            raise ConfigError(
                f"The control '{self.name}' cannot steer a model of the family '{family}'; it "
                f"has embedders for "
                f"{', '.join(sorted(self.embedders)) or 'no family'}. Choose another control."
            )
        found = self.embedders[family]
        loaded: type[Any] = _load(found) if isinstance(found, str) else found
        return loaded


def available_controls() -> dict[str, str]:
    """Return the registered controls and where each is defined (``module:object``)."""
    return {**installed(tuple(sys.path)), **BUILT_IN}


@cache
def installed(places: tuple[str, ...]) -> Mapping[str, str]:
    """Return the controls that installed packages register; read once, for it takes 40 ms.

    Args:
        places: where Python looks for packages.
    """
    del places
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def get_control(name: str) -> Control:
    """Return a registered control.

    Raises:
        ConfigError: no installed package registers a control of that name, or what it registers is
            not a control.
    """
    known = available_controls()
    if name not in known:
        raise ConfigError(
            f"There is no control '{name}'. Installed: {nearest_names(name, known)}. A control "
            f"registers itself under the entry point group '{ENTRY_POINT_GROUP}'; install its "
            "package again ('pip install -e .') after you add one."
        )
    control = _load(known[name])
    if not isinstance(control, Control):
        raise ConfigError(
            f"The entry point '{name}' of '{ENTRY_POINT_GROUP}' is {known[name]}, a "
            f"{type(control).__name__}; expected a nemo_cosmos.controls.Control."
        )
    return control


def get_controls(names: Iterable[str]) -> list[Control]:
    """Return several registered controls.

    Raises:
        ConfigError: a name is unknown, or given twice.
    """
    controls: dict[str, Control] = {}
    for name in names:
        if name in controls:
            raise ConfigError(f"The control '{name}' is given twice; give it once.")
        controls[name] = get_control(name)
    return list(controls.values())


def settled(spec: ControlSpec) -> ControlSpec:
    """Return a control's specification with complete options, as world folders hold them.

    Raises:
        ConfigError: the control is unknown, or an option is wrong.
    """
    settle = get_control(spec.name).settle
    options = spec.options if settle is None else settle(spec.options)
    return spec if options is spec.options else replace(spec, options=options)


def comparable_options(spec: ControlSpec) -> Mapping[str, Any]:
    """Return what of a control's options must agree with those of other weights.

    Args:
        spec: the control of a model; one that is not installed is compared as it is.
    """
    control = get_control(spec.name) if spec.name in available_controls() else None
    if control is None or control.comparable is None:
        return spec.options
    return control.comparable(spec.options)


def controls_of(specs: Iterable[ControlSpec]) -> list[Control]:
    """Return the controls of a model, whose signals are as wide as its options say.

    Raises:
        ConfigError: a control is unknown or given twice, or an option is wrong.
    """
    specs = list(specs)
    return [
        control
        if control.signals_of is None
        else replace(control, signals=control.signals_of(spec.options))
        for control, spec in zip(get_controls(spec.name for spec in specs), specs, strict=True)
    ]


def known_signal(suffix: str) -> Signal | None:
    """Return the declared signal of a file; ``None`` for a file that nobody has declared."""
    for signal in SIGNALS:
        if signal.suffix == suffix:
            return signal
    for name in available_controls():
        for signal in get_control(name).signals:
            if signal.suffix == suffix:
                return signal
    return None


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
