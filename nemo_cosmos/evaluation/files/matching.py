"""Two folders of videos: which files belong together, and whether they can be compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, NemoCosmosError
from nemo_cosmos.evaluation.files.pairs import FilePair
from nemo_cosmos.evaluation.files.views import without_views
from nemo_cosmos.provenance.belonging import Parts, check_kinds, check_together
from nemo_cosmos.storage.paths import mp4_files
from nemo_cosmos.video import probe


def compare_frame_rates(
    pairs: Mapping[str, FilePair], allowed: Collection[str] = ()
) -> tuple[list[str], dict[str, NemoCosmosError]]:
    """Whether the frames of each pair are of the same times, before anything is decoded.

    Args:
        pairs: the files by name.
        allowed: kinds of difference that are meant.

    Returns:
        the differences that were allowed, and what is wrong with each pair that cannot be compared.

    Raises:
        ConfigError: an unknown kind is allowed, or every pair has two frame rates.
        VideoError: no file is a video.
    """
    meant: list[str] = []
    refused: dict[str, NemoCosmosError] = {}
    check_kinds(allowed)
    for name, pair in pairs.items():
        if pair.truth is None:
            continue
        try:
            both = [Parts(str(file), fps=probe(file).fps) for file in (pair.generated, pair.truth)]
            meant += check_together(both, allowed)
        except InputError as error:
            refused[name] = error
    if refused and len(refused) == len(pairs):
        raise next(iter(refused.values()))
    return meant, refused


def match_videos(generated: Path, truth: Path | None) -> dict[str, FilePair]:
    """Pairs of files with the same name (or two single files), in order of name.

    Args:
        generated: a folder of mp4 files, or one file.
        truth: a folder with files of the same names, or one file; None where there is no truth.

    Raises:
        MissingFileError: a folder is missing or has no mp4, or a generated file has no truth.
    """
    for path in (generated, truth):
        if path is not None and not path.exists():
            raise MissingFileError(
                f"There is no file or folder '{path}'. Name a folder of mp4 files, or one file."
            )
    if generated.is_file() and truth is not None and truth.is_file():
        return {generated.name: FilePair(generated, truth)}
    generated_files = [generated] if generated.is_file() else without_views(mp4_files(generated))
    if not generated_files:
        raise MissingFileError(
            f"The folder '{generated}' contains no .mp4 file. Generate some first, for example "
            "with 'nemo-cosmos predict', or name another folder."
        )
    if truth is None:
        return {file.name: FilePair(file, None) for file in generated_files}
    lonely = [file.name for file in generated_files if not (truth / file.name).is_file()]
    if lonely:
        raise MissingFileError(
            f"{len(lonely)} of {len(generated_files)} generated videos have no counterpart in "
            f"'{truth}'; the first is '{lonely[0]}'. Files are matched by name: rename them, or "
            "take those out of the folder."
        )
    return {file.name: FilePair(file, truth / file.name) for file in generated_files}


def read_prompts(file: Path) -> dict[str, str]:
    """The prompts of videos, from a JSON object of file names (or stems) and texts.

    Args:
        file: the JSON file.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it contains something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"There is no file of prompts '{file}'. Name a JSON file such as "
            '{"video.mp4": "a robot waves"}.'
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # lists within lists without end
        raise ConfigError(
            f"The prompts in '{file}' cannot be read: {error}. Expected a JSON object such as "
            '{"video.mp4": "a robot waves"}.'
        ) from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ConfigError(
            f"'{file}' does not hold a prompt for each name. Expected a JSON object such as "
            '{"video.mp4": "a robot waves"}.'
        )
    return found


def prompt_of(name: str, prompts: Mapping[str, str]) -> str | None:
    """The prompt of a video by its name or stem, if there is one."""
    return prompts.get(name, prompts.get(Path(name).stem))
