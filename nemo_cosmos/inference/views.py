"""Several synchronous cameras of one request: which they are, where, and what is given of each.

Shape suffixes: T frames, H height, W width, C colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.batch import Views
from nemo_cosmos.controls import RIG, Values, read_signal
from nemo_cosmos.controls.rig import fit_rig
from nemo_cosmos.data.schema import find_views_fault
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    SampleError,
    VideoError,
    WrongFrameCountError,
    counted,
)
from nemo_cosmos.inference.given import FrameSource, GivenFrames
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.storage.paths import mp4_files
from nemo_cosmos.video import is_image
from nemo_cosmos.video.resize import covering_size

if TYPE_CHECKING:
    from nemo_cosmos.models.common.generator import Generator

_NAMES = "names"


class Rig(Protocol):
    """Cameras that make a video together."""

    @property
    def views(self) -> Views:
        """Their names, in the order in which a model takes them."""
        ...

    def signal(self, height: int, width: int) -> dict[str, Array]:
        """The arrays of ``rig.npz`` for pictures of a size; empty where they are unknown."""
        ...


@dataclass(frozen=True)
class RecordedRig:
    """A rig as data have it: the names of the cameras, and perhaps where they are.

    Attributes:
        views: names of the cameras.
        values: the arrays of ``rig.npz``; empty where only the names are known.
    """

    views: Views
    values: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (fault := find_views_fault(self.views)) is not None:
            raise ConfigError(f"The rig has the views {list(self.views)}, {fault}")
        if self.values:
            RIG.check(self.values, 1)
            if len(self.values["poses"]) != len(self.views):
                raise SampleError(
                    f"The rig has {len(self.values['poses'])} cameras, but {len(self.views)} names "
                    f"({', '.join(self.views)}). Name each camera once, in the order of its rows."
                )

    @classmethod
    def read(cls, file: str | PathLike[str], views: Iterable[str] = ()) -> RecordedRig:
        """Read ``rig.npz``.

        Args:
            file: the file.
            views: names of its rows; by default those that it holds as ``names``.

        Raises:
            MissingFileError: there is no such file.
            SampleError: it is no rig, or nobody names its cameras.
        """
        return cls.of(RIG.values(read_signal(file)), views, f"'{file}'")

    @classmethod
    def of(cls, values: Values, views: Iterable[str] = (), where: str = "the rig") -> RecordedRig:
        """Make a rig of the arrays of ``rig.npz``; see :meth:`read`."""
        names = tuple(views) or tuple(str(name) for name in values.get(_NAMES, ()))
        if not names:
            raise SampleError(
                f"{where} does not name its cameras. Write their names into it as 'names', or give "
                "them in the order of its rows (--views front,left,right)."
            )
        RIG.check_given(values, 1, where)
        return cls(names, values)

    def signal(self, height: int, width: int) -> dict[str, Array]:
        """The arrays of ``rig.npz`` for pictures that were scaled and cropped to a size."""
        if not self.values:
            return {}
        sizes = {(round(h), round(w)) for h, w in np.asarray(self.values["size"], float)}
        if len(sizes) > 1:
            raise SampleError(
                f"The rig is of pictures of several sizes ({sorted(sizes)}, height and width); a "
                "model makes all of one. Resize them and their intrinsics to one first."
            )
        (own,) = sizes
        size = (height, width)
        return fit_rig(self.values, covering_size(own[0], own[1], size), size)


def rig_arrays(rig: Rig, height: int, width: int) -> dict[str, Array]:
    """The numbers of a rig, without the names."""
    return {name: array for name, array in rig.signal(height, width).items() if name != _NAMES}


def find_rig(
    rig: Rig | None, control: Mapping[str, Any], frames: object, generator: Generator
) -> Rig | None:
    """Return the cameras of a request, after a check against the model; None for one camera.

    Args:
        rig: the request's rig, if it names one.
        control: the request's control, whose ``rig`` may name its cameras.
        frames: what is continued.
        generator: the model.

    Raises:
        InputError: the model makes several cameras and none is named, or the other way round, or
            what is given does not belong to them.
    """
    from nemo_cosmos.models.common.generator import ViewsGenerator, max_views_of

    most = max_views_of(generator)
    if most == 1:
        if rig is not None or isinstance(frames, GivenViews):
            raise InputError(
                "This model makes the video of one camera and takes neither a rig nor frames by "
                "camera. Use a model of a *_multiview recipe."
            )
        return None
    if rig is None and RIG.name in control:
        rig = RecordedRig.of(RIG.values(control[RIG.name]))
    if rig is None:
        raise InputError(
            "This model makes what several cameras see together. Say which they are: a rig by its "
            "name, such as six, or a file (--rig rig.npz), or at least their names (--views)."
        )
    if len(rig.views) > most:
        raise InputError(f"The rig has {len(rig.views)} cameras; this model takes up to {most}.")
    if isinstance(frames, GivenFrames) and len(rig.views) > 1:
        raise InputError(
            f"The rig has {len(rig.views)} cameras, but the frames are of one. Give a folder with "
            "an image or a video of each: front.mp4, left.mp4."
        )
    if isinstance(frames, GivenViews):
        frames.check_views(rig.views)
        allowed = generator.max_given_views if isinstance(generator, ViewsGenerator) else 0
        if len(frames.whole) > allowed:
            raise InputError(
                f"{counted(len(frames.whole), 'view')} to be given as a whole, but this model was "
                f"trained to be given {allowed or 'none'} (model.process.views.max_given). Give "
                "first frames instead."
            )
    return rig


@dataclass(frozen=True)
class GivenViews:
    """What is continued, by the name of the camera: images or videos of the same moments.

    Attributes:
        by_view: the source of each camera that has one.
        whole: cameras whose videos are given from begin to end.
    """

    by_view: Mapping[str, GivenFrames]
    whole: Views = ()

    @classmethod
    def open(cls, sources: Mapping[str, FrameSource], whole: Iterable[str] = ()) -> GivenViews:
        """Look at sources without decoding them.

        Raises:
            InputError: there is none, one is neither frames nor a path, or one that is to be given
                as a whole is not among them.
            MissingFileError: there is no such file.
            VideoError: they differ in size, rate or length, or one is no video.
        """
        chosen = tuple(whole)
        if not sources:
            raise InputError("No view is given. Give an image or a video for each camera.")
        for view in chosen:
            if view not in sources:
                raise InputError(
                    f"The view '{view}' is to be given as a whole, but there is no video of it "
                    f"(there are {', '.join(sources)}). Put it into the folder, or leave it out."
                )
        by_view = {view: GivenFrames.open(source) for view, source in sources.items()}
        given = cls(by_view, chosen)
        given._check_alike(by_view, lambda one: f"{one.size_hw[1]}x{one.size_hw[0]} pixels")
        for group in (given.begun, chosen):
            videos = {view: by_view[view] for view in group}
            given._check_alike(videos, lambda one: counted(len(one.pts_s), "frame"))
        rated = {view: one for view, one in by_view.items() if one.fps is not None}
        given._check_alike(rated, lambda one: f"{one.fps:g} frames/s", _is_same_rate)
        return given

    @property
    def begun(self) -> Views:
        """The cameras of which the first frames are given."""
        return tuple(view for view in self.by_view if view not in self.whole)

    @property
    def first(self) -> GivenFrames | None:
        """The first of the sources that are continued; None where whole views alone are given."""
        return self.by_view[self.begun[0]] if self.begun else None

    def check_views(self, views: Views) -> None:
        """Require the sources to be those of a rig.

        Args:
            views: the rig's cameras.

        Raises:
            InputError: one is no camera of the rig, or of some cameras first frames are missing.
        """
        unknown = [view for view in self.by_view if view not in views]
        if unknown:
            raise InputError(
                f"'{unknown[0]}' is no camera of the rig, which has {', '.join(views)}. Rename its "
                "video, or choose another rig."
            )
        missing = [view for view in views if view not in self.by_view]
        if self.begun and missing:
            raise InputError(
                f"First frames are given of {', '.join(self.begun)}, but not of "
                f"{', '.join(missing)}. Give an image or a video of each camera, or of none."
            )
        if len(self.whole) == len(views):
            raise InputError("All views are given as a whole; leave one to be generated.")

    def read(
        self,
        num_frames: int,
        total_frames: int,
        fps: float,
        begin: str | int,
        size_hw: tuple[int, int],
    ) -> dict[str, np.ndarray]:
        """Decode what is given of each camera, scaled and cropped, uint8 (T,H,W,3).

        Args:
            num_frames: frames to give of the cameras that are continued.
            total_frames: frames of the cameras that are given as a whole.
            fps: the rate of the video to make, in Hz.
            begin: which frames are given; whole views begin with the same one.
            size_hw: height and width of the video to make.

        Raises:
            WrongFrameCountError: a source has fewer frames.
            VideoError: a frame is damaged.
        """
        frames = {}
        for view, source in self.by_view.items():
            wanted = total_frames if view in self.whole else num_frames
            numbers = self.choose(view, wanted, fps, begin)
            frames[view] = source.read(numbers, size_hw)
        return frames

    def choose(
        self, view: str, num_frames: int, fps: float, begin: str | int, kind: str = "View"
    ) -> np.ndarray:
        """Numbers of a camera's frames to give; see :meth:`GivenFrames.choose`.

        Args:
            view: the camera.
            num_frames: how many frames.
            fps: the rate of the video to make, in Hz.
            begin: which frames are given.
            kind: what the frames are of, for messages.
        """
        try:
            start = "first" if view in self.whole and begin == "last" else begin
            return self.by_view[view].choose(num_frames, fps, start)
        except WrongFrameCountError as error:
            raise WrongFrameCountError(f"{kind} '{view}': {error}") from error

    @staticmethod
    def _check_alike(
        sources: Mapping[str, GivenFrames],
        describe: Callable[[GivenFrames], str],
        is_same: Callable[[GivenFrames, GivenFrames], bool] | None = None,
    ) -> None:
        names = list(sources)
        for view in names[1:]:
            first, other = sources[names[0]], sources[view]
            same = describe(first) == describe(other) if is_same is None else is_same(first, other)
            if not same:
                raise VideoError(
                    f"The views do not belong together: '{names[0]}' has {describe(first)}, "
                    f"'{view}' has {describe(other)}. Cameras must show the same moments: cut and "
                    "resize all to one length, size and rate."
                )


def _is_same_rate(first: GivenFrames, other: GivenFrames) -> bool:
    """Whether two sources that have a frame rate have the same."""
    return first.fps is not None and other.fps is not None and is_same_rate(first.fps, other.fps)


def view_sources(folder: str | PathLike[str]) -> dict[str, Path]:
    """The files of a folder of views: ``front.mp4``, ``left.png``, ... by the camera's name.

    Raises:
        MissingFileError: there is no such folder, or nothing in it.
        InputError: a camera has two files.
    """
    place = Path(folder)
    if not place.is_dir():
        raise MissingFileError(
            f"There is no folder '{folder}'. For several cameras give a folder with an image or a "
            "video of each, named by its camera: front.mp4, left.mp4."
        )
    images = [file for file in sorted(place.iterdir()) if file.is_file() and is_image(file)]
    sources: dict[str, Path] = {}
    for file in [*mp4_files(place), *images]:
        if file.stem in sources:
            raise InputError(
                f"The camera '{file.stem}' has two files, '{sources[file.stem].name}' and "
                f"'{file.name}'. Leave one."
            )
        sources[file.stem] = file
    if not sources:
        raise MissingFileError(
            f"'{folder}' holds no view. Put an image or a video of each camera into it, named by "
            "its camera: front.mp4, left.mp4."
        )
    return sources
