"""What a generation looks at before weights are loaded: the output, the world, the request, room.

The request is checked against the world's network without memory (torch's meta device), so that
an illegal length, a missing control or a wrong number of rows costs seconds, also with 14B weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from os import PathLike
from pathlib import Path

import torch

from nemo_cosmos.checklist import Check
from nemo_cosmos.checkpoint.adapters.merged import Weighted, adapted_config, merge_adapters
from nemo_cosmos.checkpoint.formats.tensors import named_tensors
from nemo_cosmos.checkpoint.world.config import (
    TOKENIZER_FOLDER,
    WorldConfig,
    read_config,
)
from nemo_cosmos.checkpoint.world.folder import check_tokenizer, check_weights, meta_network
from nemo_cosmos.controls import controls_of
from nemo_cosmos.errors import counted
from nemo_cosmos.inference.completion import check_request
from nemo_cosmos.inference.request import CheckedRequest, Request
from nemo_cosmos.inference.result import check_output
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Generator
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer, read_tokenizer_config
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.outputs import check_room

BYTES_PER_PIXEL = 0.5
"""Of an mp4 at our quality, at most, with its provenance."""


def generation_checks(
    world: str | PathLike[str],
    request: Callable[[], Request],
    out: str | PathLike[str],
    *,
    whole: bool = False,
    allow_mismatch: Collection[str] = (),
    adapters: Sequence[Weighted] = (),
) -> list[Check]:
    """Return what to look at before a world is loaded.

    Args:
        world: the world's folder, or that of the run that exported it.
        request: makes the request, which may be refused.
        out: the mp4 to write.
        whole: whether to look at what loading finds out in its first seconds, too: the names and
            shapes of all weights, and the tokenizer.
        allow_mismatch: kinds of difference between the world's parts that are meant.
        adapters: what is put on the world.
    """
    folder = exported_folder(world)
    own = cache(lambda: read_config(folder))
    made, config = cache(request), cache(lambda: adapted_config(folder, adapters))
    checked = cache(lambda: fit_request(made(), config(), folder / TOKENIZER_FOLDER))

    def output() -> str:
        return f"'{check_output(out)}' can be written"

    def describe_world() -> str:
        found = config()
        return f"'{folder}', {found.preset or 'a model of its own size'}"

    def describe_request() -> str:
        found = checked()
        height, width = found.size_hw
        frames = f"{counted(found.total_frames, 'frame')} of {width}x{height} at {found.fps:g} fps"
        given = found.num_given
        return f"{frames}, {given} of them given" if given else frames

    def room() -> str:
        found = checked()
        pixels = found.total_frames * found.size_hw[0] * found.size_hw[1]
        return check_room(out, pixels * BYTES_PER_PIXEL, "video and its provenance")

    checks = [Check("output", output), Check("world", describe_world)]
    if whole:
        checks.append(Check("weights", lambda: look_at_weights(own(), folder, allow_mismatch)))
    if whole and adapters:
        checks.append(Check("adapters", lambda: _look_at(folder, adapters, allow_mismatch)))
    return [*checks, Check("request", describe_request), Check("room", room)]


def _look_at(folder: Path, adapters: Sequence[Weighted], allow_mismatch: Collection[str]) -> str:
    merged = merge_adapters(folder, adapters, allow_mismatch)
    return "; ".join(one.words() for one in merged.applied)


def look_at_weights(config: WorldConfig, folder: Path, allow_mismatch: Collection[str] = ()) -> str:
    """Compare names and shapes of all weights, and the tokenizer, with a world's description.

    Args:
        config: the description.
        folder: the world's folder.
        allow_mismatch: kinds of difference between the world's parts that are meant.

    Returns:
        what was found, in a few words.

    Raises:
        CheckpointError: they differ.
        ConfigError: the tokenizer is another one.
    """
    tokenizer = VideoTokenizer.from_folder(folder / TOKENIZER_FOLDER)
    check_tokenizer(config, tokenizer, folder, allow_mismatch)
    net = check_weights(config, tokenizer.config, folder)
    return f"{counted(len(named_tensors(net)), 'tensor')}, and the tokenizer of their training"


def fit_request(
    request: Request, config: WorldConfig, tokenizer_folder: str | PathLike[str]
) -> CheckedRequest:
    """Check a request against a world that is not loaded; given frames are not decoded.

    Args:
        request: the request.
        config: the world's description.
        tokenizer_folder: the world's tokenizer.

    Raises:
        InputError: as :func:`check_request`.
        CheckpointError: a description is damaged.
    """
    generator = meta_generator(config, tokenizer_folder)
    controls = controls_of(config.controls)
    signals = {signal.name: signal for control in controls for signal in control.signals}
    return check_request(request, generator, config.video, signals, decode=False)


def meta_generator(config: WorldConfig, tokenizer_folder: str | PathLike[str]) -> Generator:
    """Return a world's generator without weights: it knows what it takes and makes nothing.

    Args:
        config: the world's description.
        tokenizer_folder: the world's tokenizer.

    Raises:
        CheckpointError: a description is damaged.
    """
    described = read_tokenizer_config(tokenizer_folder)
    with torch.device("meta"):
        tokenizer = VideoTokenizer(TokenizerNetwork(described))
    net = meta_network(config, described)
    folder = Path(tokenizer_folder).parent
    return get_family(config.family).make_generator(net, config.model, tokenizer, folder)
