"""The diffusion decoder: its embedder, its training data, and the road from codes to pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nemo import lightning as nl

from nemo_cosmos.api import pretrain
from nemo_cosmos.checkpoint.world.folder import World, load_world
from nemo_cosmos.cli.data.decoder_codes import codes as codes_command
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.inference.diffusion_decoder import DiffusionDecoder
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.testing.tiny import Clips, tiny_network, tiny_tokenizer, write_latents, write_world
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from post_training.decoder.data import add_codes
from post_training.decoder.embedder import CodesEmbedder

NUM_CODES = 75
LEVELS = (5, 5, 3)


def test_codes_become_channels_scaled_bilinearly() -> None:
    embedder = CodesEmbedder(8, width=3)
    codes_BTHW = torch.arange(4).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    made = embedder({"discrete": codes_BTHW.float()}, (1, 16, 2, 4, 4)).latent_channels_BCTHW
    assert made.shape == (1, 3, 2, 4, 4) and embedder.num_latent_channels == 3
    table = embedder.embedding.weight
    torch.testing.assert_close(made[0, :, 1, 0, 0], table[0])
    torch.testing.assert_close(made[0, :, 1, 3, 3], table[3])
    # Halves of a pixel: the second of four columns is a quarter of the way to the other code.
    torch.testing.assert_close(made[0, :, 0, 0, 1], 0.75 * table[0] + 0.25 * table[1])
    same = embedder({"discrete": codes_BTHW}, (1, 16, 2, 2, 2)).latent_channels_BCTHW
    torch.testing.assert_close(same[0, :, 0, 1, 0], table[2])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (None, "dataset codes"),
        (torch.zeros(1, 3, 2, 2), "latents have 2 frames"),
        (torch.full((1, 2, 2, 2), 8.0), "outside the codebook of 8"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes: torch.Tensor | None, message: str) -> None:
    batch = {} if codes is None else {"discrete": codes}
    with pytest.raises(SampleError, match=message):
        CodesEmbedder(8)(batch, (1, 16, 2, 4, 4))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    write_latents(folder / "latents", Clips(num_samples=4))
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=LEVELS).save(folder / "discrete")
    clips = Clips(num_samples=4, num_codes=NUM_CODES)
    write_latents(folder / "codes", clips, tokenizer=folder / "discrete")
    assert add_codes(folder / "latents", folder / "codes", folder / "both") == 4
    return folder


@pytest.fixture(scope="module")
def world(data: Path) -> World:
    """A decoder that was trained for a few steps."""
    from megatron.core.optimizer import OptimizerConfig

    adam = OptimizerConfig(optimizer="adam", lr=1e-2, use_distributed_optimizer=True)
    conditioning = ConditioningConfig(text_dropout=1.0, control_dropout=0.1)
    model = DiffusionModel(
        tiny_network(condition_mask=False, control_channels=6),
        DiffusionConfig(conditioning=conditioning),
        nl.MegatronOptimizerModule(config=adam),
        controls=[ControlSpec("discrete", {"num_codes": NUM_CODES, "width": 6})],
        tokenizer=TokenizerFacts(4, 8),
    )
    run = pretrain(
        model,
        data=LatentDataModule(
            str(data / "both"),
            micro_batch_size=4,
            global_batch_size=4,
            text_length=8,
            controls=["discrete"],
        ),
        trainer=WorldTrainer(max_steps=6, log_every_n_steps=1),
        log=RunLogger(name="run", log_dir=str(data), tensorboard_enabled=False),
    )
    return load_world(run / "export")


def test_long_codes_are_decoded_in_chunks(world: World) -> None:
    tokenizer = tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=LEVELS)
    decoder = DiffusionDecoder(tokenizer, world)
    generator = torch.Generator().manual_seed(0)
    codes_BTHW = torch.randint(NUM_CODES, (1, 5, 4, 4), generator=generator)
    video = decoder.decode(codes_BTHW)
    assert video.shape == (1, 3, 17, 32, 32), "three chunks of 9 frames that share 5"
    assert torch.equal(decoder.decode(codes_BTHW), video), "its noise is fixed"
    first = decoder.decode(codes_BTHW[:, :3])
    assert torch.equal(video[:, :, :4], first[:, :, :4]), "what no other chunk shares"
    other = codes_BTHW.clone()
    other[:, 4] = (other[:, 4] + 7) % NUM_CODES
    moved = (decoder.decode(other) - video).abs().amax((0, 1, 3, 4))
    assert moved[-1] > 0 and not moved[:8].any(), "the last chunk alone sees these codes"


def test_what_cannot_be_decoded_is_refused(world: World, tmp_path: Path) -> None:
    small = tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=(5, 5))
    with pytest.raises(ConfigError, match="tokenizer of 75, but this world's has 25"):
        DiffusionDecoder(small, world)
    with pytest.raises(ConfigError, match="continuous"):
        DiffusionDecoder(tiny_tokenizer(), world)
    with pytest.raises(ConfigError, match="decodes no codes"):
        plain = load_world(write_world(tmp_path / "plain"))
        DiffusionDecoder(tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=LEVELS), plain)


def test_the_command_joins_and_says_what_lacks(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes_command(data / "latents", data / "codes", tmp_path / "both", as_json=True)
    assert json.loads(capsys.readouterr().out)["samples"] == 4
    more = write_latents(tmp_path / "more", Clips(num_samples=5))
    with pytest.raises(SampleError, match=r"s4.*has no codes"):
        codes_command(more, data / "codes", tmp_path / "other")
    assert not (tmp_path / "other" / "dataset.json").exists()


def test_a_world_is_decoded_by_it(world: World, data: Path, tmp_path: Path) -> None:
    """The pipeline of an autoregressive world takes its pixels from the decoder."""
    from nemo_cosmos.data.modules import CodesDataModule
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.guardrails.audit import AuditLog
    from nemo_cosmos.inference import WorldPipeline
    from nemo_cosmos.models.autoregressive.model import ARModel
    from nemo_cosmos.models.autoregressive.network.config import ARConfig
    from tests.unit.models.autoregressive.test_controls import SIZES
    from tests.unit.models.autoregressive.test_world import Allows, NoEncoder

    codes = CodesDataModule(
        str(data / "codes"), micro_batch_size=4, global_batch_size=4, text_length=8
    )
    settings: dict[str, Any] = {
        "data": codes,
        "trainer": WorldTrainer(max_steps=1),
        "log": RunLogger(name="ar", log_dir=str(tmp_path), tensorboard_enabled=False),
    }
    drawn = load_world(pretrain(ARModel(ARConfig(**SIZES)), **settings) / "export")
    guards = GuardPolicy([Allows("prompt"), Allows("video")], audit=AuditLog(tmp_path / "audit"))
    frames = torch.zeros(1, 32, 32, 3, dtype=torch.uint8).numpy()
    made = [
        WorldPipeline(drawn, NoEncoder(), guards, decoder).predict(None, frames, seed=1)
        for decoder in (None, world)
    ]
    assert made[0].video.frames_THWC.shape == made[1].video.frames_THWC.shape
    assert (made[0].video.frames_THWC != made[1].video.frames_THWC).any()
    assert made[1].provenance["model"]["diffusion_decoder"], "the record names it"
    assert made[0].provenance["runs"][0]["codes"] == made[1].provenance["runs"][0]["codes"]
