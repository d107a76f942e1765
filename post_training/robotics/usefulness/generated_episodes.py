"""Episodes that a world model makes from recorded ones, for another network to learn from.

Each recorded episode's first frame is continued twice over: told the actions that were recorded
with it (:data:`OWN`), and told those of other recordings (``other_1``, ``other_2``, ...), which
gives motions that nobody recorded from there. The files have the layout of recordings
(``{name}.mp4``, ``{name}.action.npy``, ``{name}.json`` with caption and provenance), so that
``nemo-cosmos curate`` reads them, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.controls import encode_arrays, read_signal
from nemo_cosmos.errors import GuardrailError, InputError, NemoCosmosError
from nemo_cosmos.evaluation.episode import EpisodeSource
from nemo_cosmos.evaluation.metric import Frames
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.trial.videos import request_for
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import decode
from post_training.robotics.signal import ACTION
from post_training.robotics.usefulness.inverse_dynamics import Steps, see

OWN = "own"
_ABOUT = "request_sha256"
_SEED_STRIDE = 100_000
"""Seeds of the noise: the same number of episode and variant gives the same, however many."""


@dataclass(frozen=True)
class Variant:
    """What the world is told from each first frame.

    Attributes:
        name: its name, also that of its folder.
        number: 0 for an episode's own actions, else the number of the other ones.
    """

    name: str
    number: int


def variants(num_others: int) -> list[Variant]:
    """An episode's own actions, and so many others'."""
    return [Variant(OWN, 0), *(Variant(f"other_{k}", k) for k in range(1, num_others + 1))]


def partner_of(index: int, number: int, sizes: Sequence[int]) -> int:
    """The recording whose actions are told from the first frame of another.

    With the first ``n`` recordings, for any ``n`` of ``sizes``, only recordings among these ``n``
    are used: a network that may learn from ``n`` of them sees nothing of the others.

    Args:
        index: the recording that gives the first frame.
        number: 1 for the first of its partners, 2 for the next.
        sizes: numbers of recordings, rising.
    """
    num = next(size for size in sizes if size > index)
    others = [other for other in range(num) if other != index]
    np.random.default_rng([num, index]).shuffle(others)
    return others[(number - 1) % len(others)]


@dataclass
class EpisodeMaker:
    """Makes the episodes of a world, and keeps them below a folder.

    Attributes:
        pipeline: the world.
        sources: the recordings, in the order in which ``sizes`` counts them.
        sizes: numbers of recordings, rising; the last is all of them.
        folder: where the episodes are kept, a folder for each variant.
        options: options of the generation.
        refused: why an episode was not made, by variant and name.
    """

    pipeline: WorldPipeline
    sources: Sequence[EpisodeSource]
    sizes: Sequence[int]
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: dict[str, NemoCosmosError] = field(default_factory=dict)

    def make(
        self, chosen: Sequence[Variant], progress: Progress | None = None
    ) -> dict[str, list[Steps | None]]:
        """Make the episodes that the folder lacks, and read all of them.

        Args:
            chosen: what to tell the world.
            progress: called with the videos done and the videos in all.

        Returns:
            for each variant by name the steps of each episode; None where it could not be made.
        """
        total, done = len(chosen) * len(self.sources), 0
        made: dict[str, list[Steps | None]] = {}
        for variant in chosen:
            made[variant.name] = []
            for index in range(len(self.sources)):
                made[variant.name].append(self._one(variant, index))
                done += 1
                if progress is not None:
                    progress(done, total)
        return made

    def film_if_made(self, variant: Variant, index: int) -> Frames | None:
        """The frames of a kept episode; None where it was not asked for."""
        return self._film(variant, index) if _video(self._stem(variant, index)).is_file() else None

    def _film(self, variant: Variant, index: int) -> Frames:
        return decode(_video(self._stem(variant, index))).frames_THWC

    def _one(self, variant: Variant, index: int) -> Steps | None:
        teller = index
        if variant.number:
            teller = partner_of(index, variant.number, self.sizes)
        try:
            self._make(variant, index, teller)
            actions_NA = read_signal(_beside(self._stem(variant, index)))
            # Read back: what was kept and what is made now go through the same encoder.
            return Steps(see(self._film(variant, index)), np.asarray(actions_NA, np.float32))
        except (GuardrailError, InputError) as error:
            self.refused[f"{variant.name}/{self.sources[index].name}"] = error
            return None

    def _make(self, variant: Variant, index: int, teller: int) -> None:
        """Generate an episode unless the same one is there; its actions are written last."""
        stem = self._stem(variant, index)
        about = self._about(variant, index, teller)
        if _kept(stem) == about:
            return
        _beside(stem).unlink(missing_ok=True)
        recording = self.sources[index].read()
        control = dict(recording.control)
        if teller != index:
            control[ACTION.name] = self.sources[teller].read_control()[ACTION.name]
        seed = 1 + variant.number * _SEED_STRIDE + index
        result = self.pipeline.run(request_for(recording, control, self.options, seed))
        told = {
            "caption": recording.prompt,
            "source": "world model",
            "first_frame_of": self.sources[index].name,
            "actions_of": self.sources[teller].name,
            _ABOUT: about,
        }
        stem.parent.mkdir(parents=True, exist_ok=True)
        replace(result, provenance={**result.provenance, **told}).save(_video(stem))
        with atomic_path(_beside(stem)) as temporary:
            temporary.write_bytes(encode_arrays(ACTION.suffix, control[ACTION.name]))

    def _about(self, variant: Variant, index: int, teller: int) -> str:
        """Hash of all that decides what an episode looks like."""
        content = [
            self.pipeline.model_record,
            [[self.sources[n].name, self.sources[n].stamp] for n in (index, teller)],
            [variant.number, index],
            dict(self.options),
            sorted(guard.name for guard in self.pipeline.guards.guards),
        ]
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()

    def _stem(self, variant: Variant, index: int) -> Path:
        return self.folder / variant.name / self.sources[index].name


def _video(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.mp4")


def _beside(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.{ACTION.suffix}")


def _kept(stem: Path) -> str | None:
    """What the episode on disk was made of; None where there is no whole one."""
    try:
        found = json.loads(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    whole = _video(stem).is_file() and _beside(stem).is_file()
    return found.get(_ABOUT) if whole and isinstance(found, dict) else None
