"""Proof of an export: it is read back, compared weight by weight, and made to generate.

An export whose weights never reached the network that generates looks like any other. So the new
folder is read as a stranger would read it; its weights are compared with those that were to be
written; and base and export make the same small video, from the same noise. Where adapters were
merged in, their videos must differ, and the report says by how much.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch

from nemo_cosmos.checkpoint.adapters.folder import is_adapter, open_adapter
from nemo_cosmos.checkpoint.adapters.merged import Weighted, merge_adapters
from nemo_cosmos.checkpoint.convert import WORLD, import_checkpoint
from nemo_cosmos.checkpoint.formats.tensors import PartSource
from nemo_cosmos.checkpoint.world.config import TOKENIZER_FORMAT, WEIGHTS_FILE, format_of
from nemo_cosmos.checkpoint.world.folder import World, load_world, open_weights
from nemo_cosmos.errors import CheckpointError, ConfigError, counted
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.storage import EXPORT_FOLDER, exported_folder
from nemo_cosmos.video import tensor_to_frames

READABLE = (WORLD, "diffusers", "cosmos", "cosmos-tp2", "cosmos-tp4", "cosmos-tp8", "nemo")
"""Formats that ``nemo-cosmos import`` reads back."""
TOLERANCE = 1e-5
"""Of a weight that was written, over the largest of its tensor."""
STEPS = 4
SEED = 1
_TRAINING_ONLY = "logvar."
"""The learned variance of the loss, for which other libraries have no place."""


@dataclass(frozen=True)
class Verification:
    """What an export was found to be.

    Attributes:
        matched: tensors that are what was to be written.
        largest: largest difference of a weight, over the largest weight of its tensor.
        largest_from_run: the same from the export that the adapter's own run wrote; None where
            there is none.
        changed: tensors that differ from the base's.
        new: tensors that the base lacks.
        video_difference: mean difference of the videos of base and export, in levels of 255.
        video_psnr_db: PSNR of the export's video against the base's; infinite where they are equal.
        num_adapters: adapters that were merged in.
    """

    matched: int
    largest: float
    largest_from_run: float | None
    changed: int
    new: int
    video_difference: float
    video_psnr_db: float
    num_adapters: int

    def words(self) -> str:
        """One paragraph for people."""
        own = self.largest_from_run
        trained = "" if own is None else f" ({own:.1e} from what its run exported)"
        return (
            f"Verified: {counted(self.matched, 'tensor')} read back and equal to what was to be "
            f"written within {self.largest:.1e}{trained}; {self.changed} differ from the base, "
            f"{self.new} new. From the same noise, the export's video differs from the base's by "
            f"{self.video_difference:.2f} levels of 255 on average (PSNR "
            f"{self.video_psnr_db:.1f} dB)."
        )


def check_verifiable(source: str | PathLike[str], format: str) -> None:
    """Before an export, require one that can be read back and generates.

    Raises:
        ConfigError: it cannot.
    """
    place = exported_folder(source)
    if is_adapter(source) or format_of(place) == TOKENIZER_FORMAT:
        kind = "an adapter alone" if is_adapter(source) else "a tokenizer"
        raise ConfigError(
            f"--verify generates with the export, and '{source}' is {kind}. Verify a world with "
            "--adapter, or leave --verify out."
        )
    if format not in READABLE:
        raise ConfigError(
            f"--verify reads the export back, and nothing here reads '{format}'. Verify another "
            f"format ({', '.join(READABLE)}), or leave --verify out."
        )


def verify_export(
    source: str | PathLike[str],
    exported: str | PathLike[str],
    format: str,
    adapters: Sequence[Weighted] = (),
    allow_mismatch: Collection[str] = (),
) -> Verification:
    """Read an export back, compare its weights, and generate with base and export.

    Args:
        source: the world that was exported.
        exported: the new folder.
        format: its format, one of :data:`READABLE`.
        adapters: what was merged into it.
        allow_mismatch: what the export was allowed.

    Raises:
        CheckpointError: a weight is not what was to be written, or adapters changed no video.
    """
    base, target = exported_folder(source), Path(exported)
    wanted: PartSource = open_weights(base / WEIGHTS_FILE)
    if adapters:
        wanted = merge_adapters(base, adapters, allow_mismatch).source
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.absolute().parent) as place:
        again = target
        if format != WORLD:
            again = import_checkpoint(target, Path(place) / "again", allow_mismatch=allow_mismatch)
        found = open_weights(again / WEIGHTS_FILE)
        matched, largest = _compare(wanted, found)
        before = open_weights(base / WEIGHTS_FILE)
        changed = sum(
            not torch.equal(before.read(name), found.read(name))
            for name in found.specs
            if name in before.specs
        )
        own = _largest_from_run(adapters, found)
        frames = [small_video(load_world(one)) for one in (base, again)]
    difference = np.abs(np.subtract(*frames, dtype=np.float64))
    mean_square = float((difference**2).mean())
    if adapters and not difference.any():
        raise CheckpointError(
            f"'{target}' makes the very same video as '{base}', although "
            f"{counted(len(adapters), 'adapter')} changed {counted(changed, 'weight')}: too "
            "little to see. Train longer, or give the adapter a larger weight."
        )
    return Verification(
        matched=matched,
        largest=largest,
        largest_from_run=own,
        changed=changed,
        new=sum(name not in before.specs for name in found.specs),
        video_difference=float(difference.mean()),
        video_psnr_db=10 * math.log10(255**2 / mean_square) if mean_square else math.inf,
        num_adapters=len(adapters),
    )


class _Steered(Protocol):
    """A network whose controls can be taken away."""

    def drop_controls(self) -> None:
        """Take them away, so that it generates without their signals."""
        ...


@torch.no_grad()
def small_video(world: World) -> np.ndarray:
    """A video of a fixed text, first picture and noise, uint8 ``(T,H,W,3)``, without controls.

    It is two latent frames long, of which the first is given where the model takes frames.

    Args:
        world: the world, whose network loses its controls: a base without them makes it, too.
    """
    net, config = world.net, world.config
    cast("_Steered", net).drop_controls()
    generator = get_family(config.family).make_generator(
        net, config.model, world.tokenizer, world.folder
    )
    kind, video = generator.options_class, config.video
    options = kind(steps=STEPS) if "steps" in {field.name for field in fields(kind)} else kind()
    random = torch.Generator().manual_seed(SEED)
    length, dim = int(config.text_encoder["max_length"]), int(config.text_encoder["dim"])
    text_BLD = torch.randn(1, length, dim, generator=random)
    height, width, longest = (int(video[name]) for name in ("height", "width", "num_frames"))
    num_frames = min(longest, world.tokenizer.config.num_pixel_frames(2))
    legal = generator.legal_given(num_frames)
    given = _picture(legal[0], height, width) if legal else None
    made_BCTHW = generator.generate(
        Shot(
            text_BLD=text_BLD,
            negative_text_BLD=torch.zeros_like(text_BLD),
            num_frames=num_frames,
            height=height,
            width=width,
            fps=float(video["fps"]),
            seed=SEED,
            options=options,
            given_BCTHW=given,
        )
    )
    return tensor_to_frames(made_BCTHW[0])


def _picture(num_frames: int, height: int, width: int) -> torch.Tensor:
    """A picture with a gradient in each colour, (1,3,T,H,W) in [-1, 1]."""
    down = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    across = torch.linspace(-1, 1, width)[None].expand(height, width)
    return torch.stack([down, across, -down])[None, :, None].repeat(1, 1, num_frames, 1, 1)


def _compare(wanted: PartSource, found: PartSource) -> tuple[int, float]:
    """How many tensors are there, and their largest difference.

    Raises:
        CheckpointError: one is missing, unknown or too different.
    """
    largest = 0.0
    names = [name for name in wanted.specs if not name.startswith(_TRAINING_ONLY)]
    missing = [name for name in names if name not in found.specs]
    unknown = found.specs.keys() - wanted.specs.keys()
    if missing or unknown:
        raise CheckpointError(
            f"'{found.place}' was read back with {len(missing)} tensors missing and {len(unknown)} "
            f"unknown, such as '{next(iter([*missing, *unknown]))}'. The export is not what it "
            "should be; do not use it."
        )
    for name in names:
        here, there = wanted.read(name).float(), found.read(name).float()
        size = float(here.abs().max()) or 1.0
        difference = float((here - there).abs().max()) / size
        if difference > TOLERANCE:
            raise CheckpointError(
                f"'{name}' of '{found.place}' differs by {difference:.1e} of its largest value "
                "from what was to be written. The export is damaged; do not use it."
            )
        largest = max(largest, difference)
    return len(names), largest


def _largest_from_run(adapters: Sequence[Weighted], found: PartSource) -> float | None:
    """The largest difference from the export that the only adapter's run left beside it."""
    if len(adapters) != 1 or adapters[0].weight != 1:
        return None
    file = open_adapter(adapters[0].path).folder.parent / EXPORT_FOLDER / WEIGHTS_FILE
    if not file.is_file():
        return None
    trained = open_weights(file)
    names = [name for name in found.specs if name in trained.specs]
    differences = [
        float((trained.read(name).float() - found.read(name).float()).abs().max()) for name in names
    ]
    return max(differences, default=None)
