"""Layout videos of a request: what a map draws into each camera's picture, a video for each.

A model that is steered by layouts takes their latent. A person has videos, or a recording has them
beside its own (``{key}.layout.mp4``); they are read at the model's rate and size as given frames
are, and encoded by the model's tokenizer chunk by chunk.

Shape suffixes: T frames, H height, W width, C colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nemo_cosmos.batch import Views
from nemo_cosmos.controls import LAYOUT
from nemo_cosmos.errors import InputError
from nemo_cosmos.inference.given import FrameSource
from nemo_cosmos.inference.views import GivenViews, view_sources
from nemo_cosmos.video import Video

if TYPE_CHECKING:
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer


@dataclass(frozen=True)
class GivenLayouts:
    """The layout videos of all cameras of a request.

    Attributes:
        given: the source of each camera.
    """

    given: GivenViews

    @classmethod
    def open(cls, layout: Any, views: Views) -> GivenLayouts | None:
        """Look at layout videos without decoding them; None for a latent, which is an array.

        Args:
            layout: a folder with a video of each camera, the video of the only one, or sources by
                the camera's name.
            views: the cameras.

        Raises:
            InputError: a camera has none, or one is of no camera.
            MissingFileError: there is no such file.
            VideoError: they differ in size, rate or length, or one is no video.
        """
        if isinstance(layout, Video) or (_is_path(layout) and str(layout).endswith(".mp4")):
            sources: dict[str, FrameSource] = {views[0]: layout}
        elif _is_path(layout) and not str(layout).endswith((".npy", ".npz")):
            sources = dict(view_sources(layout))
        elif isinstance(layout, Mapping) and list(layout) != [LAYOUT.name]:
            sources = dict(cast("Mapping[str, FrameSource]", layout))
        else:
            return None
        for view in sources:
            if view not in views:
                raise InputError(
                    f"There is a layout video of '{view}', which is no camera of the rig; it has "
                    f"{', '.join(views)}. Rename the video, or choose another rig."
                )
        if missing := [view for view in views if view not in sources]:
            raise InputError(
                f"There is no layout video of {', '.join(missing)}. Give one for each camera: "
                f"{', '.join(f'{view}.mp4' for view in views)}."
            )
        return cls(GivenViews.open(sources, views))

    def check(self, num_frames: int, fps: float) -> None:
        """Require the frames of the whole video to make.

        Raises:
            WrongFrameCountError: a layout video has fewer.
        """
        for view in self.given.by_view:
            self.given.choose(view, num_frames, fps, "first", "Layout of view")

    def read(self, num_frames: int, fps: float, size_hw: tuple[int, int]) -> dict[str, np.ndarray]:
        """Decode the layout of each camera for the whole video, uint8 (T,H,W,C)."""
        return self.given.read(0, num_frames, fps, "first", size_hw)


def _is_path(layout: object) -> bool:
    return isinstance(layout, str | PathLike)


def is_layout_video(name: str, path: str | PathLike[str]) -> bool:
    """Whether a control's path leads to layout videos instead of to arrays."""
    return name == LAYOUT.name and (Path(path).is_dir() or Path(path).suffix == ".mp4")


def encode_layouts(
    tokenizer: VideoTokenizer, layouts_by_view: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The latent of layout videos, views one after another, as a model's batch has it.

    Args:
        tokenizer: the world's tokenizer.
        layouts_by_view: uint8 (T,H,W,C) of each camera, in the order of the views.
    """
    import torch

    from nemo_cosmos.video import frames_to_tensor

    with torch.no_grad():
        latents = [
            tokenizer.encode(frames_to_tensor(frames)[None])[0]
            for frames in layouts_by_view.values()
        ]
    return {LAYOUT.name: torch.cat(latents, dim=1).float().cpu().numpy()}
