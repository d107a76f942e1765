"""The check of a cluster, as each rank of its job runs it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.launch.check.measure import machine_name, product_speed
from nemo_cosmos.launch.check.verdicts import Findings, RankFacts, Verdict, judge
from nemo_cosmos.launch.jobs.record import JOB_VARIABLE
from nemo_cosmos.launch.recipe import configure_recipe
from nemo_cosmos.platform.accelerator.facts import read_facts
from nemo_cosmos.platform.accelerator.findings import findings
from nemo_cosmos.platform.accelerator.self_check import check_kernels
from nemo_cosmos.platform.ranks import is_first_process, launched_layout, local_rank

if TYPE_CHECKING:
    import nemo_run as run

RECIPE = "diffusion_nano_text2world"
NUM_STEPS = 10
#: Latents of nine frames of 32 pixels, and captions of the nano model's width.
LATENT_CTHW, TEXT_LC = (16, 3, 4, 4), (3, 512)
FRAMES, SIDE = 9, 32
#: How long a file may take to be seen by all machines.
SHARED_S = 60.0


def check_machines_of_job(site: Mapping[str, Any]) -> list[Verdict]:
    """Check this rank's machine, and with all others the network and a short training.

    Every rank of the job calls it.

    Args:
        site: what :func:`nemo_cosmos.site.compose_site` returned.

    Returns:
        the verdicts, which are whole on the first rank.
    """
    own = facts_of_rank()
    folder = Path(site["storage"]["outputs"]) / f"launch_check-{os.environ.get(JOB_VARIABLE, '0')}"
    found = _train(site, folder.absolute(), own)
    if is_first_process():
        shutil.rmtree(folder, ignore_errors=True)
    return judge(found, NUM_STEPS)


def facts_of_rank() -> RankFacts:
    """Look at this rank's machine: devices, versions, and whether it computes right."""
    facts = read_facts()
    kernels = check_kernels()
    versions = {"driver": facts.driver, "CUDA": facts.torch_cuda, "NCCL": facts.nccl}
    return RankFacts(
        rank=int(os.environ.get("RANK", "0")),
        host=machine_name(),
        device=facts.gpus[local_rank() % len(facts.gpus)].name if facts.gpus else "CPU",
        versions={"torch": torch.__version__, **{k: str(v) for k, v in versions.items() if v}},
        faults=tuple(f"{one.name}: {one.text}" for one in findings(facts) if one.works is False),
        wrong=tuple(check.text for check in kernels if not check.works),
        num_kernels=len(kernels),
        tflop_per_s=product_speed(),
    )


def _train(site: Mapping[str, Any], folder: Path, own: RankFacts) -> Findings:
    """Take the steps; an error is a finding."""
    import fiddle as fdl

    from nemo_cosmos.launch.check.probe import Probe

    probe = Probe(own)
    try:
        _share_data(folder)
        recipe = _recipe(site, folder)
        recipe.trainer.callbacks = [*(recipe.trainer.callbacks or ()), probe]
        fdl.build(recipe)()
    except (NemoCosmosError, OSError, RuntimeError) as error:
        probe.found.error = " ".join(str(error).split())[:500]
    return probe.found


def _recipe(site: Mapping[str, Any], folder: Path) -> run.Partial:
    devices, nodes = launched_layout(1, 1)
    words = [
        f"data.path={folder / 'latents'}",
        "data.micro_batch_size=1",
        f"data.global_batch_size={devices * nodes}",
        f"trainer.max_steps={NUM_STEPS}",
        f"trainer.devices={devices}",
        f"trainer.num_nodes={nodes}",
        "trainer.resilience.check_machine=false",  # it is a verdict here
        f"log.log_dir={folder}",
        "log.name=run",
    ]
    return configure_recipe(RECIPE, words, {**site, "overrides": {}}, post_training=False)


def _share_data(folder: Path) -> None:
    """Write data on the first rank, and wait on all others until they see it."""
    latents = folder / "latents"
    if is_first_process():
        shutil.rmtree(folder, ignore_errors=True)
        _write_latents(latents)
        return
    end_s = time.monotonic() + SHARED_S
    while not (latents / "dataset.json").is_file():
        if time.monotonic() >= end_s:
            raise ConfigError(
                f"{machine_name()} does not see '{latents}', which the first machine wrote. "
                "storage.outputs must be a folder that all machines share."
            )
        time.sleep(0.2)


def _write_latents(folder: Path) -> None:
    """Write a sample of noise for each rank, and a tokenizer of random weights."""
    from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
    from nemo_cosmos.data.schema import ClipRecord
    from nemo_cosmos.data.shards.writer import ShardWriter
    from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
    from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    devices, nodes = launched_layout(1, 1)
    noise = torch.Generator().manual_seed(0)
    with ShardWriter(folder) as writer:
        for number in range(max(8, devices * nodes)):
            record = ClipRecord(
                key=f"s{number}",
                source="noise",
                span_s=(0.0, FRAMES / 10.0),
                fps=10.0,
                num_frames=FRAMES,
                width=SIDE,
                height=SIDE,
                caption="noise",
            )
            latent_CTHW = torch.randn(LATENT_CTHW, generator=noise)
            text_LC = torch.randn(TEXT_LC, generator=noise)
            files = {
                "latent.safetensors": pack_latent(latent_CTHW),
                "t5.safetensors": pack_embedding(text_LC),
            }
            writer.add(record, files)
    VideoTokenizer(TokenizerNetwork(TOKENIZERS["tokenizer_nano_cv4x8x8"])).save(
        folder / "tokenizer"
    )
    description = {
        "tokenizer": "tokenizer",
        "text_encoder": {"kind": "embedded", "path": None, "max_length": 8, "dim": TEXT_LC[1]},
        "window": {"window_frames": FRAMES, "size": [SIDE, SIDE]},
    }
    # The last file: others wait for it.
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
