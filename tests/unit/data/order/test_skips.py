"""A batch that is left out: the others come as they would, also after the run is resumed."""

from __future__ import annotations

import itertools

import pytest
import torch

from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.order.packing import PackConfig
from nemo_cosmos.data.order.skips import BatchId, Skips
from nemo_cosmos.testing.tiny import Clips, write_latents


def test_places_are_counted_past_what_is_left_out():
    skips = Skips([0, 2, 3])
    assert [skips.nth(place) for place in range(4)] == [1, 4, 5, 6]
    assert [skips.passed(steps) for steps in range(4)] == [0, 2, 5, 6]
    assert Skips().passed(3) == 3


def test_batches_of_another_size_or_from_before_are_none_of_a_source():
    batches = [BatchId(8, 4), BatchId(8, 2), BatchId(10, 4), BatchId(0, 4)]
    assert Skips.of(batches, begin=4, size=4).left_out == {1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_latents(tmp_path_factory.mktemp("data"), Clips(num_samples=24))


PACKED = {"packing": PackConfig(max_tokens=24, window=8), "global_batch_size": 2}


@pytest.mark.parametrize("kind", [{"micro_batch_size": 2, "global_batch_size": 2}, PACKED])
def test_the_other_batches_come_as_they_would(folder, kind):
    def data(skipped=(), state=None):
        module = LatentDataModule(folder, text_length=4, seed=3, **kind)
        if state is not None:
            module.load_state_dict(state)
        module.skip(skipped)
        return module

    def keys(module, steps):
        per_step = kind["global_batch_size"] // kind.get("micro_batch_size", 1)
        loader = itertools.islice(module.train_dataloader(), steps * per_step)
        flat = [tuple(key.partition("@")[0] for key in batch["key"]) for batch in loader]
        return [flat[at : at + per_step] for at in range(0, len(flat), per_step)]

    whole = data()
    order = keys(whole, 8)
    bad = [whole.batch_of_step(step) for step in (3, 4, 6)]
    assert whole.batch_of_step(0) is None
    assert sorted(whole.keys_of(bad[0])) == sorted(key for part in order[2] for key in part)
    left = [batch for number, batch in enumerate(order, 1) if number not in (3, 4, 6)]
    skipping = data(bad)
    assert keys(skipping, 5) == left
    state = {**skipping._source.state_after(3), "settings": skipping._settings()}
    assert keys(data(bad, state), 2) == left[3:]
    state = {**skipping._source.state_after(2), "settings": skipping._settings()}
    assert keys(data(bad, state), 3) == left[2:], "what is left out lies ahead of the checkpoint"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_reading_does_not_draw_from_the_generator_of_the_noise(folder, num_workers):
    """A run that resumes reads a first batch once more than one that is not interrupted."""
    sizes = {"micro_batch_size": 2, "global_batch_size": 2, "num_workers": num_workers}
    before = torch.get_rng_state()
    next(iter(LatentDataModule(folder, text_length=4, **sizes).train_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)
