"""The family's whole road: codes, training, the world folder, and a guarded continuation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from nemo import lightning as nl

from nemo_cosmos.api import finetune, pretrain
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.cli.training.heads import command as heads_command
from nemo_cosmos.data.modules import CodesDataModule, LatentDataModule
from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingFileError,
    SampleError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.inference import WorldPipeline
from nemo_cosmos.models.autoregressive.heads.training import HeadsTraining
from nemo_cosmos.models.autoregressive.model import ARModel
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents
from nemo_cosmos.training.callbacks.samples import SampleVideos
from nemo_cosmos.training.callbacks.world_sampler import WorldSampler
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from post_training.heads import HeadsJob, give_heads
from recipes.presets import list_presets

NUM_STEPS = 20
LEVELS = (5, 5, 3)
NUM_CODES = 75
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 24,
    "ffn_hidden_size": 32,
    "num_attention_heads": 2,
    "num_query_groups": 1,
    "vocab_size": NUM_CODES,
    "max_frames": 4,
    "max_height": 8,
    "max_width": 8,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ar")
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=LEVELS).save(folder / "tokenizer")
    clips = Clips(num_codes=NUM_CODES, num_samples=4)
    return write_latents(folder / "data", clips, tokenizer=folder / "tokenizer")


def arguments(data: Path, folder: Path, name: str, max_steps: int = NUM_STEPS) -> dict[str, Any]:
    samples = SampleVideos(WorldSampler(options={"temperature": 0.0}), every_n_steps=max_steps)
    return {
        "data": CodesDataModule(str(data), micro_batch_size=4, global_batch_size=4, text_length=8),
        "trainer": WorldTrainer(max_steps=max_steps, log_every_n_steps=1, callbacks=[samples]),
        "log": RunLogger(
            name=name,
            log_dir=str(folder),
            tensorboard_enabled=False,
            ckpt=StepCheckpoint(every_n_train_steps=max_steps),
        ),
    }


def model(**changes: Any) -> ARModel:
    from megatron.core.optimizer import OptimizerConfig

    adam = OptimizerConfig(optimizer="adam", lr=1e-2, use_distributed_optimizer=True)
    return ARModel(ARConfig(**{**SIZES, **changes}), optim=nl.MegatronOptimizerModule(config=adam))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return pretrain(model(), **arguments(data, tmp_path_factory.mktemp("runs"), "ar"))


def test_it_trains_samples_and_exports_a_world_folder(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == NUM_STEPS
    assert losses[0] == pytest.approx(np.log(NUM_CODES), rel=0.1), "it begins by knowing nothing"
    assert losses[-1] < 0.7 * losses[0]
    config = read_config(trained / "export")
    assert config.family == "autoregressive"
    assert config.video == {"num_frames": 9, "fps": 10.0, "height": 32, "width": 32}
    assert list(trained.rglob("samples/**/*.mp4"))


def test_post_training_starts_from_it(trained: Path, data: Path, tmp_path: Path) -> None:
    resume = RunResume(restore_config=nl.RestoreConfig(path=str(trained / "export")))
    run = finetune(model(), resume=resume, **arguments(data, tmp_path, "tuned", 1))
    after, before = (load_world(one / "export").net for one in (run, trained))
    assert 0 < (after.output.weight - before.output.weight).abs().max() < 0.05


class Allows:
    name = "allows"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def check(self, x: str | np.ndarray) -> Verdict:
        return Verdict(True, self.name, "safe", "it is a test")


class NoEncoder:
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(prompts), 8, 12), torch.ones(len(prompts), 8)


@pytest.fixture
def pipe(trained: Path, tmp_path: Path) -> WorldPipeline:
    guards = GuardPolicy(
        [Allows("prompt"), Allows("video")], audit=AuditLog(tmp_path / "audit.jsonl")
    )
    return WorldPipeline(load_world(trained / "export"), NoEncoder(), guards)


def test_it_continues_frames_without_a_prompt(pipe: WorldPipeline) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    first = pipe.predict(None, frames, seed=3)
    assert first.video.frames_THWC.shape == (9, 32, 32, 3)
    coupled = pipe.predict(None, frames, seed=3, decoding="coupled")
    assert coupled.provenance["runs"][0]["decoding"] == "coupled"
    plain = pipe.predict(None, frames, seed=3, decoding="plain")
    same = np.array_equal(first.video.frames_THWC, plain.video.frames_THWC)
    assert same, "windows change nothing"
    (run,) = plain.provenance["runs"]
    assert run == {"decoding": "plain", "top_p": 0.9, "passes": 32, "codes": 32}
    (run,) = first.provenance["runs"]
    assert run["decoding"] == "jacobi" and run["codes"] == 32 and run["passes"] <= 32
    assert run["window"] in (1, 16, 32, 48), "auto measures"
    other = pipe.predict(None, frames, seed=4).video.frames_THWC
    assert not np.array_equal(first.video.frames_THWC, other)
    two = pipe.predict(None, frames, num_condition_frames=5, window=4).video.frames_THWC
    assert two.shape == (9, 32, 32, 3)
    with pytest.raises(ConfigError, match="takes no text, so no negative_prompt"):
        pipe.predict(None, frames, negative_prompt="dark")
    with pytest.raises(ConfigError, match="steps is an option of diffusion models"):
        pipe.predict(None, frames, steps=10)
    long = pipe.extend(None, frames, 2, num_condition_frames=1)
    assert long.video.frames_THWC.shape == (17, 32, 32, 3)
    assert len(long.provenance["runs"]) == 2


@pytest.fixture
def guessing(trained: Path, data: Path, tmp_path: Path) -> Path:
    """The world with heads that know little."""
    world = tmp_path / "world"
    shutil.copytree(trained / "export", world)
    job = HeadsJob(HeadsTraining(num_heads=3, num_steps=4), num_measured=2)
    record = give_heads(world, data, job)
    assert record["heads"] == 3 and len(record["acceptance"]) == 3
    return world


def test_heads_change_no_frame_of_a_continuation(
    guessing: Path, pipe: WorldPipeline, trained: Path, tmp_path: Path
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    plain = pipe.predict(None, frames, seed=3, decoding="plain").video.frames_THWC
    for choice in ({"decoding": "medusa"}, {"decoding": "medusa", "window": 7}):
        by_heads = WorldPipeline(load_world(guessing), NoEncoder(), pipe.guards)
        found = by_heads.predict(None, frames, seed=3, **choice)
        assert np.array_equal(found.video.frames_THWC, plain)
        (run,) = found.provenance["runs"]
        assert run["decoding"] == "medusa" and run["heads"] == 3 and run["passes"] <= 32
        assert run["window"] <= choice.get("window", 48)
    drafted = by_heads.predict(None, frames, seed=3, drafts="heads")
    assert np.array_equal(drafted.video.frames_THWC, plain)
    lossy = by_heads.predict(None, frames, seed=3, decoding="medusa", acceptance="typical")
    assert lossy.provenance["runs"][0]["acceptance"] == "typical"
    with pytest.raises(ConfigError, match="changes the distribution"):
        by_heads.predict(None, frames, acceptance="typical")
    with pytest.raises(ConfigError, match="drafts='heads'"):
        by_heads.predict(None, frames, decoding="medusa", drafts="heads")
    bare = WorldPipeline(load_world(trained / "export"), NoEncoder(), pipe.guards)
    with pytest.raises(MissingFileError, match="nemo-cosmos heads"):
        bare.predict(None, frames, decoding="medusa")


def test_the_command_trains_heads_and_looks_first(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = tmp_path / "world"
    shutil.copytree(trained / "export", world)
    with pytest.raises(typer.Exit) as stop:
        heads_command(world, data, layers=3, check=True)
    assert stop.value.exit_code == 2 and not (world / "heads.safetensors").exists()
    capsys.readouterr()
    heads_command(world, data, heads=2, steps=2, measured=1, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["file"] == str(world / "heads.safetensors") and record["steps"] == 2
    assert (world / "heads.safetensors").is_file()


def test_layers_that_learn_with_the_heads_make_another_world(
    guessing: Path, pipe: WorldPipeline, data: Path, tmp_path: Path
) -> None:
    how = HeadsTraining(num_heads=2, num_steps=2, trained_layers=1)
    with pytest.raises(ConfigError, match="--out"):
        give_heads(guessing, data, HeadsJob(how, num_measured=1))
    out = tmp_path / "new"
    record = give_heads(guessing, data, HeadsJob(how, num_measured=1), out=out)
    assert record["file"] == str(out / "heads.safetensors")
    new, old = load_world(out).net, load_world(guessing).net
    assert not torch.equal(new.output.weight, old.output.weight)
    assert torch.equal(new.embedding.weight, old.embedding.weight)
    shutil.copy(out / "heads.safetensors", guessing)
    with pytest.raises(CheckpointError, match="other weights"):
        by_heads = WorldPipeline(load_world(guessing), NoEncoder(), pipe.guards)
        by_heads.predict(None, np.zeros((1, 32, 32, 3), np.uint8), decoding="medusa")


def test_what_it_cannot_do_is_refused(pipe: WorldPipeline, trained: Path) -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="Use 'predict'"):
        pipe.generate("it moves")
    with pytest.raises(WrongFrameCountError, match="more than the 13"):
        pipe.predict(None, frames, num_frames=17)
    with pytest.raises(WrongFrameCountError, match=r"1 \+ 4n"):
        pipe.predict(None, frames, num_frames=8)
    with pytest.raises(WrongSizeError, match=r"height of 704 pixels .* of 8 up to 64"):
        pipe.predict(None, frames, height=704)
    with pytest.raises(WrongSizeError, match="nearest are 32 and 40"):
        pipe.predict(None, frames, width=33)
    with pytest.raises(ConfigError, match="window=49"):
        pipe.predict(None, frames, window=49)
    with pytest.raises(ConfigError, match="takes none"):
        pipe.predict(None, frames, guidance=2.0)
    world = load_world(trained / "export")
    family, settings = get_family("autoregressive"), world.config.model
    with pytest.raises(ConfigError, match="75 codes, but its tokenizer has 0"):
        family.make_generator(world.net, settings, tiny_tokenizer())
    with pytest.raises(ConfigError, match="--tensor-parallel 2"):
        family.build_network(settings, tiny_tokenizer().config, (), dtype=torch.float32, cp=2)


def test_wrong_data_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"codes from \d+ to \d+, but the model's codebook has 0"):
        pretrain(model(vocab_size=20), **arguments(data, tmp_path, "small", 1))
    latents = {"data": LatentDataModule(str(data), text_length=8)}
    with pytest.raises(SampleError, match=r"latent\.safetensors"):
        pretrain(model(), **{**arguments(data, tmp_path, "latents", 1), **latents})
    with pytest.raises(WrongFrameCountError, match="3 latent frames"):
        pretrain(model(max_frames=2), **arguments(data, tmp_path, "long", 1))


def test_the_presets_are_listed() -> None:
    rows = {row["name"]: row for row in list_presets("autoregressive")}
    assert rows["ar_4b"]["parameters"] == 4_014_088_192
    assert rows["ar_13b_video2world"]["task"] == "video2world"
