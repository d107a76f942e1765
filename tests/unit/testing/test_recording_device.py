"""The recording device notes every wait and every copy, and answers with a number."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nemo_cosmos.testing.recording_device import DEVICE, Recording


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda x: float(x[0]), 1.0),
        (lambda x: x.isfinite().all().item(), True),
        (lambda x: bool(x[0] > 0), True),
        (lambda x: int(x.argmax()), 1),
        (lambda x: torch.equal(x, x + 1), True),
    ],
)
def test_a_number_on_the_host_is_a_wait(
    ask: Callable[[torch.Tensor], object], answer: object
) -> None:
    with Recording() as recording:
        assert ask(torch.empty(3, device=DEVICE)) == answer
    assert [event.kind for event in recording.events] == ["wait"]


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.int64, device=DEVICE)),
    ],
)
def test_a_size_that_depends_on_numbers_is_a_wait(
    work: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    # The recorder notes the wait; the device, which has no numbers, cannot go on.
    with pytest.raises((NotImplementedError, RuntimeError)), Recording() as recording:
        work(torch.empty(3, device=DEVICE))
    assert recording.of_kind("wait")


def test_copies_are_noted_by_direction_and_nothing_else_is() -> None:
    with Recording() as recording:
        here = torch.ones(2, 3)
        there = here.to(DEVICE)
        (there * 2).sum(0).sqrt_()
        there.new_full((), 3.0)
        torch.empty(2, 3, device=DEVICE).copy_(here)
        here * 2
    assert [(event.kind, event.shape) for event in recording.events] == [("upload", (2, 3))] * 2
    assert recording.num_operations >= 4


def test_a_device_with_numbers_gives_them() -> None:
    with Recording(torch.device("cpu")) as recording:
        assert torch.tensor([2.0, 5.0]).max().item() == 5.0
        assert torch.tensor([1, 0, 1]).nonzero().tolist() == [[0], [2]]
    assert len(recording.of_kind("wait")) >= 2
