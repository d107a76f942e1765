"""Where a video came from: the record beside every generated mp4.

It has hashes, never the prompt itself, so that it can be passed on with the video.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from nemo_cosmos import __version__
from nemo_cosmos.provenance.hashes import array_sha256, text_sha256

FORMAT = "nemo_cosmos.provenance"
VERSION = 1
PACKAGES = ("torch", "megatron-core", "numpy", "av")


def make_record(
    *,
    task: str,
    model: Mapping[str, object],
    prompt: str | None,
    negative_prompt: str | None,
    options: Mapping[str, object],
    given_frames_THWC: np.ndarray | None,
    given_times_s: Sequence[float] | None,
    control: Mapping[str, np.ndarray],
    verdicts: Iterable[Any],
    frames_THWC: np.ndarray,
    fps: float,
    runs: Sequence[Mapping[str, object]] = (),
    views: Sequence[str] = (),
    view_prompts: Mapping[str, str | None] | None = None,
) -> dict[str, object]:
    """Return the record of one generated video, ready for JSON.

    Args:
        task: ``generate``, ``predict`` or ``extend``.
        model: the weights, as ``checkpoint.world.folder.model_record`` describes them.
        prompt: the prompt, of which only the hash is kept.
        negative_prompt: the negative prompt, of which only the hash is kept.
        options: seed, sampler, steps, guidance and the like.
        given_frames_THWC: the frames that were continued.
        given_times_s: when their source shows them, in seconds; None for a source without times.
        control: the control arrays by name.
        verdicts: the verdicts of all guards, each with ``to_dict``.
        frames_THWC: the frames of the returned video; of several cameras one after another.
        fps: frame rate in Hz.
        runs: what each run of the model took, such as its passes; a long video takes several.
        views: names of several cameras, in the order of their frames; none for one.
        view_prompts: the prompt of each camera, where they differ; only hashes are kept.
    """
    num_frames, height, width = frames_THWC.shape[:3]
    return {
        "format": FORMAT,
        "version": VERSION,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "generated_by": "an AI world model",
        "task": task,
        "model": dict(model),
        "prompt_sha256": None if prompt is None else text_sha256(prompt),
        **(
            {
                "view_prompts_sha256": {
                    view: None if words is None else text_sha256(words)
                    for view, words in view_prompts.items()
                }
            }
            if view_prompts
            else {}
        ),
        "negative_prompt_sha256": None if negative_prompt is None else text_sha256(negative_prompt),
        "options": dict(options),
        "given_frames_sha256": (
            None if given_frames_THWC is None else array_sha256(given_frames_THWC)
        ),
        "given_times_s": None if given_times_s is None else list(given_times_s),
        "control_sha256": {name: array_sha256(array) for name, array in control.items()},
        **({"runs": [dict(one) for one in runs]} if runs else {}),
        "guards": [verdict.to_dict() for verdict in verdicts],
        "video": {
            **({"views": list(views)} if views else {}),
            "num_frames": num_frames // max(len(views), 1),
            "height": height,
            "width": width,
            "fps": fps,
            "frames_sha256": array_sha256(frames_THWC),
        },
        "versions": library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a model computes."""
    found = {"nemo_cosmos": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # such as torch built from source in a container
            found[package] = "unknown"
    return found
