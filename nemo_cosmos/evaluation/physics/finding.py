"""Find the objects of a video by their colours, and where they are in the world.

The camera stands still and objects have vivid colours, each of its own. A pixel shows an object as
far as its colour lies on the way from the empty scene's colour there to the object's. Brightness
is divided out first, so that shading and shadows do not count.

Shape suffixes: T frames, H height, W width, N objects; 2 coordinates in the plane of motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values
from nemo_cosmos.controls.objects import fit_objects
from nemo_cosmos.errors import SampleError
from nemo_cosmos.evaluation.metric import Case, Frames

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_SHARE = 0.2
"""Share of its usual size that an object has to show to be found."""

_MIN_OPACITY, _MAX_STRAY = 0.5, 0.5
_MIN_CHROMA = 0.08
_MAX_STRETCH = 0.02


@dataclass(frozen=True)
class Track:
    """Where the objects of a video are.

    Attributes:
        mask_THW: number of the object that each pixel shows, from 1; 0 for none.
        position_TN2: x and z in metres of the middle of each object's largest piece; NaN where it
            is not found.
        bottom_TN: height in metres of its lowest point; NaN where it is not found.
        area_TN: pixels of its largest piece.
    """

    mask_THW: NDArray[np.uint8]
    position_TN2: Floats
    bottom_TN: Floats
    area_TN: Floats

    @property
    def is_found_TN(self) -> Bools:
        """Where each object is found."""
        return np.asarray(np.isfinite(self.position_TN2[..., 0]))


@dataclass(frozen=True)
class Scene:
    """A case as the metrics of physics see it.

    Attributes:
        generated: what the generated video shows.
        truth: what the true video shows, measured in the same way.
        mask_THW: the true masks.
        known: the arrays of ``objects.npz``, of the compared frames.
        size_px: usual area of each object.
    """

    generated: Track
    truth: Track
    mask_THW: NDArray[np.uint8]
    known: Values
    size_px: Floats

    @property
    def time_s(self) -> Floats:
        """Time of each frame."""
        return np.asarray(self.known["time_s"], np.float64)

    @property
    def mass_kg(self) -> Floats:
        """Mass of each object."""
        return np.asarray(self.known["mass_kg"], np.float64)

    @property
    def is_whole_TN(self) -> Bools:
        """Where the true video shows all of an object."""
        return np.asarray(self.known["is_whole"], bool) & self.truth.is_found_TN


_last: tuple[Case, Scene] | None = None


def see(case: Case) -> Scene:
    """Find the objects of a case. The last one is kept: all metrics look at it in turn.

    Args:
        case: a case with the true video and its ``objects``.

    Raises:
        SampleError: the masks do not fit the frames, or an object has no colour to be found by.
    """
    global _last
    if _last is not None and _last[0] is case:
        return _last[1]
    assert case.truth_THWC is not None, "every metric of this room needs the truth"
    known = case.recorded["objects"]
    known = _fitted(known, case.truth_THWC)
    mask_THW = np.asarray(known["mask"], np.uint8)
    num = len(known["mass_kg"])
    size_px = _usual_size(mask_THW, np.asarray(known["is_whole"], bool), num)
    projection = np.asarray(known["projection"], np.float64)
    palette = Palette(case.truth_THWC, mask_THW, num)
    generated, truth = (
        track(palette.segment(frames_THWC), size_px, projection)
        for frames_THWC in (case.generated_THWC, case.truth_THWC)
    )
    scene = Scene(generated, truth, mask_THW, known, size_px)
    _last = case, scene
    return scene


class Palette:
    """The colours of a scene and its objects, learned from a video whose masks are known.

    Args:
        truth_THWC: the video.
        mask_THW: number of the object at each pixel.
        num: number of objects.

    Raises:
        SampleError: an object never shows, or is as grey as the scene.
    """

    def __init__(self, truth_THWC: Frames, mask_THW: NDArray[np.uint8], num: int) -> None:
        truth_THW2 = chroma(truth_THWC)
        self._empty_HW2 = _empty_scene(truth_THW2, mask_THW)
        self._ways = []
        for number in range(1, num + 1):
            inside = mask_THW == number
            if not inside.any():
                raise SampleError(
                    f"Object {number} never shows in the true frames, so that nothing is known of "
                    "its colour. Compare more frames, or leave the clip out."
                )
            way_HW2 = np.median(truth_THW2[inside], axis=0) - self._empty_HW2
            length_HW = np.linalg.norm(way_HW2, axis=-1)
            if np.median(length_HW) < _MIN_CHROMA:
                raise SampleError(
                    f"Object {number} is as grey as what is behind it; objects are found by vivid "
                    "colours. Leave the metrics of physics out for such scenes."
                )
            self._ways.append((way_HW2, np.maximum(length_HW, _MIN_CHROMA)))

    def segment(self, frames_THWC: Frames) -> NDArray[np.uint8]:
        """Number of the object at each pixel of a video of the same scene, ``(T, H, W)``."""
        offset_THW2 = chroma(frames_THWC) - self._empty_HW2
        best_THW = np.zeros(offset_THW2.shape[:3], np.float32)
        found_THW = np.zeros(offset_THW2.shape[:3], np.uint8)
        for number, (way_HW2, length_HW) in enumerate(self._ways, 1):
            opacity_THW = (offset_THW2 * way_HW2).sum(-1) / length_HW**2
            rest_THW2 = offset_THW2 - opacity_THW[..., None] * way_HW2
            stray_THW = np.linalg.norm(rest_THW2, axis=-1) / length_HW
            fits = (opacity_THW > _MIN_OPACITY) & (stray_THW < _MAX_STRAY * opacity_THW)
            likeness_THW = np.where(fits, opacity_THW - stray_THW, 0)
            found_THW[likeness_THW > best_THW] = number
            best_THW = np.maximum(best_THW, likeness_THW)
        return found_THW


def chroma(frames_THWC: Frames) -> NDArray[np.float32]:
    """Two opponent colours of each pixel, red-green and yellow-blue, free of its brightness."""
    red, green, blue = np.moveaxis(frames_THWC.astype(np.float32), -1, 0)
    total = red + green + blue + 24  # of black pixels the codec's noise would be all
    return np.stack([(red - green) / total, (red + green - 2 * blue) / (2 * total)], axis=-1)


def track(mask_THW: NDArray[np.uint8], size_px: Floats, projection: Floats) -> Track:
    """Where objects are, by their masks.

    Args:
        mask_THW: number of the object at each pixel.
        size_px: usual area of each object.
        projection: world to homogeneous picture coordinates, ``(3, 4)``.
    """
    length, height, width = mask_THW.shape
    num = len(size_px)
    middle_TN2, low_TN2 = np.full((length, num, 2), np.nan), np.full((length, num, 2), np.nan)
    area_TN = np.zeros((length, num))
    for frame in range(length):
        for index in range(num):
            piece = _largest_piece(mask_THW[frame] == index + 1)
            area_TN[frame, index] = piece.sum()
            if piece.sum() < MIN_SHARE * size_px[index]:
                continue
            rows, columns = np.nonzero(piece)
            middle_TN2[frame, index] = (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height
            low_TN2[frame, index] = (columns.mean() + 0.5) / width, (rows.max() + 1) / height
    return Track(
        mask_THW,
        to_plane(middle_TN2, projection),
        to_plane(low_TN2, projection)[..., 1],
        area_TN,
    )


def to_plane(picture_2: Floats, projection: Floats) -> Floats:
    """Points of the plane of motion, ``(..., 2)``: x and z in metres.

    Args:
        picture_2: places in the picture, ``(..., 2)``, from (0, 0) to (1, 1).
        projection: world to homogeneous picture coordinates, ``(3, 4)``.
    """
    # u * (row 3) = row 1 and v * (row 3) = row 2, both applied to (x, 0, z, 1).
    rows = projection[:2] - picture_2[..., :, None] * projection[2]
    solved = np.linalg.solve(rows[..., [0, 2]], -rows[..., 3, None])
    return np.asarray(solved[..., 0])


def _fitted(known: Values, frames_THWC: Frames) -> Values:
    """The objects at the size of the frames; whoever crops them cuts the masks, too."""
    (length, height, width), shape = np.shape(known["mask"]), frames_THWC.shape
    if (length, height, width) == shape[:3]:
        return known
    stretch = (width * shape[1]) / (height * shape[2])
    if length != shape[0] or abs(stretch - 1) > _MAX_STRETCH:
        raise SampleError(
            f"The masks are {length} pictures of {height}x{width}, the frames {shape[0]} of "
            f"{shape[1]}x{shape[2]} (height x width). Compare at a size of the same aspect ratio "
            "as that of the recording, or cut both with nemo_cosmos.controls.fit_recorded."
        )
    return fit_objects(known, (shape[1], shape[2]))


def _usual_size(mask_THW: NDArray[np.uint8], is_whole_TN: Bools, num: int) -> Floats:
    """Median area of each object over the frames that show all of it, or any of it."""
    area_TN = np.stack([(mask_THW == number).sum((1, 2)) for number in range(1, num + 1)], axis=1)
    sizes = []
    for index in range(num):
        shown = is_whole_TN[:, index] if is_whole_TN[:, index].any() else area_TN[:, index] > 0
        sizes.append(np.median(area_TN[shown, index]) if shown.any() else 0.0)
    return np.maximum(np.array(sizes, np.float64), 1.0)


def _empty_scene(
    truth_THW2: NDArray[np.float32], mask_THW: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Colour of each pixel without objects; of pixels that always show one, the usual colour."""
    free = mask_THW == 0
    # Around an object the codec and the averaging of samples mix its colour in.
    kernel = np.ones((3, 3), np.uint8)
    free = np.stack([cv2.erode(frame.astype(np.uint8), kernel) > 0 for frame in free])
    # The camera stands still, so that the mean over the free frames is as good as a median.
    num_HW = free.sum(0)
    usual_2 = np.median(truth_THW2[free], axis=0) if free.any() else np.zeros(2)
    mean_HW2 = (truth_THW2 * free[..., None]).sum(0) / np.maximum(num_HW, 1)[..., None]
    return np.asarray(np.where(num_HW[..., None] > 0, mean_HW2, usual_2), np.float32)


def _largest_piece(mask_HW: Bools) -> Bools:
    """The largest connected part of a mask."""
    if not mask_HW.any():
        return mask_HW
    _, labels_HW, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8))
    return np.asarray(labels_HW == 1 + stats[1:, cv2.CC_STAT_AREA].argmax())
