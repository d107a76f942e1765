"""A cluster's settings, checked against the fields of a dataclass."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from nemo_cosmos.errors import ConfigError, counted, nearest_names
from nemo_cosmos.launch.job import Job
from nemo_cosmos.options import check_value

SettingsT = TypeVar("SettingsT")

_VARIABLE = re.compile(r"[A-Za-z_]\w*")
#: An image as Docker names it; enroot writes '#' after the registry.
_IMAGE = re.compile(
    r"([\w.-]+(:\d+)?[/#])?[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """The keys of ``conf/cluster/local.yaml`` and ``torchrun.yaml``.

    Attributes:
        env_vars: environment variables of every job.
    """

    env_vars: Mapping[str, str] = field(default_factory=dict)


def read_settings(cls: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Build a cluster's settings from its file.

    Args:
        cls: the dataclass, whose fields are text, numbers, booleans, lists of text, or mappings of
            text; each of them may also be None.
        values: the file's keys, without ``executor``.

    Raises:
        ConfigError: an unknown key, with the nearest ones, or a value of another type.
    """
    hints = get_type_hints(cls)
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]  # any dataclass
    for name in values:
        if name not in known:
            raise ConfigError(
                f"There is no key 'cluster.{name}'; see the cluster's file, and the words that "
                "were kept with 'nemo-cosmos configure'. The nearest are "
                f"{nearest_names(name, known)}."
            )
    return cls(**{name: _read(f"cluster.{name}", values[name], hints[name]) for name in values})


def check_least(settings: object, **least: int) -> None:
    """Refuse numbers that are too small.

    Args:
        settings: a cluster's.
        least: the smallest value of each key.

    Raises:
        ConfigError: names the key.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise ConfigError(f"cluster.{name} is {value}; it must be {smallest} or more.")


def make_job_folder(folder: Path) -> Path:
    """Make the folder of scripts and logs.

    Args:
        folder: what ``cluster.job_dir`` names.

    Returns:
        the folder.

    Raises:
        ConfigError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "you may not write to it"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(
            f"cluster.job_dir is '{folder}', which cannot hold scripts and logs: {reason}. Name a "
            "folder that you may write to and that all machines see."
        )
    return folder


def check_machines(job: Job, max_nodes: int | None, gpus_per_node: int) -> None:
    """Refuse a job that is larger than the cluster.

    Args:
        job: the job.
        max_nodes: the most machines of a job; None for any number.
        gpus_per_node: GPUs of a machine; 0 where none are counted.

    Raises:
        ConfigError: too many machines or devices.
    """
    nodes, devices = job.resources.num_nodes, job.resources.devices_per_node
    if max_nodes is not None and nodes > max_nodes:
        raise ConfigError(
            f"The job '{job.name}' asks for {counted(nodes, 'machine')}; a job has at most "
            f"{max_nodes} here (cluster.max_nodes). Give --nodes, with a layout that fits."
        )
    if 0 < gpus_per_node < devices:
        raise ConfigError(
            f"The job '{job.name}' asks for {counted(devices, 'GPU')} a machine; the cluster's "
            f"machines have {gpus_per_node} (cluster.gpus_per_node). Give --devices, with a layout "
            "that fits."
        )


def check_image(image: str) -> None:
    """Refuse what cannot name an image.

    Args:
        image: the value of ``cluster.container_image``.

    Raises:
        ConfigError: says how a name is written.
    """
    if not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"cluster.container_image is '{image}', which names no image. Write REGISTRY/NAME:TAG, "
            "with NAME in small letters, such as registry.example.com/nemo-cosmos:0.1."
        )


def check_variables(variables: Mapping[str, str]) -> None:
    """Refuse names that no shell takes.

    Raises:
        ConfigError: names the variable.
    """
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(
                f"'{name}' is no name of an environment variable; it must consist of letters, "
                "digits and underscores, and not begin with a digit."
            )


def _read(name: str, value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin is Mapping:
        return _read_mapping(name, value)
    if origin is tuple and value is None:  # a key without a value in YAML
        return ()
    plain = next(k for k in get_args(kind) if k is not NoneType) if origin is UnionType else kind
    _check_text(name, value, plain is str)
    read = check_value(name, value, kind)
    for text in read if isinstance(read, tuple) else (read,):
        _check_text(name, text, False)
    return read


def _read_mapping(name: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r:.80}; it must map names to values.")
    for key, inner in value.items():
        place = f"{name}.{key}"
        if inner is None or isinstance(inner, bool | Mapping | list | tuple):
            raise ConfigError(
                f"{place} is {inner!r:.80}; it must be text or a number. Write it in quotation "
                "marks where it is text, or take it out."
            )
        _check_text(place, inner, False)
    return {str(key): str(inner) for key, inner in value.items()}


def _check_text(name: str, value: Any, wanted: bool) -> None:
    """Refuse a number where text is wanted, and text that would end a line of a script.

    YAML reads 12:00:00 as a number to the base of 60, and 0 as a number.
    """
    if wanted and isinstance(value, int | float):
        raise ConfigError(
            f"{name} is {value!r} ({type(value).__name__}); it must be text. Write it in "
            'quotation marks, such as "12:00:00".'
        )
    if isinstance(value, str) and not value.isprintable():
        raise ConfigError(f"{name} is {value!r:.80}; it must be a single line of printable text.")
