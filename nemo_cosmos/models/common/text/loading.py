"""Build a text encoder from what ``config.json`` stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH, TextEncoder
from nemo_cosmos.models.common.text.embedded import EmbeddedTextEncoder
from nemo_cosmos.models.common.text.t5 import T5TextEncoder
from nemo_cosmos.options import check_record, check_value
from nemo_cosmos.provenance.belonging import same_probe

TEXT_ENCODER_KINDS = ("embedded", "t5")
_KINDS_OF_KEYS: Mapping[str, Any] = {
    "kind": str | None,
    "path": str | None,
    "max_length": int | None,
    "dim": int | None,
    "dtype": str | None,
    "probe": tuple[float, ...] | None,
}


def text_encoder_spec(name: str, max_length: int) -> dict[str, object]:
    """Return the spec of a text encoder by its name.

    Args:
        name: ``"embedded"``, or the folder or hub name of a T5 encoder.
        max_length: largest number of tokens of a text.
    """
    if name == "embedded":
        return {"kind": "embedded", "max_length": max_length}
    return {"kind": "t5", "path": name, "max_length": max_length}


def check_text_encoder_spec(spec: Mapping[str, Any]) -> None:
    """Require the specification of an encoder of ours to be known by every name; nothing is loaded.

    An encoder of another kind, which Python users hand to a pipeline, knows its own names.

    Raises:
        ConfigError: an unknown name, or a value of another type.
    """
    if spec.get("kind") in TEXT_ENCODER_KINDS:
        check_record(spec, "text_encoder", _KINDS_OF_KEYS)
        for name, kind in _KINDS_OF_KEYS.items():
            check_value(f"text_encoder.{name}", spec.get(name), kind)


def load_text_encoder(spec: Mapping[str, Any], device: str | torch.device = "cpu") -> TextEncoder:
    """Build the text encoder that a model was trained with.

    Args:
        spec: ``{"kind", "path", "max_length", "dim", "probe"}``, as :meth:`TextEncoder.spec`
            returns it. Only ``kind`` is required, and ``path`` for ``t5``; ``dim`` and ``probe``
            (what the encoder makes of a known text), where given, are checked.
            ``dtype`` (``t5`` only) is ``float32`` or ``bfloat16``.
        device: device on which ``t5`` runs.

    Raises:
        ConfigError: an unknown kind or key, no path for ``t5``, another ``dim`` than stated, or
            another encoder of the same ``dim``.
        MissingFileError: the weights do not exist.
        AssetError: the embedded weights cannot be fetched.
    """
    kind, path = spec.get("kind"), spec.get("path")
    if kind not in TEXT_ENCODER_KINDS:
        raise ConfigError(
            f"There is no text encoder of kind '{kind}'. The kinds are "
            f"{', '.join(TEXT_ENCODER_KINDS)}."
        )
    check_text_encoder_spec(spec)
    max_length = int(spec.get("max_length") or REFERENCE_MAX_LENGTH)
    encoder: TextEncoder
    if kind == "embedded":
        encoder = EmbeddedTextEncoder(max_length)
    else:
        if not path:
            raise ConfigError(
                "The text encoder 't5' needs a path: a folder, or a hub name such as "
                "'google-t5/t5-11b'. The kind 'embedded' needs none."
            )
        encoder = T5TextEncoder(str(path), max_length, device, spec.get("dtype") or "float32")
    if spec.get("dim") not in (None, encoder.dim):
        raise ConfigError(
            f"The text encoder '{kind}' at '{path}' gives {encoder.dim} channels; the model was "
            f"trained with {spec['dim']}. Name the encoder of the training run."
        )
    probe = spec.get("probe")
    if probe is not None and not same_probe(probe, encoder.probe()):
        raise ConfigError(
            f"The text encoder '{kind}' at '{path}' is another than the one that the model was "
            "trained with: it makes a different embedding of the same text. Put that encoder "
            "there, or write its place into text_encoder.path of the world's config.json."
        )
    return encoder
