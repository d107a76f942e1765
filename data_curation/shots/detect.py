"""Our own detector of shots: hard cuts, fades, dissolves and wipes from the frames' signatures.

The difference of two frames is the L1 distance of their histograms (0 to 4) plus the mean
difference of their tiny pictures. Four questions are asked of it:

1. *Hard cut*: do neighbours differ much more than the frames around them do (a fast pan differs
   everywhere), and do the frames before still differ from those after some frames later (a flash
   does not last)?
2. *Fade*: is there a stretch without any picture, and another picture after it?
3. *Dissolve, wipe*: do frames that are further apart differ much more than those before and after,
   and does every place of the pictures between them go from the old colour to the new one along a
   straight line and never back? (The picture of a moving camera does not.) It begins and ends
   where a ramp fits that progress best.
4. *Of all of these*: do the corners of the picture go on through it? Then only the light changed
   (:mod:`data_curation.shots.structure`).

All thresholds are in :class:`Thresholds`; they were chosen on the tuning half of
``benchmarks/shot_detection.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_curation.shots.signatures import Signatures, read_signatures
from data_curation.shots.structure import without_same_scenes
from data_curation.shots.transition import Transition
from nemo_cosmos.video import Source, index_frames

_BLOCK = 4096
#: What is added to both ends of a gradual transition, in its length: there the mixture is faint.
_RAMP_SPARE = 0.12
#: Two transitions are two when the pictures between them change more slowly than this share of
#: what they do on the mean.
_SLOWER = 0.6


@dataclass(frozen=True)
class Thresholds:
    """What counts as a change of shot.

    Attributes:
        cut: least difference of neighbours at a cut.
        cut_ratio: least ratio of that difference to the typical one around it.
        neighbours: frames on either side that are "around".
        flash_frames: longest flash.
        blank_contrast: a frame of less contrast holds no picture.
        gradual: least difference of the frames at both ends of a dissolve or wipe.
        gradual_ratio: least ratio of that difference to the ones before and after it.
        off_line: largest part of the change that is off the straight line from old to new.
        same_scene: correlation of two pictures from which they show one scene in another light.
        lengths: lengths of dissolves that are looked for, in frames.
    """

    cut: float = 0.35
    cut_ratio: float = 2.5
    neighbours: int = 8
    flash_frames: int = 6
    blank_contrast: float = 0.02
    gradual: float = 0.7
    gradual_ratio: float = 1.4
    off_line: float = 0.3
    same_scene: float = 0.86
    lengths: tuple[int, ...] = (6, 10, 16, 24, 36, 54, 80, 120)


DEFAULTS = Thresholds()


def detect_shots(
    source: Source, num_frames: int | None = None, thresholds: Thresholds = DEFAULTS
) -> list[Transition]:
    """Transitions of a video file, in order.

    Args:
        source: the file.
        num_frames: number of frames that it should contain.
        thresholds: limits from which a difference counts as a change.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is not a video, or is damaged.
    """
    found = find_transitions(read_signatures(source, num_frames), thresholds)
    return without_same_scenes(found, source, index_frames(source)) if found else found


def find_transitions(signatures: Signatures, thresholds: Thresholds = DEFAULTS) -> list[Transition]:
    """Transitions between the frames of these signatures, in order."""
    if len(signatures) < 3:
        return []
    found = find_fades(signatures, thresholds)
    found += [Transition(cut, cut) for cut in find_cuts(signatures, thresholds)]
    found = merged(found)
    found += find_gradual(signatures, found, thresholds)
    return merged(found)


def differences(signatures: Signatures, lag: int) -> NDArray[np.float32]:
    """Difference of each frame ``t`` to frame ``t + lag``, ``(T - lag,)``."""
    return _lagged_L1(signatures.histogram_TB, lag) + picture_differences(signatures, lag)


def picture_differences(signatures: Signatures, lag: int) -> NDArray[np.float32]:
    """The part of :func:`differences` that is linear in how far two pictures are blended."""
    pictures_TD = signatures.picture_T3HW.reshape(len(signatures), -1)
    return _lagged_L1(pictures_TD, lag) / np.float32(pictures_TD.shape[1])


def _lagged_L1(values_TD: NDArray[np.float32], lag: int) -> NDArray[np.float32]:
    count = max(len(values_TD) - lag, 0)
    result = np.zeros(count, dtype=np.float32)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        change = values_TD[start + lag : stop + lag] - values_TD[start:stop]
        result[start:stop] = np.abs(change).sum(axis=1)
    return result


def find_cuts(signatures: Signatures, thresholds: Thresholds = DEFAULTS) -> list[int]:
    """First frames of the shots that begin with a hard cut."""
    difference = differences(signatures, 1)
    cuts = []
    for index in np.flatnonzero(difference >= thresholds.cut).tolist():
        around = _around(difference, index, thresholds.neighbours)
        is_peak = difference[index] >= difference[max(0, index - 2) : index + 3].max()
        # The third-largest, so that a flash or another cut nearby does not hide this one.
        typical = float(np.sort(around)[-3]) if len(around) > 2 else 0.0
        stands_out = difference[index] >= thresholds.cut_ratio * typical
        if is_peak and stands_out and _lasts(signatures, index, index + 1, thresholds):
            cuts.append(index + 1)
    return cuts


def _around(values: NDArray[np.float32], index: int, reach: int) -> NDArray[np.float32]:
    before, after = values[max(0, index - reach) : index], values[index + 1 : index + 1 + reach]
    return np.concatenate([before, after])


def _lasts(signatures: Signatures, before: int, after: int, thresholds: Thresholds) -> bool:
    """Whether what comes after a change is another scene than what was before, and stays so.

    Args:
        signatures: signatures of all frames.
        before: last frame before the change.
        after: first frame after it.
        thresholds: limits of a flash and of another scene.
    """
    for step in range(thresholds.flash_frames + 1):
        later = min(after + step, len(signatures) - 1)
        earlier = max(before - step, 0)
        for one, other in ((before, later), (earlier, after)):
            if _difference(signatures, one, other) < thresholds.cut:
                return False
            if _correlation(signatures, one, other) > thresholds.same_scene:
                return False
    return True


def _correlation(signatures: Signatures, one: int, other: int) -> float:
    """Correlation of two luma pictures, which a change of light does not alter."""
    inside_HW = signatures.inside_HW
    a, b = (signatures.picture_T3HW[number, 0][inside_HW] for number in (one, other))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def _difference(signatures: Signatures, one: int, other: int) -> float:
    histogram, picture = signatures.histogram_TB, signatures.picture_T3HW
    histogram_L1 = np.abs(histogram[one] - histogram[other]).sum()
    return float(histogram_L1 + np.abs(picture[one] - picture[other]).mean())


def find_fades(signatures: Signatures, thresholds: Thresholds = DEFAULTS) -> list[Transition]:
    """Stretches without a picture, with the fading frames on both sides of them."""
    contrast = signatures.contrast_T
    found = _fades_of(signatures, contrast, contrast < thresholds.blank_contrast, thresholds)
    if not signatures.inside_HW.all():  # bars give a white frame contrast
        contrast = signatures.inner_contrast_T
        blank_T = (contrast < thresholds.blank_contrast) & signatures.light_T
        found = merged(found + _fades_of(signatures, contrast, blank_T, thresholds))
    return found


def _fades_of(
    signatures: Signatures,
    contrast: NDArray[np.float32],
    blank_T: NDArray[np.bool_],
    thresholds: Thresholds,
) -> list[Transition]:
    """Fades around the stretches of blank frames."""
    fades = []
    for start, end in _runs(blank_T):
        first = _climb(contrast, start - 1, -1) + 1
        last = _climb(contrast, end, 1)
        inside = first > 0 and last < len(signatures)
        is_flash = inside and end - start <= thresholds.flash_frames
        if not is_flash or _lasts(signatures, first - 1, last, thresholds):
            fades.append(Transition(first, last))
    return fades


def _climb(contrast: NDArray[np.float32], place: int, step: int) -> int:
    """Move away from a blank stretch while the contrast clearly grows; the first place beyond."""
    while 0 <= place < len(contrast):
        following = place + 2 * step
        if not 0 <= following < len(contrast):
            return place
        if contrast[following] < 1.05 * contrast[place]:
            return place
        place += step
    return place


def _runs(chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Stretches of true, end exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def find_gradual(
    signatures: Signatures, known: list[Transition], thresholds: Thresholds = DEFAULTS
) -> list[Transition]:
    """Dissolves and wipes that do not touch the transitions known already."""
    candidates: list[tuple[float, Transition]] = []
    taken = np.zeros(len(signatures) + 1, dtype=bool)
    for transition in known:
        taken[transition.start : max(transition.end, transition.start + 1)] = True
    for length in thresholds.lengths:
        candidates += _gradual_of(signatures, length, taken, thresholds)
    every = [transition for _, transition in candidates]
    found: list[Transition] = []
    for _, transition in sorted(candidates, reverse=True):
        if not _touches(transition, found) and not _holds_two(transition, every, signatures):
            found.append(transition)
    return [with_fitted_ends(signatures, each, [*known, *found]) for each in found]


def _touches(transition: Transition, others: Iterable[Transition]) -> bool:
    return any(transition.start <= each.end and each.start <= transition.end for each in others)


def _holds_two(long: Transition, others: Iterable[Transition], signatures: Signatures) -> bool:
    """Whether two transitions with a short shot between them look like one.

    In one long transition the pictures between two parts of it change as fast as elsewhere in it.
    """
    most = (long.end - long.start) // 2
    inside = [
        each
        for each in others
        if long.start <= each.start and each.end <= long.end and each.end - each.start <= most
    ]
    usual = _picture_change(signatures, long.start, long.end) / (long.end - long.start)
    return any(
        _picture_change(signatures, one.end, other.start)
        < _SLOWER * usual * (other.start - one.end)
        for one in inside
        for other in inside
        if one.end < other.start
    )


def _picture_change(signatures: Signatures, one: int, other: int) -> float:
    picture_T3HW = signatures.picture_T3HW
    other = min(other, len(signatures) - 1)
    return float(np.abs(picture_T3HW[one] - picture_T3HW[other]).mean())


def with_fitted_ends(
    signatures: Signatures, found: Transition, others: Sequence[Transition]
) -> Transition:
    """A gradual transition from its first mixed frame to its last.

    It is found in one of few lengths. How far the pictures around it are on their way from the old
    to the new one is fitted by a ramp between two levels, whose ends are searched for.
    """
    length = found.end - found.start
    first = max([0, found.start - length, *(t.end for t in others if t.end <= found.start)])
    last = min(
        [len(signatures), found.end + length, *(t.start for t in others if t.start >= found.end)]
    )
    pictures_TD = signatures.picture_T3HW[first:last].reshape(last - first, -1)
    middle_D = pictures_TD.mean(axis=0)
    edge = max(1, length // 6)
    start, end = found.start - first, found.end - first
    way_D = (
        pictures_TD[end : end + edge].mean(axis=0) if end < len(pictures_TD) else pictures_TD[-1]
    )
    way_D = way_D - pictures_TD[max(0, start - edge) : max(start, 1)].mean(axis=0)
    progress_T = (pictures_TD - middle_D) @ way_D
    step = max(1, length // 24)
    starts = range(max(1, start - length), start + length // 3 + 1, step)
    ends = range(end - length // 3, min(len(progress_T) - 1, end + length) + 1, step)
    _, start, end = min(
        (_ramp_misfit(progress_T, a, b), a, b) for a in starts for b in ends if a < b
    )
    spare = 1 + round(_RAMP_SPARE * (end - start))
    return Transition(max(first + start - spare, first), min(first + end + spare, last))


def _ramp_misfit(progress_T: NDArray[np.float32], start: int, end: int) -> float:
    """Squared error of the best ramp that leaves one level at ``start`` for another at ``end``."""
    before, after = progress_T[:start].mean(), progress_T[end:].mean()
    share = np.clip((np.arange(len(progress_T)) - start + 1) / (end - start + 1), 0, 1)
    return float(((before + share * (after - before) - progress_T) ** 2).sum())


def _gradual_of(
    signatures: Signatures, length: int, taken: NDArray[np.bool_], thresholds: Thresholds
) -> list[tuple[float, Transition]]:
    """Transitions of about one length, each with how well it fits."""
    large = differences(signatures, length) >= thresholds.gradual
    # Histograms of a blend differ from both sides at once; pictures say where it begins and ends.
    difference = picture_differences(signatures, length)
    candidates = []
    for start in np.flatnonzero(large).tolist():
        end = start + length
        half = length // 2
        if difference[start] < difference[max(0, start - half) : start + half + 1].max():
            continue
        # What comes before and after must be there to be compared with.
        if taken[start : end + 1].any() or min(start, len(signatures) - 1 - end) < half:
            continue
        earlier, later = max(start - length, 0), min(end + length, len(signatures) - 1)
        picture = signatures.picture_T3HW
        before = float(np.abs(picture[start] - picture[earlier]).mean())
        after = float(np.abs(picture[later] - picture[end]).mean())
        if difference[start] < thresholds.gradual_ratio * max(before, after):
            continue
        off_line = straightness(signatures.picture_T3HW[start : end + 1])
        if off_line <= thresholds.off_line and _lasts(signatures, start, end, thresholds):
            score = difference[start] * (1 - off_line)
            candidates.append((float(score), Transition(start + 1, end)))
    return candidates


def straightness(picture_T3HW: NDArray[np.float32]) -> float:
    """How far the pictures are off the straight line from the first to the last, 0 to about 1.

    Each cell of each picture is projected on the way from its first to its last colour; progress
    that goes back is held against it like colours off the way.
    """
    way = picture_T3HW[-1] - picture_T3HW[0]
    length2_HW = np.maximum((way**2).sum(axis=0), 1e-6)
    moved = picture_T3HW - picture_T3HW[0]
    progress_THW = np.clip((moved * way).sum(axis=1) / length2_HW, 0, 1)
    forward_THW = np.maximum.accumulate(progress_THW, axis=0)
    expected = forward_THW[:, None] * way
    off = ((moved - expected) ** 2).sum(axis=1)
    return float(np.sqrt(off[1:-1].mean() / length2_HW.mean()))


def merged(transitions: list[Transition]) -> list[Transition]:
    """In order, and those that touch each other as one."""
    result: list[Transition] = []
    for transition in sorted(transitions):
        if result and transition.start <= result[-1].end:
            last = result.pop()
            transition = Transition(last.start, max(last.end, transition.end))
        result.append(transition)
    return result
