"""Where the guards' models and lists are: a site's settings, or the environment.

A site sets them in ``conf/guardrails``, under ``guardrails.models``. What it leaves out comes from
the environment; without either, a guard uses what the package ships or fetches. The key of an
endpoint is a secret and comes from the environment only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from nemo_cosmos.options import build_options, option

LLM_KEY_VARIABLE = "NEMO_COSMOS_LLM_GUARD_KEY"


@dataclass(frozen=True)
class GuardSettings:
    """Paths and addresses for the built-in guards; None for the guard's own default.

    Attributes:
        blocklist: folder of the guard ``keywords``.
        languages: codes of the languages that the guard ``language`` lets pass besides those that
            the embedded guards read ("it,nl"), or "any".
        llm_guard_model: folder or hub name of a guarding language model, or its name at the
            endpoint.
        llm_guard_adapter: folder or hub name of Aegis' PEFT adapter.
        llm_guard_url: an OpenAI-compatible endpoint, such as ``http://localhost:8000/v1``.
        video_safety: the reference's ``safety_filter.pt``, for the guard ``siglip``.
        siglip: folder or hub name of the SigLIP that it stands on.
        retinaface: the reference's ``Resnet50_Final.pth``, for the guard ``face_blur``.
    """

    blocklist: str | None = option(None, "Folder of keyword lists.")
    languages: str | None = option(None, "More languages that may pass: codes ('it,nl'), or 'any'.")
    llm_guard_model: str | None = option(None, "Guarding language model: folder, or name.")
    llm_guard_adapter: str | None = option(None, "PEFT adapter of Aegis: folder, or name.")
    llm_guard_url: str | None = option(None, "OpenAI-compatible endpoint of the model.")
    video_safety: str | None = option(None, "Checkpoint of the video content-safety classifier.")
    siglip: str | None = option(None, "SigLIP of that classifier: folder, or name on the hub.")
    retinaface: str | None = option(None, "Checkpoint of RetinaFace on ResNet-50.")

    @classmethod
    def from_site(cls, values: Mapping[str, object]) -> Self:
        """Check a site's settings, and complete them from the environment.

        Args:
            values: settings by name, as in ``guardrails.models``; None leaves one out.

        Raises:
            ConfigError: an unknown name, or a value that is not text.
        """
        given = {name: value for name, value in values.items() if value is not None}
        made = build_options(cls, given)
        names = [item.name for item in fields(cls)]
        return cls(**{name: getattr(made, name) or _from_environment(name) for name in names})

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings of the environment."""
        return cls.from_site({})


def variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"NEMO_COSMOS_{setting.upper()}"


def where_to_set(setting: str) -> str:
    """Return where a setting is set, for messages."""
    return f"guardrails.models.{setting} of the site, or {variable(setting)}"


def _from_environment(setting: str) -> str | None:
    return os.environ.get(variable(setting)) or None
