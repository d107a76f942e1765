"""A bad batch: back to the checkpoint before it, and on as if the batch had never been there."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nemo_cosmos import api
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.testing.tiny import Clips, write_latents
from nemo_cosmos.training.resilience.settings import Resilience
from nemo_cosmos.training.resilience.skipped import SKIPPED_FILE, add_skipped, read_skipped
from nemo_cosmos.training.run_folder import list_checkpoints

NUM_SAMPLES, BATCH_SIZE, STEPS, SAVE_EVERY = 24, 2, 9, 4
POISON = {
    "NaN": lambda loss: loss * float("nan"),
    "Inf": lambda loss: loss * float("inf"),
    "spike": lambda loss: loss * 1e4,
}


def data_of(folder: Path) -> LatentDataModule:
    sizes = {"micro_batch_size": BATCH_SIZE, "global_batch_size": BATCH_SIZE}
    return LatentDataModule(folder, **sizes, text_length=4)


def names(batch) -> tuple[str, ...]:
    """The keys of a batch, without their places in the order."""
    return tuple(key.partition("@")[0] for key in batch["key"])


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> Path:
    return write_latents(tmp_path_factory.mktemp("data"), Clips(num_samples=NUM_SAMPLES))


@pytest.fixture(scope="module")
def poisoned_model(toy):
    class PoisonedModel(toy.ToyModel):
        """The toy on latents; a batch with one of the keys spoils its step."""

        def __init__(self, poisoned=(), poison="NaN", seen=None):
            super().__init__()
            self.poisoned, self.poison = frozenset(poisoned), poison
            self.seen = [] if seen is None else seen

        def forward_step(self, batch):
            keys = names(batch)
            self.seen.append((self.trainer.global_step, keys))
            x = batch["latent"].flatten(1)[:, : toy.WIDTH]
            loss = super().forward_step({"x": x})
            return POISON[self.poison](loss) if self.poisoned & set(keys) else loss

        def flops_and_tokens(self, batch):
            return 1.0, 1

    return PoisonedModel


@pytest.fixture
def train(toy, poisoned_model, latents, tmp_path):
    def run(name, poisoned=(), poison="NaN", steps=STEPS, resilience=None, **others):
        """Train; the run's folder, and the keys of each step that counts."""
        model = poisoned_model(poisoned, poison)
        settings = {"spike_window": 3, "check_machine": False} | (resilience or {})
        arguments = toy.arguments(
            tmp_path, steps, save_every=SAVE_EVERY, name=name, resilience=Resilience(**settings),
            **others,
        )  # fmt: skip
        arguments["model"] = model
        try:
            folder = api.pretrain(**arguments | {"data": data_of(latents)})
        finally:
            run.seen = model.seen
        return folder, [dict(model.seen)[step] for step in sorted(dict(model.seen))]

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def assert_same(left: Path, right: Path) -> None:
    one, other = weights(left), weights(right)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.isfinite(tensor).all() and torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def order(latents) -> list[tuple[str, ...]]:
    """The batches in their order."""
    batches = itertools.islice(data_of(latents).train_dataloader(), STEPS + 4)
    return [names(batch) for batch in batches]


@pytest.mark.parametrize(
    ("poison", "others"),
    [
        ("NaN", {}),
        ("Inf", {"precision": "bf16-mixed"}),
        ("spike", {"async_save": True}),
    ],
)
def test_a_bad_batch_might_never_have_been_there(train, order, poison, others):
    """The reference leaves the batch out from the beginning, and would fail if it saw it."""
    bad = order[5]
    folder, seen = train("poisoned", bad, poison, **others)
    assert seen == [batch for batch in order if batch != bad][:STEPS]
    assert [step for step, _ in train.seen].count(4) == 2, "step 5 is made again"
    [line] = read_skipped(folder)
    assert (line.step, line.back_to_step, line.begin, line.size) == (6, 4, 10, BATCH_SIZE)
    assert tuple(line.keys) == bad
    assert ("times the largest" if poison == "spike" else "NaN") in line.reason

    reference = folder.with_name("reference")
    reference.mkdir()
    add_skipped(reference, [line])
    same, its_seen = train("reference", bad, poison, **others)
    assert its_seen == seen and len(train.seen) == STEPS, "nothing was made twice"
    assert_same(folder, same)
    curves = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [curve["step"] for curve in curves] == list(range(1, STEPS + 1))


def test_a_run_that_is_started_again_still_leaves_the_batch_out(train, order):
    whole, _ = train("whole", order[5])
    train("parts", order[5], steps=7)
    folder, seen = train("parts", order[5])
    assert_same(folder, whole)
    assert seen == [batch for batch in order if batch != order[5]][7:STEPS]


def test_a_run_that_was_resumed_returns_too(train, order):
    """The logs of its first start are moved aside once, not again when it returns."""
    whole, _ = train("whole", order[7])
    train("parts", order[7], steps=5)
    folder, _ = train("parts", order[7])
    assert_same(folder, whole)


def test_batches_before_the_bad_one_may_go_too(train, order):
    folder, seen = train("both", order[5], resilience={"skip_before": 1})
    assert seen == [batch for batch in order if batch not in order[4:6]][:STEPS]
    assert [tuple(line.keys) for line in read_skipped(folder)] == order[4:6]


def test_a_run_returns_to_a_checkpoint_only_so_often(train, order, tmp_path):
    poisoned = {key for batch in order[5:9] for key in batch}
    with pytest.raises(NumericsError, match=r"step 6.*'step=000004' 2 times before"):
        train("limit", poisoned, resilience={"max_rollbacks": 2})
    assert [tuple(line.keys) for line in read_skipped(tmp_path / "limit")] == order[5:7]
    assert [step for _, step in list_checkpoints(tmp_path / "limit")] == [4]
    folder, _ = train("enough", {*order[5], *order[6]}, resilience={"max_rollbacks": 2})
    assert len(read_skipped(folder)) == 2


@pytest.mark.parametrize(
    ("resilience", "bad", "said"),
    [
        ({"max_rollbacks": 0}, 5, "The newest checkpoint"),
        ({}, 2, "There is no checkpoint from before that step"),
    ],
)
def test_a_run_that_cannot_return_says_so(train, order, tmp_path, resilience, bad, said):
    with pytest.raises(NumericsError, match=rf"diverged in step {bad + 1}.*{said}"):
        train("ends", order[bad], resilience=resilience)
    assert not (tmp_path / "ends" / SKIPPED_FILE).exists()


def test_a_bad_step_is_in_no_checkpoint(train, order, tmp_path, monkeypatch):
    """On a GPU losses are read every few steps; before a save they are all read."""
    from nemo_cosmos.training.callbacks import bad_steps

    monkeypatch.setattr(bad_steps, "by_device", lambda cpu, cuda: 100)
    with pytest.raises(NumericsError, match="diverged in step 4: the loss of"):
        train("late", order[3], "spike")
    assert not list_checkpoints(tmp_path / "late")


def test_a_spike_without_a_limit_is_trained_on(train, order):
    folder, seen = train("through", order[5], "spike", resilience={"spike_factor": 0})
    assert seen == order[:STEPS] and not (folder / SKIPPED_FILE).exists()


def test_a_line_that_is_none_is_named(train, tmp_path):
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / SKIPPED_FILE).write_text('{"step": 6, "rea\n')
    with pytest.raises(ConfigError, match="Line 1 of"):
        train("torn")
