"""Actions steer an autoregressive model: in the network, in every decoding, on the whole road."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nemo import lightning as nl

from nemo_cosmos.api import finetune, pretrain
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import CodesDataModule
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.inference import WorldPipeline
from nemo_cosmos.models.autoregressive.build import ARWorldNetwork, build_network, joined_context
from nemo_cosmos.models.autoregressive.decoding.coupled import decode_coupled
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi, decode_plain
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.heads.training import HeadsTraining
from nemo_cosmos.models.autoregressive.model import ARModel
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import TokenInput
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from post_training.heads import HeadsJob, give_heads
from tests.unit.models.autoregressive.test_world import Allows, NoEncoder

GRID = (3, 2, 4)
FACTOR = 4
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
ACTION = (ControlSpec("action", {"embodiment": "bridge_7"}),)


@pytest.fixture(scope="module")
def net() -> ARWorldNetwork:
    """A steered network in which every weight matters."""
    ensure_model_parallel()
    config = ARConfig(**SIZES, control_channels=20)
    net = build_network(config, ACTION, TokenizerFacts(FACTOR)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(noise * parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 1 + noise)
    return net


def actions(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"action": torch.randn(1, FACTOR * (GRID[0] - 1), 7, generator=generator)}


def scores(net: ARWorldNetwork, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    control = net.embed_controls(batch, GRID)
    tokens_BL = torch.arange(24)[None]
    places = net.place_table(GRID, torch.device("cpu")).at(torch.arange(24))
    context = joined_context(net.config, None, control)
    return net(TokenInput(tokens_BL, places, context, frame_BTE=control.frame_BTE))[:, 0]


def test_it_starts_exactly_from_the_model_without_actions(net: ARWorldNetwork) -> None:
    fresh = build_network(net.config, ACTION, TokenizerFacts(FACTOR)).requires_grad_(False)
    plain = build_network(ARConfig(**SIZES)).requires_grad_(False)
    fresh.load_state_dict(plain.state_dict(), strict=False)
    tokens_BL = torch.arange(24)[None]
    places = plain.place_table(GRID, torch.device("cpu")).at(torch.arange(24))
    steered, alone = scores(fresh, actions(0)), plain(TokenInput(tokens_BL, places))[:, 0]
    torch.testing.assert_close(steered, alone, rtol=1e-5, atol=1e-6)


def test_what_starts_at_zero_can_learn() -> None:
    ensure_model_parallel()
    fresh = build_network(ARConfig(**SIZES, control_channels=20), ACTION, TokenizerFacts(FACTOR))
    scores(fresh, actions(0)).square().sum().backward()
    last = fresh.controls["action"].context[-1], fresh.controls["action"].frame[-1]
    assert all(bool(layer.weight.grad.any()) for layer in last)


def test_an_action_is_added_where_the_codes_of_its_frame_are_predicted(
    net: ARWorldNetwork,
) -> None:
    before, changed = actions(0), actions(0)
    changed["action"][:, 5] += 1  # the sixth leads to the third latent frame
    one, other = (net.embed_controls(batch, GRID) for batch in (before, changed))
    moved_T = (one.frame_BTE != other.frame_BTE).any(dim=-1)[0]
    assert moved_T.tolist() == [False, False, True]
    assert one.context_BMC.shape == (1, 16, 20) and not one.context_BMC[:, 3:].any()
    next_L = net.place_table(GRID, torch.device("cpu")).next_frame_P
    assert next_L.tolist() == [0] * 7 + [1] * 8 + [2] * 9, "the code behind a token counts"


def test_actions_move_the_codes_and_windows_change_none(net: ARWorldNetwork) -> None:
    job = Job([torch.arange(8)], [24], [5], Sampling(top_p=0.9))
    drawn = []
    for seed in (0, 1):
        control = net.embed_controls(actions(seed), GRID)
        steered = {
            "text_BMC": joined_context(net.config, None, control),
            "frame_BTE": control.frame_BTE,
        }
        plain = decode_plain(Scorer(net, GRID, **steered), job).codes[0]
        drafts = Drafts("frame", GRID, NUM_CODES)
        windows = decode_jacobi(Scorer(net, GRID, spare=6, **steered), job, 6, drafts)
        assert torch.equal(plain, windows.codes[0])
        assert len(decode_coupled(Scorer(net, GRID, spare=6, **steered), job, 6, drafts).codes) == 1
        drawn.append(plain)
    assert not torch.equal(*drawn)


def test_guidance_steers_both_sides(net: ARWorldNetwork) -> None:
    ensure_model_parallel()
    config = ARConfig(**SIZES, context_channels=12, begin_token=True)
    with_text = build_network(config, ACTION, TokenizerFacts(FACTOR)).requires_grad_(False)
    for parameter in with_text.controls.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(1))
    control = with_text.embed_controls(actions(0), GRID)
    text, negative = (
        joined_context(config, value, control)
        for value in (torch.randn(1, 5, 12), torch.zeros(1, 5, 12))
    )
    assert text.shape == (1, 21, 12)
    scorer = Scorer(
        with_text,
        GRID,
        text_BMC=text,
        negative_BMC=negative,
        guidance=2.0,
        frame_BTE=control.frame_BTE,
    )
    logits = scorer.feed(torch.full((1, 1), config.begin_id))
    alone = [
        Scorer(with_text, GRID, text_BMC=one, frame_BTE=control.frame_BTE).feed(
            torch.full((1, 1), config.begin_id)
        )
        for one in (text, negative)
    ]
    torch.testing.assert_close(logits, 3.0 * alone[0] - 2.0 * alone[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "controls", "message"),
    [
        ({}, ACTION, "control_channels=24"),
        ({"control_channels": 20}, (), "the model has none"),
        ({"control_channels": 20}, ACTION * 2, "twice"),
        ({"control_channels": 20}, (ControlSpec("camera"),), "of the family 'autoregressive'"),
        ({"control_channels": 20}, (ControlSpec("action", {"std": [1.0]}),), "std"),
        ({"control_channels": 20, "context_channels": 12}, ACTION, "for a model without text"),
    ],
)
def test_controls_that_do_not_fit_are_refused(
    changes: dict[str, int], controls: tuple[ControlSpec, ...], message: str
) -> None:
    ensure_model_parallel()
    with pytest.raises(ConfigError, match=message):
        found = build_network(ARConfig(**SIZES, **changes), controls, TokenizerFacts(FACTOR))
        joined_context(found.config, None, found.embed_controls({}, GRID))


@pytest.mark.parametrize("batch", [{}, {"action": torch.zeros(1, 7, 7)}])
def test_actions_that_do_not_fit_are_refused(
    net: ARWorldNetwork, batch: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(SampleError, match="action"):
        net.embed_controls(batch, GRID)


def arguments(data: Path, folder: Path, controls: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "data": CodesDataModule(
            str(data), micro_batch_size=4, global_batch_size=4, text_length=8, controls=controls
        ),
        "trainer": WorldTrainer(max_steps=3, log_every_n_steps=1),
        "log": RunLogger(
            name="run",
            log_dir=str(folder),
            tensorboard_enabled=False,
            ckpt=StepCheckpoint(every_n_train_steps=3),
        ),
    }


def model(**changes: Any) -> ARModel:
    from megatron.core.optimizer import OptimizerConfig

    adam = OptimizerConfig(optimizer="adam", lr=1e-2, use_distributed_optimizer=True)
    steered = {"controls": ACTION, "tokenizer": TokenizerFacts(FACTOR)} if changes else {}
    optim = nl.MegatronOptimizerModule(config=adam)
    return ARModel(ARConfig(**SIZES, **changes), optim=optim, **steered)


def test_a_world_learns_to_be_told_and_its_heads_with_it(tmp_path: Path) -> None:
    """Post-training adds the control to a world without; the world then takes actions."""
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=(5, 5, 3)).save(tmp_path / "tokenizer")
    clips = Clips(num_codes=NUM_CODES, num_samples=4, with_actions=True)
    data = write_latents(tmp_path / "data", clips, tokenizer=tmp_path / "tokenizer")
    torch.manual_seed(0)
    before = pretrain(model(), **arguments(data, tmp_path / "before")) / "export"
    resume = RunResume(restore_config=nl.RestoreConfig(path=str(before)))
    steered = model(control_channels=20)
    after = finetune(steered, resume=resume, **arguments(data, tmp_path / "after", ("action",)))
    world = tmp_path / "world"
    shutil.copytree(after / "export", world)
    record = give_heads(world, data, HeadsJob(HeadsTraining(2, 2), num_measured=1))
    assert record["heads"] == 2
    found = load_world(world)
    assert [spec.name for spec in found.config.controls] == ["action"]
    assert found.net.controls["action"].frame[-1].weight.any(), "it has begun to listen"
    for parameter in found.net.controls.parameters():
        parameter.requires_grad_(False).mul_(30.0)  # and is made to hear
    guards = GuardPolicy([Allows("prompt"), Allows("video")], audit=AuditLog(tmp_path / "audit"))
    pipe = WorldPipeline(found, NoEncoder(), guards)
    frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    told = [np.full((8, 7), value, np.float32) for value in (0.0, 1.0)]
    videos = [
        [
            pipe.predict(None, frames, seed=3, control={"action": one}, decoding=decoding)
            for decoding in ("plain", "jacobi", "medusa")
        ]
        for one in told
    ]
    shown = [[made.video.frames_THWC for made in row] for row in videos]
    assert all(np.array_equal(row[0], other) for row in shown for other in row[1:])
    assert not np.array_equal(shown[0][0], shown[1][0]), "other actions, another video"
    with pytest.raises(Exception, match="action"):
        pipe.predict(None, frames, seed=3)
    with pytest.raises(ConfigError, match="steered by the control 'action'"):
        resume = RunResume(restore_config=nl.RestoreConfig(path=str(world)))
        finetune(model(), resume=resume, **arguments(data, tmp_path / "lost"))
