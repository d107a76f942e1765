"""A world model as a data engine: what do its episodes teach, compared with real ones?

An inverse-dynamics network (:mod:`.inverse_dynamics`) learns from recorded episodes, from as many
generated ones, and from generated ones followed by the recorded ones they were made of. All are
tested on the same held-out recordings, at several numbers of recorded episodes: a data engine is
for where recordings are few. Recordings are videos with actions beside them, of whatever robot.

Shape suffixes: E episodes, N steps of an episode, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError, InputError, NumericsError, counted
from nemo_cosmos.evaluation.episode import EpisodeSource
from nemo_cosmos.progress import Progress
from post_training.robotics.signal import ACTION
from post_training.robotics.usefulness.data_engine_findings import (
    BOTH,
    GENERATED,
    LEARNED,
    MEAN,
    REAL,
    Findings,
)
from post_training.robotics.usefulness.generated_episodes import OWN, EpisodeMaker, variants
from post_training.robotics.usefulness.inverse_dynamics import (
    Steps,
    Training,
    see,
    train_inverse_dynamics,
)

LEAST = 4
"""The smallest number of recordings that is tried unless others are asked for."""
_SAME_PICTURE = 0.02
"""Mean difference of brightness, in [-1, 1], below which two recordings show the same."""


@dataclass(frozen=True)
class EngineTrial:
    """What is tried.

    Attributes:
        sizes: numbers of recorded episodes to learn from; by default 4, 8, 16, ... and all.
        num_others: generated episodes from each first frame that are told other actions.
        seeds: seeds of the networks; an episode's errors are their mean.
        limit: how many recordings at most, on either side; None for all.
        options: options of the generation by name, such as ``{"steps": 16}``.
        training: how the networks are trained.
    """

    sizes: tuple[int, ...] = ()
    num_others: int = 2
    seeds: tuple[int, ...] = (1, 2, 3)
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if "seed" in self.options:
            raise ConfigError(
                "The options name a seed; each generated episode has one of its own. Leave it out."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"The seeds are {list(self.seeds)}; expected one or more, each once.")
        if any(size < 2 for size in self.sizes) or any(a >= b for a, b in pairwise(self.sizes)):
            raise ConfigError(
                f"The sizes are {list(self.sizes)}; expected rising numbers of episodes, each 2 or "
                "more, such as 4,8,16."
            )

    def sizes_for(self, num_episodes: int) -> list[int]:
        """The numbers of recordings to learn from.

        Args:
            num_episodes: how many there are.

        Raises:
            InputError: there are fewer than asked for, or fewer than two.
        """
        if num_episodes < 2 or (self.sizes and self.sizes[-1] > num_episodes):
            wanted = self.sizes[-1] if self.sizes else 2
            raise InputError(
                f"There are {counted(num_episodes, 'recorded episode')} to learn from, and "
                f"{wanted} are needed. Record more, or lower --sizes."
            )
        if self.sizes:
            return list(self.sizes)
        doubled = [LEAST << k for k in range(num_episodes.bit_length())]
        return [*(size for size in doubled if size < num_episodes), num_episodes]

    def describe(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def figure_names(trial: EngineTrial, num_episodes: int, numbers: Sequence[str]) -> list[str]:
    """Names of all numbers of a trial.

    Args:
        trial: what is tried.
        num_episodes: how many recordings there are.
        numbers: names of an action's numbers.
    """
    names = [
        f"{kind}.{size}"
        for size in trial.sizes_for(num_episodes)
        for kind in (*(f"error.{one}" for one in (*LEARNED, MEAN)), "ratio", "gain")
    ]
    return names + [
        f"{kind}.{number}.{one}"
        for one in LEARNED
        for number in numbers
        for kind in ("mae", "r2", "correlation")
    ]


def read_steps(
    sources: Sequence[EpisodeSource], place: str, skipped: dict[str, str]
) -> tuple[list[EpisodeSource], list[Steps]]:
    """Read recordings; one that cannot be read is left out, with its reason.

    Args:
        sources: the recordings.
        place: their folder.
        skipped: gets the reasons by place and name.

    Raises:
        InputError, NumericsError: none of them can be read; the reason of the first.
    """
    kept, steps, wrong = [], [], []
    for source in sources:
        try:
            episode = source.read()
            actions_NA = np.asarray(episode.control[ACTION.name][ACTION.name], np.float32)
            steps.append(Steps(see(episode.truth_THWC), actions_NA))
            kept.append(source)
        except (InputError, NumericsError) as error:
            wrong.append(error)
            skipped[f"{place}/{source.name}"] = str(error)
    if not kept:
        raise wrong[0]
    return kept, steps


def check_no_leak(
    learned: Mapping[str, Steps], held_out: Mapping[str, Steps], places: tuple[str, str]
) -> None:
    """Refuse recordings that are on both sides, under whatever name and encoding.

    Args:
        learned: the recordings to learn from by name.
        held_out: the recordings to test on by name.
        places: the two folders, for the message.

    Raises:
        ConfigError: one is on both sides.
    """
    same = [
        f"'{name}' is '{other}'"
        for name, steps in learned.items()
        for other, tested in held_out.items()
        if _is_same(steps, tested)
    ]
    if same:
        more = f" and {len(same) - 3} more" if len(same) > 3 else ""
        raise ConfigError(
            f"'{places[0]}' and '{places[1]}' share recordings: {', '.join(same[:3])}{more}. A "
            "network must be tested on what it did not learn from. Name held-out recordings alone."
        )


def _is_same(first: Steps, second: Steps) -> bool:
    if first.actions_NA.shape != second.actions_NA.shape:
        return False
    if not np.allclose(first.actions_NA, second.actions_NA, atol=1e-5):
        return False
    pictures = [steps.seen_NCHW[:, 2:5] for steps in (first, second)]
    return bool(np.abs(pictures[0] - pictures[1]).mean() < _SAME_PICTURE)


def compare_data(
    maker: EpisodeMaker,
    real: Sequence[Steps],
    held_out: Mapping[str, Steps],
    trial: EngineTrial,
    numbers: Sequence[str],
    progress: Progress | None = None,
) -> Findings:
    """Generate the episodes, train the networks and let them loose on the held-out recordings.

    Args:
        maker: makes the generated episodes of the same recordings as ``real``.
        real: steps of the recordings to learn from.
        held_out: steps of the recordings to test on by name.
        trial: what is tried.
        numbers: names of an action's numbers.
        progress: called with the videos and networks done, and those in all.

    Raises:
        GuardrailError: a guard refused all generated episodes of the smallest size.
        SampleError: the recordings are of different robots.
    """
    num_networks = len(maker.sizes) * len(LEARNED) * len(trial.seeds)
    chosen = variants(trial.num_others)
    total = len(chosen) * len(real) + num_networks
    tell = progress or (lambda done, total: None)
    made = maker.make(chosen, lambda done, _: tell(done, total))
    done = total - num_networks
    predicted: dict[tuple[str, int], list[list[NDArray[np.float32]]]] = {}
    for size in maker.sizes:
        # The same episodes on both sides: one that was refused is no real one either.
        same = [index for index in range(size) if made[OWN][index] is not None]
        mine = [real[index] for index in same]
        own = [steps for index in same if (steps := made[OWN][index]) is not None]
        others = [s for v in chosen if v.name != OWN for s in made[v.name][:size] if s is not None]
        if not own:
            raise next(iter(maker.refused.values()))
        courses = {REAL: (mine, ()), GENERATED: (own, ()), BOTH: ([*own, *others], mine)}
        for learned, (first, then) in courses.items():
            for seed in trial.seeds:
                network = train_inverse_dynamics(first, then, trial.training, seed)
                tested = [network.actions(steps.seen_NCHW) for steps in held_out.values()]
                predicted.setdefault((learned, size), []).append(tested)
                done += 1
                tell(done, total)
        mean_A = np.concatenate([steps.actions_NA for steps in mine]).mean(axis=0)
        still = [np.tile(mean_A, (len(s.actions_NA), 1)) for s in held_out.values()]
        predicted[MEAN, size] = [still]
    wanted = [steps.actions_NA for steps in held_out.values()]
    return Findings(list(held_out), tuple(numbers), wanted, list(maker.sizes), predicted)
