"""What a run of curation looks at before the first source: sources, output, room."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from data_curation.executors import Executor
from data_curation.settings import CurateSettings
from data_curation.sources.apart import check_results_apart
from data_curation.sources.find import find_sources
from data_curation.sources.robot_data import refuse_robot_data
from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import counted
from nemo_cosmos.storage import work_folder_of
from nemo_cosmos.storage.outputs import check_output_folder, check_room, folder_bytes

LEAST_SHARE = 0.25
"""Of the sources' size: less than this is left only where most is rejected."""


def curation_checks(
    source: str,
    output: str | os.PathLike[str],
    settings: Callable[[], tuple[CurateSettings, Executor]],
    work: str | os.PathLike[str] | None = None,
) -> list[Check]:
    """Return what to look at before a run.

    Args:
        source: a folder, file, glob pattern or list of videos, on disk or in a bucket.
        output: the folder of the results, on disk or in a bucket.
        settings: makes the settings of the stages and the executor, which may be refused.
        work: the local folder that a run for a bucket works in.
    """
    folder = cache(lambda: work_folder_of(output, work))
    found = cache(lambda: find_sources(source, folder(), output))

    def options() -> str:
        chosen, executor = settings()
        left_out = f", without {', '.join(chosen.skip)}" if chosen.skip else ""
        return f"{type(executor).__name__}{left_out}"

    def room() -> str:
        size = sum(folder_bytes(clip.source) for clip in found() if not clip.stored)
        size += sum(item.size_bytes for clip in found() for item in clip.stored)
        needed = max(size * LEAST_SHARE - folder_bytes(folder()), 0)
        return check_room(folder(), needed, f"clips of {counted(len(found()), 'video')}")

    def writable() -> str:
        return f"'{check_output_folder(folder())}' can be written"

    def sources() -> str:
        if not settings()[0].videos_only:
            refuse_robot_data(source, found())
        check_results_apart(source, output, folder(), found())
        return counted(len(found()), "video")

    return [
        Check("options", options),
        Check("output", writable),
        Check("sources", sources),
        Check("room", room),
    ]
