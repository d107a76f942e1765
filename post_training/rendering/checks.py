"""What to look at before a folder is filled with recordings."""

from __future__ import annotations

import os
from collections.abc import Callable

from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import counted
from nemo_cosmos.storage.outputs import check_output_folder, check_room
from post_training.recordings import Recordings
from post_training.rendering.settings import FilmSettings

_BYTES_PER_PIXEL = 0.15
"""Of video and arrays together; measured on both scenes, rounded up."""


def film_checks(
    kind: Recordings,
    folder: str | os.PathLike[str],
    num_episodes: int,
    settings: FilmSettings,
    find_renderer: Callable[[], str],
) -> list[Check]:
    """Return what to look at before the first frame is drawn.

    Args:
        kind: the kind of recordings.
        folder: folder for them.
        num_episodes: number of recordings in the end.
        settings: settings of the recordings.
        find_renderer: returns the renderer's name, or raises why there is none.
    """

    def output() -> str:
        return f"'{check_output_folder(folder)}' can be written"

    def episodes() -> str:
        manifest = kind.check_settings(folder, settings.as_dict())
        found = len(manifest["episodes"]) if manifest else 0
        return f"{counted(found, kind.noun)} there, {num_episodes} wanted"

    pixels = num_episodes * settings.num_frames * settings.height * settings.width
    return [
        Check("output", output),
        Check("episodes", episodes),
        Check("renderer", find_renderer),
        Check("room", lambda: check_room(folder, pixels * _BYTES_PER_PIXEL, "recordings")),
    ]
