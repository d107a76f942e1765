"""Heads: what training makes them guess, how that is measured, and the file beside a world."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError, NumericsError
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_plain
from nemo_cosmos.models.autoregressive.decoding.medusa import decode_medusa
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import grow_tree
from nemo_cosmos.models.autoregressive.heads.acceptance import acceptance_of, count_right
from nemo_cosmos.models.autoregressive.heads.file import (
    HEADS_FILE,
    SavedHeads,
    load_heads,
    save_heads,
)
from nemo_cosmos.models.autoregressive.heads.loss import HEAD_DECAY, heads_loss
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.heads.training import (
    HeadsBatch,
    HeadsTraining,
    train_heads,
)
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.process.training_step import make_targets

GRID = (2, 3, 4)
NUM_CODES = 24
CPU = torch.device("cpu")


def counting(num_videos: int) -> Iterator[HeadsBatch]:
    """Videos whose codes count up from any of 40, and go on with the first behind the last."""
    generator = torch.Generator().manual_seed(0)
    while True:
        first = torch.randint(40, (num_videos, 1), generator=generator)
        codes_BL = (first + torch.arange(NUM_CODES)) % 40
        yield HeadsBatch(codes_BL.view(num_videos, *GRID))


def test_trained_heads_guess_what_comes(build) -> None:
    """The network learns to count, and its heads to count ahead; both draw in few passes."""
    net = build()
    before = {name: value.clone() for name, value in net.named_parameters()}
    how = HeadsTraining(num_heads=4, num_steps=150, lr=1e-2, trained_layers=2, network_lr=1e-2)
    heads, losses = train_heads(net, ARProcess(), counting(8), how)
    assert losses[-1] < 0.3 * losses[0]
    after = dict(net.named_parameters())
    assert torch.equal(after["embedding.weight"], before["embedding.weight"])
    assert not torch.equal(after["output.weight"], before["output.weight"])
    assert not any(value.requires_grad for value in after.values())

    codes_BTHW = next(counting(1)).codes_BTHW
    given, sampling = codes_BTHW.flatten()[:12], Sampling(top_p=0.9)
    job = Job([given], [NUM_CODES], [7], sampling)
    plain = decode_plain(Scorer(net, GRID), job)
    counts = count_right(Scorer(net, GRID), heads, plain.codes[0], 12, 7, sampling)
    assert counts[1].tolist() == [12] * 4
    acceptance = acceptance_of([counts])
    assert min(rates[1] for rates in acceptance) > 0.7, "the frame before is always wrong"
    tree = grow_tree(acceptance, 8)
    found = decode_medusa(Scorer(net, GRID, spare=8), job, heads, lambda _: tree)
    assert torch.equal(found.codes[0], plain.codes[0])
    assert found.num_passes <= plain.num_passes / 2


def test_a_frozen_network_stays_as_it_is(build) -> None:
    net = build()
    before = {name: value.clone() for name, value in net.named_parameters()}
    how = HeadsTraining(num_heads=3, num_steps=3)
    heads, losses = train_heads(net, ARProcess(), counting(2), how)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
    assert all(weight.abs().max() > 0 for weight in heads.weight_KEE) and len(losses) == 3


def test_the_loss_is_that_of_each_head_s_own_codes(build) -> None:
    net = build()
    codes_BTHW = next(counting(2)).codes_BTHW
    heads = Heads(2, net.config.hidden_size)
    targets = make_targets(codes_BTHW, net.config, ARProcess(), None)
    x_LBE = torch.randn(NUM_CODES, 2, net.config.hidden_size)
    found_B = heads_loss(net, heads, x_LBE, targets)
    logits_LBV = net.score(x_LBE)[..., :40]  # fresh heads score as the network does
    codes_BP = codes_BTHW.flatten(1)
    for video in range(2):
        entropies = [
            # Token l scores place l + 2 with the first head, and l + 3 with the second.
            F.cross_entropy(logits_LBV[12 - ahead : NUM_CODES - ahead, video], codes_BP[video, 12:])
            for ahead in (2, 3)
        ]
        wanted = (entropies[0] + HEAD_DECAY * entropies[1]) / (1 + HEAD_DECAY)
        torch.testing.assert_close(found_B[video], wanted)


def test_the_frame_before_is_the_first_guess(build) -> None:
    net = build()
    codes_P = torch.arange(12).repeat(2)
    heads = Heads(3, net.config.hidden_size)
    counts = count_right(Scorer(net, GRID), heads, codes_P, 12, 0, Sampling())
    assert acceptance_of([counts]) == [[1.0, *[0.0] * 7]] * 3


def test_a_guess_counts_where_the_draw_is_its_own(build) -> None:
    """A network whose output sees nothing draws the noise alone, and so do fresh heads."""
    net = build()
    net.output.weight.zero_()
    given, sampling = torch.arange(5), Sampling()
    drawn = decode_plain(Scorer(net, GRID), Job([given], [NUM_CODES], [3], sampling)).codes[0]
    heads = Heads(6, net.config.hidden_size)
    right_KR, num_K = count_right(Scorer(net, GRID), heads, drawn, 5, 3, sampling, num_ranks=2)
    # No token stands far enough before the first places for the last heads to guess them.
    assert num_K.tolist() == [19, 19, 19, 19, 18, 17]
    assert torch.equal(right_KR.sum(1), num_K), "the frame before, or the head"
    assert right_KR[:, 0].max() < 5, "which tells nothing"
    other_KR, _ = count_right(Scorer(net, GRID), heads, drawn, 5, 4, sampling, num_ranks=2)
    assert other_KR.sum() < 40


def world_folder(folder: Path, value: float = 1.0) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({"output.weight": torch.full((3, 4), value)}, folder / "model.safetensors")
    return folder


def saved(num_heads: int = 3, width: int = 4) -> SavedHeads:
    heads = Heads(num_heads, width).requires_grad_(False)
    for parameter in heads.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return SavedHeads(heads, [[0.5, 0.25]] * num_heads)


def test_heads_return_from_their_file(tmp_path: Path) -> None:
    folder, heads = world_folder(tmp_path / "world"), saved()
    assert save_heads(folder, heads) == folder / HEADS_FILE
    found = load_heads(folder, 4, dtype=torch.float32, device=CPU)
    assert found.acceptance == heads.acceptance
    for name, value in heads.heads.state_dict().items():
        assert torch.equal(found.heads.state_dict()[name], value)
    assert sorted(path.name for path in folder.iterdir()) == [HEADS_FILE, "model.safetensors"]


def test_heads_of_another_model_are_refused(tmp_path: Path) -> None:
    def load(folder: Path, width: int = 4) -> SavedHeads:
        return load_heads(folder, width, dtype=torch.float32, device=CPU)

    folder = world_folder(tmp_path / "world")
    with pytest.raises(MissingFileError, match="nemo-cosmos heads"):
        load(folder)
    file = save_heads(folder, saved())
    other = world_folder(tmp_path / "other", value=2.0)
    (other / HEADS_FILE).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="other weights than those beside it"):
        load(other)
    with pytest.raises(CheckpointError, match="width 8"):
        load(folder, width=8)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="damaged"):
        load(folder)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="format 'None'"):
        load(folder)
    broken = saved()
    broken.heads.bias_KE[0, 0] = math.nan
    with pytest.raises(NumericsError, match="bias_KE"):
        save_heads(folder, broken)
    with pytest.raises(MissingFileError, match="no world folder"):
        save_heads(tmp_path, saved())


def test_impossible_heads_are_refused(build) -> None:
    with pytest.raises(ConfigError, match="13 heads are not 1 to 12"):
        Heads(13, 4)
    how = HeadsTraining(num_heads=3, num_steps=1, trained_layers=3)
    with pytest.raises(ConfigError, match="3 layers cannot learn: the network has 2"):
        train_heads(build(), ARProcess(), counting(1), how)
