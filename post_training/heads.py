"""Heads that let an autoregressive world guess ahead: trained, measured and put beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from nemo_cosmos.checklist import Check, require
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import World, load_world, save_world
from nemo_cosmos.data.loading.latent_dataset import LatentDataset
from nemo_cosmos.data.loading.loader import SampleDraw
from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.models.autoregressive.build import ARWorldNetwork, joined_context
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import expected_codes, grow_tree
from nemo_cosmos.models.autoregressive.heads.acceptance import acceptance_of, count_right
from nemo_cosmos.models.autoregressive.heads.file import HEADS_FILE, SavedHeads, save_heads
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.heads.training import (
    HeadsBatch,
    HeadsTraining,
    train_heads,
)
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.settings import ar_settings
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.outputs import check_apart, check_output_file, check_output_folder

WINDOW = 32
"""Codes at once while the videos are drawn that guesses are measured on."""
SHOWN_NODES = 32
"""The size of the tree that the record tells the use of."""


@dataclass(frozen=True)
class HeadsJob:
    """What to do for a world.

    Attributes:
        training: how its heads are trained.
        batch_size: videos in a step.
        num_measured: videos that the world draws to measure how often guesses are right.
        seed: seed of the order of the data and of these draws.
    """

    training: HeadsTraining = field(default_factory=HeadsTraining)
    batch_size: int = 4
    num_measured: int = 4
    seed: int = 0


def heads_checks(
    world: str | PathLike[str], codes: str | PathLike[str], job: HeadsJob, out: Path | None
) -> list[Check]:
    """Return what to look at before a world is loaded.

    Args:
        world: the world's folder.
        codes: tokenised clips.
        job: what to do.
        out: folder of a new world.
    """
    folder = exported_folder(world)

    def output() -> str:
        if out is None and job.training.trained_layers:
            raise ConfigError(
                f"{job.training.trained_layers} layers of the world are to learn, which makes "
                "another world of it. Name the folder of the new one with --out."
            )
        if out is None:
            return f"'{check_output_file(folder / HEADS_FILE)}' can be written"
        check_apart(out, [world, codes])
        return f"'{check_output_folder(out)}' can be written"

    def network() -> str:
        network = ar_settings(read_config(folder).model).network
        if job.training.trained_layers > network["num_layers"]:
            raise ConfigError(
                f"{job.training.trained_layers} layers cannot learn: the network has "
                f"{network['num_layers']}. Choose 0, which leaves it as it is, or 2, as published."
            )
        return f"{network['num_layers']} layers of width {network['hidden_size']}"

    def clips() -> str:
        return counted(len(LatentDataset([codes], codes=True)), "clip")

    return [Check("output", output), Check("world", network), Check("clips", clips)]


def give_heads(
    world: str | PathLike[str],
    codes: str | PathLike[str],
    job: HeadsJob | None = None,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train heads for a world and write them beside it; returns a record.

    Args:
        world: the world's folder.
        codes: tokenised clips of its tokenizer.
        job: what to do.
        out: folder of a new world with the heads; needed where layers of the world learn, too.
        progress: called after every step.

    Raises:
        ConfigError: the world is of another family, or its layers learn and there is no ``out``.
        CheckpointError, MissingFileError: the world or the data cannot be read.
        SampleError: the codes are another tokenizer's.
    """
    job = job or HeadsJob()
    require(heads_checks(world, codes, job, out))
    given = load_world(world)
    process = ar_settings(given.config.model).process
    net = given.net
    assert isinstance(net, ARWorldNetwork)
    text_length = int(given.config.text_encoder["max_length"])
    dataset = LatentDataset(
        [codes], codes=True, text_length=text_length, controls=given.config.controls
    )
    batches = _batches(dataset, job, net)
    heads, losses = train_heads(net, process, batches, job.training, progress)
    acceptance = _measure(given, heads, batches, job)
    if out is not None:
        save_world(out, net, given.config, given.tokenizer)
    file = save_heads(out or given.folder, SavedHeads(heads, acceptance))
    tree = grow_tree(acceptance, SHOWN_NODES)
    return {
        "file": str(file),
        "heads": heads.num_heads,
        "steps": len(losses),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "acceptance": [sum(rates) for rates in acceptance],
        "expected_codes_a_pass": {str(tree.num_nodes): expected_codes(tree, acceptance)},
    }


def _measure(
    world: World, heads: Heads, batches: Iterator[HeadsBatch], job: HeadsJob
) -> list[list[float]]:
    """Let the world draw videos as it usually does, and see how often guesses are right."""
    net, process = world.net, ar_settings(world.config.model).process
    assert isinstance(net, ARNetwork)
    sampling = Sampling(top_p=process.top_p)
    counts = []
    for number in range(job.num_measured):
        batch = next(batches)
        codes_THW = batch.codes_BTHW[0]
        frames, rows, columns = codes_THW.shape
        grid, seed = (frames, rows, columns), job.seed + number
        given = codes_THW[: min(process.condition_latents, frames - 1)].flatten()
        if not len(given) and not net.config.begin_token:
            given = codes_THW.flatten()[:1]
        window = min(WINDOW, math.prod(grid))
        context, frame = (
            None if value is None else value[:1] for value in (batch.context_BMC, batch.frame_BTE)
        )
        scorer = Scorer(net, grid, spare=window, text_BMC=context, frame_BTE=frame)
        drafts = Drafts("frame", grid, net.config.vocab_size)
        wanted = Job([given], [math.prod(grid)], [seed], sampling)
        (drawn_P,) = decode_jacobi(scorer, wanted, window, drafts).codes
        scorer.cache.clear()
        counts.append(count_right(scorer, heads, drawn_P, len(given), seed, sampling))
    return acceptance_of(counts)


@torch.no_grad()
def _embedded(net: ARWorldNetwork, items: list[dict[str, Any]]) -> HeadsBatch:
    """Codes of one size, and the text and controls as the network sees them."""
    codes_BTHW = torch.stack([item["codes"] for item in items])
    _, frames, rows, columns = codes_BTHW.shape
    device = next(net.parameters()).device
    batch = {
        name: torch.stack([item[name] for item in items]).to(device)
        for name, value in items[0].items()
        if isinstance(value, torch.Tensor) and name != "padding_mask"
    }
    control = net.embed_controls(batch, (frames, rows, columns))
    context = joined_context(net.config, batch.get("t5_text_embeddings"), control)
    return HeadsBatch(codes_BTHW, context, control.frame_BTE)


def _batches(dataset: LatentDataset, job: HeadsJob, net: ARWorldNetwork) -> Iterator[HeadsBatch]:
    """Random batches, each of videos of one size, without an end."""
    generator = torch.Generator().manual_seed(job.seed)
    counts = {bucket: int(count.sum()) for bucket, count in dataset.corpus.counts.items()}
    buckets, weights = list(counts), torch.tensor([float(count) for count in counts.values()])
    while True:
        bucket = buckets[int(torch.multinomial(weights, 1, generator=generator))]
        chosen = torch.randint(counts[bucket], (job.batch_size,), generator=generator).tolist()
        items = [
            dataset[SampleDraw(dataset.corpus.nth(bucket, place), bucket, place)]
            for place in chosen
        ]
        yield _embedded(net, items)
