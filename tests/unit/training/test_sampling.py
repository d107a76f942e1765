"""Videos that a model makes while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo_cosmos import api
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.errors import MissingFileError, NumericsError
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.generator import DiffusionGenerator
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.testing.tiny import Clips, tiny_network, write_latents
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.callbacks.samples import SampleVideos
from nemo_cosmos.training.callbacks.world_sampler import WorldSampler
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.video import decode

CLIPS = Clips(with_actions=True, width=48)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    return write_latents(tmp_path_factory.mktemp("data"), CLIPS)


def train(folder: Path, data: Path, samples: SampleVideos | None, **network: Any) -> Path:
    controls = () if network else ("action",)
    return api.pretrain(
        model=DiffusionModel(
            tiny_network(**network),
            controls=[ControlSpec(name) for name in controls],
            tokenizer=TokenizerFacts(temporal_factor=CLIPS.temporal_factor),
        ),
        data=LatentDataModule(
            str(data), micro_batch_size=2, global_batch_size=2, text_length=5, controls=controls
        ),
        trainer=WorldTrainer(
            max_steps=3,
            log_every_n_steps=1,
            callbacks=[EMA(decay=0.5), *([] if samples is None else [samples])],
        ),
        log=RunLogger(name="run", log_dir=str(folder)),
    )


def sampling(every_n_steps: int = 2) -> SampleVideos:
    return SampleVideos(WorldSampler(num_videos=2, options={"steps": 2}), every_n_steps)


@pytest.mark.parametrize("network", [{}, {"condition_mask": False}])
def test_a_run_shows_what_its_model_makes_and_trains_the_same(data, tmp_path, monkeypatch, network):
    shots, generate = [], DiffusionGenerator.generate

    def recording(self, shot, progress=None):
        shots.append(shot)
        return generate(self, shot, progress)

    monkeypatch.setattr(DiffusionGenerator, "generate", recording)
    run = train(tmp_path / "with", data, sampling(), **network)
    files = sorted(file.relative_to(run / "samples") for file in run.glob("samples/*/*"))
    names = ["0_s0.mp4", "1_s4.mp4"]
    assert [str(file) for file in files] == [
        f"step={step:06d}/{name}" for step in (2, 3) for name in names
    ]
    video = decode(run / "samples" / files[0])
    assert video.frames_THWC.shape == (9, 32, 2 * 48, 3), "the data's beside the model's"
    assert video.fps == 10.0
    assert {(0 if shot.given_BCTHW is None else shot.given_BCTHW.shape[2]) for shot in shots} == {
        int(network.get("condition_mask", True))
    }
    assert all(set(shot.controls) == (set() if network else {"action"}) for shot in shots)
    events = EventAccumulator(str(run / "tensorboard"), {"images": 0}).Reload()
    assert len(events.Images("samples/0_s0")) == 2

    plain = train(tmp_path / "without", data, None, **network)
    losses = [[line["loss"] for line in read_curves(folder)] for folder in (run, plain)]
    assert losses[0] == losses[1]
    for name, weight in load_file(run / "export" / "model.safetensors").items():
        assert torch.equal(weight, load_file(plain / "export" / "model.safetensors")[name])


def test_sampling_is_off_at_zero(data, tmp_path):
    assert not (train(tmp_path, data, sampling(0)) / "samples").exists()


def test_what_cannot_be_sampled_is_a_warning(data, tmp_path, caplog):
    def sampler(model: Any) -> dict[str, Any]:
        raise NumericsError("The sample holds NaN.")

    run = train(tmp_path, data, SampleVideos(sampler, every_n_steps=2))
    assert not (run / "samples").exists()
    assert "Training makes no sample videos: The sample holds NaN." in caplog.text
    assert len(read_curves(run)) == 3


def test_latents_whose_tokenizer_lost_its_weights_are_refused_before_training(tmp_path):
    """The world could not be exported: its tokenizer goes with it."""
    folder = write_latents(tmp_path / "data", CLIPS)
    (folder / "tokenizer" / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"model\.safetensors"):
        train(tmp_path, folder, sampling())
    assert not list(tmp_path.glob("run/checkpoints/*"))
