"""``nemo-cosmos import`` and ``export``: world models and tokenizers between formats, streaming.

A model is never in memory as a whole: each tensor is read, renamed, and written before the next.
Nothing is unpickled that could run code, and nothing is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from nemo_cosmos.checklist import Check, require
from nemo_cosmos.checkpoint.adapters.folder import (
    Adapter,
    check_effect,
    is_adapter,
    open_adapter,
)
from nemo_cosmos.checkpoint.adapters.merged import Weighted, merge_adapters
from nemo_cosmos.checkpoint.conversion_checks import Place, conversion_checks
from nemo_cosmos.checkpoint.foreign import (
    NEMO,
    formats_of,
    is_foreign_tokenizer,
    open_world,
    tokenizer_place,
)
from nemo_cosmos.checkpoint.formats.nemo_weights import write_nemo_weights
from nemo_cosmos.checkpoint.formats.tensors import (
    TensorSource,
    TensorStream,
    finite,
    named_tensors,
    stream_of,
)
from nemo_cosmos.checkpoint.tokenizer.files import (
    check_tokenizer_files,
    export_diffusers_vae,
    export_original_tokenizer,
    import_tokenizer,
)
from nemo_cosmos.checkpoint.world.config import (
    DESCRIPTION_FILE,
    TOKENIZER_FOLDER,
    TOKENIZER_FORMAT,
    WEIGHTS_FILE,
    WorldConfig,
    format_of,
    read_config,
    write_config,
)
from nemo_cosmos.checkpoint.world.folder import (
    check_tokenizer,
    check_weights,
    meta_network,
    open_weights,
    write_world,
)
from nemo_cosmos.errors import ConfigError, InputError, counted
from nemo_cosmos.home import expanded
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.options import check_place, check_value
from nemo_cosmos.progress import Progress
from nemo_cosmos.provenance.belonging import Parts, check_together
from nemo_cosmos.storage import atomic_path, exported_folder

TOKENIZER_FORMATS = ("diffusers", "cosmos")
WORLD = "world"
"""Our own folder, of a world that adapters change."""


def import_checkpoint(
    source: Place,
    target: Place,
    *,
    model: str | None = None,
    tokenizer: Place | None = None,
    use_average: bool = True,
    progress: Progress | None = None,
    allow_mismatch: Collection[str] = (),
) -> Path:
    """Turn a checkpoint of another format into a world folder, or a tokenizer folder.

    Args:
        source: a diffusers folder; an original ``model.pt``, or a folder with it; the files of an
            original tokenizer; or a NeMo distributed checkpoint.
        target: the new folder.
        model: the weights' preset, where the files do not say it.
        tokenizer: the world model's tokenizer, where the source has none: a tokenizer folder of
            ours, of diffusers, or of original files.
        use_average: whether to take the moving average of the weights, where a NeMo checkpoint has
            one.
        progress: called after every tensor.
        allow_mismatch: kinds of difference between model and tokenizer that are meant; see
            :mod:`nemo_cosmos.provenance.belonging`.

    Returns:
        ``target``.

    Raises:
        MissingFileError: a file does not exist.
        ConfigError: the tokenizer is not the one that the model records.
        CheckpointError: a file is damaged, could run code when it is loaded, or is of another
            model; names what is missing, unknown or of another shape.
        NumericsError: a weight is NaN or infinite.
        InputError: ``target`` exists, or something has to be named.
    """
    check_place("source", source)
    check_place("target", target)
    place, folder = Path(source), Path(target)
    require(conversion_checks(place, folder))
    opened = _open(place, model, tokenizer, use_average, allow_mismatch)
    if isinstance(opened, VideoTokenizer):
        opened.save(folder)
        return folder
    write_world(
        folder,
        opened.config,
        opened.stream,
        opened.tokenizer,
        place=opened.place,
        progress=progress,
    )
    return folder


@dataclass(frozen=True)
class _Opened:
    """A world model of another format, whose names and shapes fit, before its weights are read."""

    config: WorldConfig
    stream: TensorStream
    tokenizer: VideoTokenizer
    place: str


def _open(
    place: Path,
    model: str | None,
    tokenizer: Place | None,
    use_average: bool,
    allow_mismatch: Collection[str],
) -> _Opened | VideoTokenizer:
    """Open a checkpoint of another format; the arguments are those of the import."""
    if is_foreign_tokenizer(place):
        if tokenizer is not None:
            raise InputError(
                f"'{place}' is a tokenizer itself, so --tokenizer '{tokenizer}' has no use. Leave "
                "it out."
            )
        return import_tokenizer(place, model)
    encoder = tokenizer_place(place, None if tokenizer is None else Path(tokenizer))
    found = import_tokenizer(encoder)
    world = open_world(place, found.config, model, use_average)
    parts = [world.config.parts(world.place), Parts(str(encoder), tokenizer=found.describe())]
    meant = tuple(check_together(parts, allow_mismatch))
    config = replace(world.config, allowed_mismatch=(*world.config.allowed_mismatch, *meant))
    expected = {
        name: tuple(value.shape)
        for name, value in named_tensors(meta_network(world.config, found.config)).items()
    }
    return _Opened(config, world.stream(expected), found, world.place)


def import_checks(
    source: Place,
    target: Place,
    *,
    model: str | None = None,
    tokenizer: Place | None = None,
    use_average: bool = True,
    allow_mismatch: Collection[str] = (),
) -> list[Check]:
    """Return what to look at before an import; the arguments are those of the import."""

    def weights() -> str:
        opened = _open(Path(source), model, tokenizer, use_average, allow_mismatch)
        if isinstance(opened, VideoTokenizer):
            return f"a tokenizer, {opened.config.name}"
        return (
            f"{counted(len(opened.stream.specs), 'tensor')} of "
            f"{opened.config.preset or 'its own size'}"
        )

    return [*conversion_checks(source, target), Check("weights", weights)]


def export_checks(
    source: Place,
    target: Place,
    format: str,
    adapters: Sequence[Weighted] = (),
    allow_mismatch: Collection[str] = (),
) -> list[Check]:
    """Return what to look at before an export; the arguments are those of the export."""
    place = _place_of(source)

    def world() -> str:
        if is_adapter(place):
            _check_adapter_export(format, place, adapters)
            check_effect(adapter := open_adapter(place))
            return f"an adapter of '{adapter.config.base}'"
        if format_of(place) == TOKENIZER_FORMAT:
            _check_format(format, TOKENIZER_FORMATS)
            return f"a tokenizer, {check_tokenizer_files(place).name}"
        config = read_config(place)
        _check_world_format(format, config.family, adapters, place)
        tokenizer = VideoTokenizer.from_folder(place / TOKENIZER_FOLDER)
        check_tokenizer(config, tokenizer, place)
        net = check_weights(config, tokenizer.config, place)
        if adapters:
            merged = merge_adapters(place, adapters, allow_mismatch)
            return "; ".join(one.words() for one in merged.applied)
        return f"{counted(len(named_tensors(net)), 'tensor')}, {config.preset or 'its own size'}"

    return [*conversion_checks(place, target), Check("world", world)]


def export_checkpoint(
    source: Place,
    target: Place,
    format: str,
    progress: Progress | None = None,
    *,
    adapters: Sequence[Weighted] = (),
    allow_mismatch: Collection[str] = (),
    say: Callable[[str], object] = print,
) -> Path:
    """Turn a world, with adapters or without, an adapter or a tokenizer into another format.

    Args:
        source: a world folder, such as ``<run>/export``, a tokenizer's, or an adapter's.
        target: the new folder.
        format: ``"nemo"``, a format of the model's family, such as ``"diffusers"``, or with
            adapters ``"world"``, our own.
        progress: called after every tensor.
        adapters: what is merged into the world, each with its weight.
        allow_mismatch: kinds of difference between world and adapters that are meant; see
            :mod:`nemo_cosmos.provenance.belonging`.
        say: takes a line about what each adapter did.

    Returns:
        ``target``.

    Raises:
        ConfigError: an unknown format, one that cannot express such a model, or an adapter of
            another world.
        MissingFileError: a file does not exist.
        CheckpointError: a file is damaged.
        InputError: ``target`` exists.
    """
    check_place("target", target)
    check_value("format", format, str)
    place, folder = _place_of(source), Path(target)
    require(conversion_checks(place, folder))
    if is_adapter(place):
        write = _check_adapter_export(format, place, adapters)
        with atomic_path(folder) as temporary:
            write(temporary, open_adapter(place))
        return folder
    if format_of(place) == TOKENIZER_FORMAT:
        if adapters:
            raise InputError(f"'{place}' is a tokenizer, which has no adapters. Name a world.")
        _export_tokenizer(VideoTokenizer.from_folder(place), folder, format)
        return folder
    config = read_config(place)
    _check_world_format(format, config.family, adapters, place)
    tokenizer = VideoTokenizer.from_folder(place / TOKENIZER_FOLDER)
    check_tokenizer(config, tokenizer, place)
    net = check_weights(config, tokenizer.config, place)
    weights: TensorSource = open_weights(place / WEIGHTS_FILE)
    if adapters:
        merged = merge_adapters(place, adapters, allow_mismatch)
        for one in merged.applied:
            say(one.words())
        config, weights = merged.config, merged.source
        net = meta_network(config, tokenizer.config)
    _write_world(folder, format, config, _WatchedSource(weights, progress), net, tokenizer)
    return folder


def _write_world(
    folder: Path,
    format: str,
    config: WorldConfig,
    watched: _WatchedSource,
    net: nn.Module,
    tokenizer: VideoTokenizer,
) -> None:
    """Write a world in a format that its family has, whole or not at all."""
    formats = formats_of(config.family)
    if format == WORLD:
        write_world(folder, config, stream_of(watched), tokenizer, place=watched.place)
        return
    # A conversion that fails half way leaves nothing at the new folder.
    with atomic_path(folder) as temporary:
        if formats is not None and format != NEMO:
            formats.write(format, temporary, config, watched, tokenizer)
        else:
            write_nemo_weights(temporary, net, stream_of(watched))
            tokenizer.save(temporary / TOKENIZER_FOLDER)
            write_config(temporary / DESCRIPTION_FILE, config)


def _place_of(source: Place) -> Path:
    """The folder of what a person names: an adapter's, or the one that :func:`exported_folder` is.

    A run's folder means its world.
    """
    return expanded(os.fspath(source)) if is_adapter(source) else exported_folder(source)


def _check_world_format(
    format: str, family: str, adapters: Sequence[Weighted], place: Path
) -> None:
    formats = formats_of(family)
    own = (WORLD,) if adapters else ()
    if format == WORLD and not adapters:
        raise ConfigError(
            f"'{place}' is a world folder already. Give --adapter ADAPTER to merge one into a new "
            "folder, or copy it."
        )
    _check_format(format, (*(() if formats is None else formats.names), NEMO, *own))


def _check_adapter_export(
    format: str, place: Path, adapters: Sequence[Weighted]
) -> Callable[[Path, Adapter], None]:
    """Return what writes an adapter in another library's format.

    Raises:
        ConfigError: there is no such format for adapters, or adapters are put on an adapter.
    """
    if adapters:
        raise ConfigError(
            f"'{place}' is an adapter itself, and --adapter adds one to a world. Name the world "
            "first: nemo-cosmos export WORLD TARGET --adapter A --adapter B=0.5 --format world."
        )
    family = open_adapter(place).config.world.family
    writers: Mapping[str, Callable[[Path, Adapter], None]] = getattr(
        formats_of(family), "adapters", {}
    )
    if format not in writers:
        formats = formats_of(family)
        merged = format if formats is not None and format in (*formats.names, NEMO) else WORLD
        raise ConfigError(
            f"Adapters of the {family} family are not written as '{format}'. Valid are: "
            f"{', '.join(writers) or 'none'}. Merged into its world it can be exported like any: "
            f"nemo-cosmos export WORLD TARGET --adapter {place} --format {merged}."
        )
    return writers[format]


def _check_format(format: str, valid: tuple[str, ...]) -> None:
    if format not in valid:
        raise ConfigError(f"There is no format '{format}'. Valid are {', '.join(valid)}.")


def _export_tokenizer(tokenizer: VideoTokenizer, folder: Path, format: str) -> None:
    if format == NEMO:
        raise ConfigError(
            "A tokenizer is not exported as a NeMo checkpoint. Use --format diffusers or cosmos."
        )
    _check_format(format, TOKENIZER_FORMATS)
    write = export_diffusers_vae if format == "diffusers" else export_original_tokenizer
    with atomic_path(folder) as temporary:
        write(tokenizer, temporary)


class _WatchedSource:
    """A source that checks every tensor for NaN and reports its progress."""

    def __init__(self, source: TensorSource, progress: Progress | None) -> None:
        self._source, self._progress = source, progress
        self.place, self.specs = source.place, source.specs
        self._total = sum(spec.num_bytes for spec in source.specs.values())
        self._left = {name: spec.num_bytes for name, spec in source.specs.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor."""
        ((_, tensor),) = finite([(name, self._source.read(name))], f"'{self.place}'")
        self._left.pop(name, None)  # parts of several ranks read a tensor once each
        if self._progress is not None:
            self._progress(self._total - sum(self._left.values()), self._total)
        return tensor
