"""Guards by name: the built-in ones, and those that installed packages add.

A package adds a guard with one file and an entry point in the group ``nemo_cosmos.guards``::

    [project.entry-points."nemo_cosmos.guards"]
    my_guard = "my_package.my_guard:MyGuard"

The object is called without arguments and returns a :class:`~nemo_cosmos.guardrails.base.Guard` or
:class:`~nemo_cosmos.guardrails.base.VideoFilter`. An installed guard is active by default. One that
cannot be loaded refuses everything until it is repaired, uninstalled or disabled by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.guardrails.base import BrokenGuard, Guard, GuardKind, VideoFilter
from nemo_cosmos.guardrails.settings import GuardSettings

ENTRY_POINT_GROUP = "nemo_cosmos.guards"


@dataclass(frozen=True)
class BuiltinGuard:
    """A guard that comes with nemo_cosmos.

    Attributes:
        target: ``module:callable``, imported when the guard is built.
        kind: what it looks at.
        default: whether it is active unless disabled by name; the others are enabled by name.
        settings: arguments of the callable, each with the field of :class:`GuardSettings` that it
            takes.
    """

    target: str
    kind: GuardKind
    default: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)


_LLM_SETTINGS = {
    "model": "llm_guard_model",
    "adapter": "llm_guard_adapter",
    "url": "llm_guard_url",
}

BUILTIN_GUARDS: dict[str, BuiltinGuard] = {
    "keywords": BuiltinGuard(
        "nemo_cosmos.guardrails.text.keywords:KeywordGuard",
        "prompt",
        settings={"folder": "blocklist"},
    ),
    "text_classifier": BuiltinGuard(
        "nemo_cosmos.guardrails.text.text_classifier:TextClassifierGuard", "prompt"
    ),
    "language": BuiltinGuard(
        "nemo_cosmos.guardrails.text.language:LanguageGuard",
        "prompt",
        settings={"languages": "languages"},
    ),
    "aegis": BuiltinGuard(
        "nemo_cosmos.guardrails.text.llm_guard:build_aegis", "prompt", False, _LLM_SETTINGS
    ),
    "llama_guard": BuiltinGuard(
        "nemo_cosmos.guardrails.text.llm_guard:build_llama_guard", "prompt", False, _LLM_SETTINGS
    ),
    "qwen3guard": BuiltinGuard(
        "nemo_cosmos.guardrails.text.llm_guard:build_qwen3guard", "prompt", False, _LLM_SETTINGS
    ),
    "video_classifier": BuiltinGuard(
        "nemo_cosmos.guardrails.video.video_classifier:VideoClassifierGuard", "video"
    ),
    "siglip": BuiltinGuard(
        "nemo_cosmos.guardrails.video.siglip_guard:SiglipGuard",
        "video",
        default=False,
        settings={"checkpoint": "video_safety", "siglip": "siglip"},
    ),
    "face_blur": BuiltinGuard(
        "nemo_cosmos.guardrails.faces.face_blur:FaceBlur",
        "filter",
        settings={"retinaface": "retinaface"},
    ),
    "watermark": BuiltinGuard(
        "nemo_cosmos.guardrails.video.watermark:WatermarkFilter", "filter", default=False
    ),
}


def guard_names() -> list[str]:
    """Return the names of all known guards, built-in ones first."""
    plugged = [point.name for point in _plugins() if point.name not in BUILTIN_GUARDS]
    return [*BUILTIN_GUARDS, *sorted(plugged)]


def build_guard(name: str, settings: GuardSettings | None = None) -> Guard | VideoFilter:
    """Build a guard by name; one that cannot be built becomes a guard that refuses everything.

    Args:
        name: the guard's name.
        settings: where its models are; by default what the environment names.

    Raises:
        ConfigError: there is no guard of that name.
    """
    builtin = BUILTIN_GUARDS.get(name)
    points = {point.name: point for point in _plugins()}
    if builtin is None and name not in points:
        raise unknown_guard(name)
    settings = settings if settings is not None else GuardSettings.from_environment()
    try:
        if builtin is not None:
            module, _, attribute = builtin.target.partition(":")
            arguments = {name: getattr(settings, item) for name, item in builtin.settings.items()}
            built = getattr(importlib.import_module(module), attribute)(**arguments)
        else:
            built = points[name].load()()
        if not isinstance(built, Guard | VideoFilter):
            raise TypeError(f"'{name}' built a {type(built).__name__}, which is not a guard")
    except Exception as error:  # noqa: BLE001  failing closed: a guard that cannot load refuses
        # A broken plug-in's kind is unknown; refusing prompts stops everything at the door.
        return BrokenGuard(name, builtin.kind if builtin else "prompt", error)
    return built


def default_guards() -> list[str]:
    """Return the names of the guards that are active unless disabled by name."""
    return [name for name in guard_names() if name not in BUILTIN_GUARDS or _is_default(name)]


def unknown_guard(name: str) -> ConfigError:
    """Return the error for a name that no guard has."""
    known = guard_names()
    return ConfigError(
        f"There is no guard '{name}'. The nearest are {nearest_names(name, known)}; "
        f"all guards: {', '.join(known)}."
    )


def _is_default(name: str) -> bool:
    return BUILTIN_GUARDS[name].default


def _plugins() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINT_GROUP))
