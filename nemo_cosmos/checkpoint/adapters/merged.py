"""A base with adapters, read as if it were one world: tensor by tensor, or a rank's part of each.

An adapted weight is ``W + sum of w (alpha / rank) B A`` over the adapters, each with its weight w.
A weight that was trained in full moves by w times what it was moved; one that the base lacks, such
as a control's, is taken as it is. The sums are in float32.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.adapters.folder import (
    LORA_A,
    LORA_B,
    WEIGHT,
    Adapter,
    open_adapter,
    weights_sha256,
    without_effect,
)
from nemo_cosmos.checkpoint.adapters.folder import (
    WEIGHTS_FILE as ADAPTER_WEIGHTS_FILE,
)
from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource
from nemo_cosmos.checkpoint.formats.tensors import (
    Shapes,
    TensorSpec,
    check_finite,
    check_fit,
    named_tensors,
    shapes_of,
)
from nemo_cosmos.checkpoint.world.config import (
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    WorldConfig,
    read_config,
)
from nemo_cosmos.checkpoint.world.folder import meta_network, open_weights
from nemo_cosmos.errors import CheckpointError, ConfigError, InputError, counted
from nemo_cosmos.models.tokenizer.tokenizer import read_tokenizer_config
from nemo_cosmos.provenance.belonging import WEIGHTS, check_together
from nemo_cosmos.provenance.hashes import file_sha256
from nemo_cosmos.storage import exported_folder


@dataclass(frozen=True)
class Weighted:
    """An adapter and how much of it is wanted.

    Attributes:
        path: its folder, or that of its run.
        weight: 1 for all of it, 0.5 for half of the change.

    Raises:
        InputError: the weight is zero or not finite, or there is no path.
    """

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not str(self.path).strip() or self.path == Path():
            raise InputError(
                "An adapter is named without its folder. Write for example --adapter "
                "outputs/rain/adapter, or --adapter outputs/rain/adapter=0.5 for half of it."
            )
        if not math.isfinite(self.weight) or self.weight == 0:
            raise InputError(
                f"The adapter '{self.path}' has the weight {self.weight}; it must be a number "
                "other than 0, such as 0.5 for half of the change. Leave the adapter out for none."
            )

    @classmethod
    def parse(cls, text: str) -> Weighted:
        """Read ``PATH`` or ``PATH=WEIGHT``.

        Raises:
            InputError: the weight is no number, or zero or infinite, or the path is empty.
        """
        path, equals, number = text.rpartition("=")
        if not equals or Path(text).expanduser().exists():
            return cls(Path(text))
        try:
            weight = float(number)
        except ValueError as error:
            raise InputError(
                f"--adapter '{text}' has the weight '{number}'; it must be a number other than 0. "
                f"Write for example --adapter {path or 'outputs/rain/adapter'}=0.5."
            ) from error
        return cls(Path(path), weight)


@dataclass(frozen=True)
class Applied:
    """What an adapter did to its base.

    Attributes:
        place: the adapter's folder.
        weight: how much of it was taken.
        matched: its tensors that have their place in the world.
        changed: the base's weights that it changes.
        new: weights that the base lacks.
        num_weights: tensors of the base.
        relative: norm of all changes over the norm of the weights that they change.
    """

    place: str
    weight: float
    matched: int
    changed: int
    new: int
    num_weights: int
    relative: float

    def words(self) -> str:
        """One line for people."""
        times = "" if self.weight == 1 else f" (times {self.weight:g})"
        return (
            f"Adapter '{self.place}'{times}: {counted(self.matched, 'tensor')} matched, 0 missing, "
            f"0 unexpected; {self.changed} of {counted(self.num_weights, 'weight')} changed, by "
            f"{self.relative:.2%} of their norm; {self.new} new"
        )


class MergedSource:
    """Weights of a base with adapters, under our names.

    Args:
        base: the base's weights.
        adapters: opened adapters with their weights.
    """

    def __init__(self, base: SafetensorsSource, adapters: Sequence[tuple[Adapter, float]]) -> None:
        self.place = " with ".join([base.place, *(str(one.folder) for one, _ in adapters)])
        self._base, self._adapters = base, adapters
        self.specs: dict[str, TensorSpec] = dict(base.specs)
        dtype = next(iter(base.specs.values())).dtype
        for adapter, _ in adapters:
            for name in adapter.whole:
                shape = adapter.source.specs[name].shape
                self.specs.setdefault(name, TensorSpec(shape, dtype))

    def read(self, name: str) -> Tensor:
        """Return one tensor."""
        return self.read_part(name, ())

    @torch.no_grad()
    def read_part(self, name: str, part: tuple[slice, ...]) -> Tensor:
        """Return a rectangular part of one tensor; all of it for no slices."""
        dtype = self.specs[name].dtype
        if name not in self._base.specs:
            return self._new(name, part).to(dtype)
        before = self._base.read_part(name, part)
        changes = [
            self.change(adapter, name, part, before).mul_(weight)
            for adapter, weight in self._adapters
            if name in adapter.pairs or name in adapter.whole
        ]
        # Without a change, the very same bits.
        return before.float().add_(sum(changes)).to(dtype) if changes else before

    @torch.no_grad()
    def change(
        self, adapter: Adapter, name: str, part: tuple[slice, ...], before: Tensor
    ) -> Tensor:
        """What an adapter adds to a weight of the base, in float32.

        Args:
            adapter: one that changes it.
            name: the weight.
            part: the part of it.
            before: that part of the base's.
        """
        if name in adapter.whole:
            return adapter.source.read_part(name, part).float() - before.float()
        rows, columns = part or (slice(None), slice(None))
        a, b = adapter.pairs[name]
        left = adapter.source.read(b)[rows].float() * adapter.config.scale
        return left @ adapter.source.read(a)[:, columns].float()

    def _new(self, name: str, part: tuple[slice, ...]) -> Tensor:
        (adapter,) = (one for one, _ in self._adapters if name in one.whole)
        return adapter.source.read_part(name, part)


@dataclass(frozen=True)
class MergedWorld:
    """A base with adapters.

    Attributes:
        config: the description of the whole.
        source: its weights.
        applied: what each adapter did.
    """

    config: WorldConfig
    source: MergedSource
    applied: tuple[Applied, ...]

    @property
    def records(self) -> tuple[Mapping[str, object], ...]:
        """The adapters as the provenance of a video names them."""
        return tuple(
            {
                "name": str(one.place),
                "weight": one.weight,
                "sha256": file_sha256(Path(one.place) / ADAPTER_WEIGHTS_FILE),
            }
            for one in self.applied
        )


def merge_adapters(
    world: str | PathLike[str],
    adapters: Sequence[Weighted],
    allow_mismatch: Collection[str] = (),
    expected: Shapes | None = None,
) -> MergedWorld:
    """Put adapters on a world, after proof that they are its own and that each changes it.

    Args:
        world: the base's folder.
        adapters: the adapters and their weights.
        allow_mismatch: kinds of difference between the base and what the adapters were trained on
            that are meant; see :mod:`nemo_cosmos.provenance.belonging`.
        expected: names and shapes of the adapted world's weights; by default those of a network
            that is built without memory, which ranks that share another network cannot do.

    Raises:
        MissingFileError: a folder or file does not exist.
        CheckpointError: a file is damaged, an adapter has tensors without a place in the world, or
            one changes nothing.
        ConfigError: an adapter is of another base, two adapters exclude each other, or one is
            named twice.
        NumericsError: an adapter holds NaN or infinity.
    """
    folder = exported_folder(world)
    config, base = read_config(folder), open_weights(folder / WEIGHTS_FILE)
    opened = [(open_adapter(one.path), one.weight) for one in adapters]
    _check_once([one for one, _ in opened])
    _check_family(folder, config, [one for one, _ in opened])
    meant = _check_base(folder, config, base, [one for one, _ in opened], allow_mismatch)
    merged = _joined(config, [one for one, _ in opened])
    source = MergedSource(base, opened)
    if expected is None:
        network = meta_network(merged, read_tokenizer_config(folder / TOKENIZER_FOLDER))
        expected = {name: tuple(value.shape) for name, value in named_tensors(network).items()}
    for adapter, _ in opened:
        _check_places(adapter, base, expected, folder)
    advice = "An adapter or the base was changed; export or copy the folders again."
    check_fit(expected, shapes_of(source.specs), source.place, "the adapted world", advice)
    applied = tuple(measure(source, base, adapter, weight) for adapter, weight in opened)
    return MergedWorld(
        replace(merged, allowed_mismatch=(*merged.allowed_mismatch, *meant)), source, applied
    )


def adapted_config(world: str | PathLike[str], adapters: Sequence[Weighted]) -> WorldConfig:
    """The description of a world with adapters; no weight is read.

    Raises:
        MissingFileError, CheckpointError, ConfigError: as :func:`merge_adapters`.
    """
    folder = exported_folder(world)
    config, opened = read_config(folder), [open_adapter(one.path) for one in adapters]
    _check_family(folder, config, opened)
    return _joined(config, opened)


def measure(
    source: MergedSource, base: SafetensorsSource, adapter: Adapter, weight: float
) -> Applied:
    """Say what an adapter does to its base.

    Raises:
        CheckpointError: nothing.
        NumericsError: it holds NaN or infinity.
    """
    tensors = ((name, adapter.source.read(name)) for name in adapter.source.specs)
    check_finite(tensors, f"the adapter '{adapter.folder}'")
    changed, squares, norms = 0, 0.0, 0.0
    own = [name for name in (*adapter.pairs, *adapter.whole) if name in base.specs]
    for name in own:
        before = base.read(name)
        square = float(source.change(adapter, name, (), before).mul_(weight).square().sum())
        changed += square > 0
        squares += square
        norms += float(before.float().square().sum())
    new = sum(name not in base.specs for name in adapter.whole)
    if not changed and not new:
        raise CheckpointError(without_effect(adapter, len(own)))
    return Applied(
        place=str(adapter.folder),
        weight=weight,
        matched=2 * len(adapter.pairs) + len(adapter.whole),
        changed=changed,
        new=new,
        num_weights=len(base.specs),
        relative=math.sqrt(squares / norms) if norms else 0.0,
    )


def _check_once(adapters: Sequence[Adapter]) -> None:
    """Require each adapter to be named once: twice the same one is hardly meant.

    Raises:
        ConfigError: one is named again.
    """
    seen: set[Path] = set()
    for adapter in adapters:
        place = adapter.folder.resolve()
        if place in seen:
            raise ConfigError(
                f"The adapter '{adapter.folder}' is named twice. Name it once; for twice its "
                f"change, write --adapter {adapter.folder}=2."
            )
        seen.add(place)


def _check_family(folder: Path, config: WorldConfig, adapters: Iterable[Adapter]) -> None:
    """Require adapters to be of the base's family, before anything else is compared.

    Raises:
        ConfigError: one is of another.
    """
    for adapter in adapters:
        family = adapter.config.world.family
        if family != config.family:
            raise ConfigError(
                f"The adapter '{adapter.folder}' is of the {family} family, but '{folder}' of the "
                f"{config.family} family. Give the adapter's own base, '{adapter.config.base}'."
            )


def _check_base(
    folder: Path,
    config: WorldConfig,
    base: SafetensorsSource,
    adapters: Iterable[Adapter],
    allowed: Collection[str],
) -> list[str]:
    """Require the base to be the one that the adapters were trained on."""
    meant: list[str] = []
    sha256: str | None = None
    for adapter in adapters:
        parts = adapter.config.world.parts(str(adapter.folder))
        meant += check_together([config.parts(str(folder)), parts], allowed)
        if WEIGHTS in allowed:
            continue
        sha256 = sha256 or weights_sha256(base)
        if sha256 != adapter.config.base_sha256:
            raise ConfigError(
                f"The adapter '{adapter.folder}' was trained on '{adapter.config.base}' "
                f"({adapter.config.base_preset}, weights {adapter.config.base_sha256[:12]}), but "
                f"'{folder}' ({config.preset}, weights {sha256[:12]}) has other weights of the "
                "same shapes. Give the adapter's own base; if you mean this one, such as another "
                f"training of it, add --allow-mismatch {WEIGHTS}."
            )
    return meant


def _joined(config: WorldConfig, adapters: Sequence[Adapter]) -> WorldConfig:
    """The description of a base with all of the adapters' controls.

    Raises:
        ConfigError: two adapters exclude each other.
    """
    owners: dict[str, Adapter] = {}
    known = {spec.name for spec in config.controls}
    controls = list(config.controls)
    for adapter in adapters:
        for spec in adapter.config.world.controls:
            if spec.name in known:
                continue
            if spec.name in owners:
                raise ConfigError(
                    f"'{owners[spec.name].folder}' and '{adapter.folder}' both bring the control "
                    f"'{spec.name}', each with its own embedder, and a world has one. Leave one of "
                    "them out, or merge the first into a world and train the second on that."
                )
            owners[spec.name] = adapter
            controls.append(spec)
    bringing = list(dict.fromkeys(one.folder for one in owners.values()))
    if len(bringing) > 1:
        raise ConfigError(
            f"'{bringing[0]}' and '{bringing[1]}' each bring a control of their own, and were "
            "trained without the other's. Merge the first into a world and train the second on "
            "that."
        )
    # What a control changes of the network's inputs and of the process is the adapted world's.
    chief = next(iter(owners.values()), adapters[0] if adapters else None)
    if chief is None:
        return config
    return replace(chief.config.world, controls=tuple(controls), preset=config.preset)


def _check_places(
    adapter: Adapter,
    base: SafetensorsSource,
    expected: Shapes,
    folder: Path,
) -> None:
    """Require every tensor of an adapter to have its place, and the place its shape."""
    specs = adapter.source.specs
    found: dict[str, tuple[int, ...]] = {
        name: (specs[b].shape[0], specs[a].shape[1]) for name, (a, b) in adapter.pairs.items()
    }
    found |= {name: specs[name].shape for name in adapter.whole}
    wrong = [
        name
        for name in found
        if expected.get(name) != found[name] or (name in adapter.pairs and name not in base.specs)
    ]
    if wrong:
        name = wrong[0]
        pair = [name.removesuffix(WEIGHT) + suffix for suffix in (LORA_A, LORA_B)]
        own = "' and '".join(pair) if name in adapter.pairs else name
        there = expected.get(name, "no such weight")
        raise CheckpointError(
            f"The adapter '{adapter.folder}' does not fit '{folder}': of "
            f"{counted(len(found), 'weight')}, {len(wrong)} without a place there, such "
            f"as '{own}' for {found[name]}, where the world has {there}. It is an adapter of "
            f"'{adapter.config.base}' ({adapter.config.base_preset}); give that world."
        )
