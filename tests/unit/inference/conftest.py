"""A complete world model of the smallest size, with real parts but for the text encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import save_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import PromptError
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.family import DiffusionSettings
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import ensure_model_parallel

TEXT_LENGTH, TEXT_DIM = 6, 12


class WordEncoder:
    """One random but fixed vector a word."""

    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings = torch.zeros(len(prompts), TEXT_LENGTH, TEXT_DIM)
        mask = torch.zeros(len(prompts), TEXT_LENGTH)
        for row, prompt in enumerate(prompts):
            words = prompt.split()
            if len(words) > TEXT_LENGTH:
                raise PromptError(f"{len(words)} words are more than {TEXT_LENGTH}.")
            for place, word in enumerate(words):
                generator = torch.Generator().manual_seed(sum(map(ord, word)))
                embeddings[row, place] = torch.randn(TEXT_DIM, generator=generator)
                mask[row, place] = 1
        return embeddings, mask


class NoKnives:
    """Refuses prompts about knives."""

    name, kind = "no_knives", "prompt"

    def check(self, x: str | np.ndarray) -> Verdict:
        return Verdict("knife" not in x, self.name, "violence", "it is about a knife")


class DarkenFirstRow:
    """A filter whose work is easy to see."""

    name, kind = "darken", "filter"

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        frames_THWC[:, 0] = 0
        return frames_THWC, Verdict(True, self.name, "safe", "first row is black")


@pytest.fixture
def word_encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def guards(tmp_path: Path) -> GuardPolicy:
    return GuardPolicy([NoKnives(), DarkenFirstRow()], audit=AuditLog(tmp_path / "audit.jsonl"))


def build_world(folder: Path, *, task: str = "video2world", control: str | None = None) -> Path:
    """Write a world folder of random weights; 9 frames of 32x48 pixels."""
    ensure_model_parallel()
    torch.manual_seed(0)
    takes_frames = task == "video2world"
    config = DiTConfig(
        num_layers=2,
        hidden_size=48,
        num_attention_heads=2,
        crossattn_emb_channels=TEXT_DIM,
        adaln_lora_dim=8,
        max_frames=4,
        max_height=16,
        max_width=16,
        condition_mask=takes_frames,
        layer_spec="local",
    )
    process = DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=2 if takes_frames else 0)
    )
    controls = () if control is None else (ControlSpec(control),)
    net = build_network(config, process, controls, TokenizerFacts(temporal_factor=4))
    for parameter in net.parameters():  # the published initialisation starts from zero output
        torch.nn.init.normal_(parameter, std=0.1)
    tokenizer_config = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8, num_res_blocks=1)
    world = WorldConfig(
        family="diffusion",
        model=DiffusionSettings(config.architecture(), process),
        text_encoder={"kind": "words", "path": None, "max_length": TEXT_LENGTH, "dim": TEXT_DIM},
        video={"num_frames": 9, "fps": 10.0, "height": 32, "width": 48},
        preset="tiny",
        controls=controls,
    )
    save_world(folder, net, world, VideoTokenizer(TokenizerNetwork(tokenizer_config)))
    return folder


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build each kind of world once."""
    made: dict[tuple[str, str | None], Path] = {}

    def make(task: str = "video2world", control: str | None = None) -> Path:
        if (task, control) not in made:
            folder = tmp_path_factory.mktemp("worlds") / f"{task}_{control}"
            made[task, control] = build_world(folder, task=task, control=control)
        return made[task, control]

    return make
