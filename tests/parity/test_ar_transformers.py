"""The folder that is written for transformers gives its class the network's logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nemo_cosmos.checkpoint.autoregressive.qwen3_vl import pair_order
from nemo_cosmos.checkpoint.convert import export_checkpoint
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.network.transformer import TokenInput
from tests.parity.test_ar_checkpoints import GRID, TEXT, build


def positions(grid: tuple[int, int, int], batch: int) -> torch.Tensor:
    """(3, batch, codes): latent frame, row and column of each code."""
    axes = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    return torch.stack(axes).flatten(1)[:, None].expand(-1, batch, -1)


@pytest.mark.parametrize("head_dim", [12, 14, 16])
@pytest.mark.parametrize("yarn", [None, (2, 3, 4)])
def test_transformers_computes_the_same_logits(
    tmp_path: Path, head_dim: int, yarn: tuple[int, int, int] | None
) -> None:
    from transformers import Qwen3VLForConditionalGeneration

    world = build(tmp_path / "world", kv_channels=head_dim, yarn_lengths_thw=yarn)
    export_checkpoint(world, tmp_path / "theirs", "transformers")
    theirs, report = Qwen3VLForConditionalGeneration.from_pretrained(
        tmp_path / "theirs", output_loading_info=True
    )
    assert not any(report.values()), report
    tokens = torch.randint(75, (2, 60), generator=torch.Generator().manual_seed(6))
    net = load_world(world).net
    places = net.place_table(GRID, torch.device("cpu")).at(torch.arange(60))
    with torch.no_grad():
        ours = net(TokenInput(tokens, places)).transpose(0, 1)[..., :75]
        logits = theirs(input_ids=tokens, position_ids=positions(GRID, 2)).logits
    assert ours.std() > 0.1
    torch.testing.assert_close(logits, ours, atol=1e-4, rtol=1e-4)


def test_a_cache_of_transformers_continues_the_video(tmp_path: Path) -> None:
    from transformers import Qwen3VLForConditionalGeneration

    world = build(tmp_path / "world")
    export_checkpoint(world, tmp_path / "theirs", "transformers")
    theirs = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    tokens = torch.randint(75, (1, 60), generator=torch.Generator().manual_seed(7))
    where = positions(GRID, 1)
    with torch.no_grad():
        whole = theirs(input_ids=tokens, position_ids=where).logits
        first = theirs(input_ids=tokens[:, :41], position_ids=where[..., :41], use_cache=True)
        rest = theirs(
            input_ids=tokens[:, 41:],
            position_ids=where[..., 41:],
            past_key_values=first.past_key_values,
        )
    torch.testing.assert_close(rest.logits, whole[:, 41:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head_dim", range(12, 130, 2))
def test_every_pair_of_channels_has_one_place(head_dim: int) -> None:
    assert sorted(pair_order(head_dim)) == list(range(head_dim // 2))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (TEXT, "attends to a text"),
        ({"absolute_positions": True}, "adds absolute positions"),
        ({"begin_token": True}, "token of the beginning"),
    ],
)
def test_what_no_class_computes_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    world = build(tmp_path / "world", **changes)
    with pytest.raises(ConfigError, match=reason):
        export_checkpoint(world, tmp_path / "theirs", "transformers")
    assert not (tmp_path / "theirs").exists()


def test_the_description_and_the_tokenizer_stand_beside_it(tmp_path: Path) -> None:
    export_checkpoint(build(tmp_path / "world"), tmp_path / "theirs", "transformers")
    text = json.loads((tmp_path / "theirs" / "config.json").read_text())["text_config"]
    assert text["vocab_size"] == 75  # rows that pad it are left out
    assert (tmp_path / "theirs" / "nemo_cosmos.json").is_file()
    assert (tmp_path / "theirs" / "tokenizer").is_dir()
