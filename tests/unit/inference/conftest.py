"""A complete world model of the smallest size, with real parts but for the text encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import PromptError
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.testing.tiny import write_world

TEXT_LENGTH, TEXT_DIM = 6, 12
TEXT_ENCODER = {"kind": "words", "path": None, "max_length": TEXT_LENGTH, "dim": TEXT_DIM}


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


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build each kind of world once."""
    made: dict[tuple[str, str | None, float], Path] = {}

    def make(
        task: str = "video2world", control: str | None = None, control_dropout: float = 0.0
    ) -> Path:
        kind = (task, control, control_dropout)
        if kind not in made:
            folder = tmp_path_factory.mktemp("worlds") / f"{task}_{control}"
            made[kind] = write_world(
                folder,
                controls=() if control is None else (control,),
                text_encoder=TEXT_ENCODER,
                condition_mask=task == "video2world",
                control_dropout=control_dropout,
            )
        return made[kind]

    return make
