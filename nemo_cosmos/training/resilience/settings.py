"""What a run does about faults that no person is there to see."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.options import check_fields, limited


@dataclass(frozen=True, kw_only=True)
class Resilience:
    """How a run looks after itself; ``trainer.resilience.NAME=VALUE`` in a recipe.

    Attributes:
        check_machine: compute small known products, norms, attention and collectives before the
            first step, and refuse a machine whose results are wrong.
        verify_checkpoints: compare a checkpoint with its checksums before it is loaded; a damaged
            one is set aside and the one before it is used.
        hang_minutes: a run without a step for so long writes the stacks of all ranks and ends with
            the code that starts it again; 0 never does.
        hang_minutes_between: the same for what lies between steps and takes longer: the first
            step, which may compile, a save, validation, sampling.
        max_rollbacks: how often a run returns to one checkpoint because of a NaN, an Inf or a loss
            spike, each time without the batch that caused it; once more ends the run. With 0 the
            first ends it.
        spike_factor: a loss so many times the largest of the window is a spike; 0 for none.
        spike_window: steps to compare the loss with; before as many there is no spike.
        skip_before: batches before the bad one that a rollback leaves out as well.
        slow_rank_every_n_steps: steps between two comparisons of the ranks' speeds; 0 for none.
        slow_rank_factor: a rank that takes so many times the median is named in the log.
        elastic: train on as many processes as the launcher started, in place of ``devices`` x
            ``num_nodes``: a lost machine then leaves a smaller run.

    Raises:
        ConfigError: a value outside its range.
    """

    check_machine: bool = True
    verify_checkpoints: bool = True
    hang_minutes: float = limited(30.0, least=0)
    hang_minutes_between: float = limited(120.0, least=0)
    max_rollbacks: int = limited(3, least=0)
    spike_factor: float = limited(10.0, least=0)
    spike_window: int = limited(200, least=1)
    skip_before: int = limited(0, least=0)
    slow_rank_every_n_steps: int = limited(100, least=0)
    slow_rank_factor: float = limited(1.2, above=1)
    elastic: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_fields(self)
