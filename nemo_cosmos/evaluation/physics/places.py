"""Are the objects where they belong? Overlap, support, permanence, and the right push's outcome."""

from __future__ import annotations

import numpy as np

from nemo_cosmos.evaluation.metric import Case, CaseMetric
from nemo_cosmos.evaluation.physics.finding import MIN_SHARE, Bools, Floats, see

NEEDS = frozenset({"truth", "objects"})

_HIDDEN, _CLEAR = 0.1, 0.9
_MIN_HIDDEN, _MIN_BACK = 1, 2
_MIN_APART_M, _MIN_PLACES = 0.05, 3
_CM = 100


def object_iou_per_frame(case: Case) -> Floats:
    """Intersection over union of the true and the found objects, mean over objects, ``(T,)``.

    Where an object is out of view it is 1 if it is not found either, else 0.
    """
    scene = see(case)
    columns = []
    for index, size in enumerate(scene.size_px):
        found, true = (mask == index + 1 for mask in (scene.generated.mask_THW, scene.mask_THW))
        shared, either = (found & true).sum((1, 2)), (found | true).sum((1, 2))
        least = MIN_SHARE * size
        is_away = (true.sum((1, 2)) < least) & (found.sum((1, 2)) < least)
        columns.append(np.where(is_away, 1.0, shared / np.maximum(either, 1)))
    return np.asarray(np.mean(columns, axis=0))


def support_error(case: Case) -> float:
    """How far objects float above the ground or sink into it, in cm.

    In the frames in which the true object rests on floor or ramp, the height of the lowest point
    above the ground below it, against the same of the true object. An object that is not found
    counts as its own height.
    """
    scene = see(case)
    asked_TN = _carried(case)
    support = np.asarray(scene.known["support_m"], np.float64)

    found_TN, true_TN = (
        one.bottom_TN - np.interp(one.position_TN2[..., 0], support[:, 0], support[:, 1])
        for one in (scene.generated, scene.truth)
    )
    error_TN = np.abs(found_TN - true_TN)
    height_N = np.asarray(scene.known["height_m"], np.float64)
    lost = np.broadcast_to(height_N, error_TN.shape)
    error_TN = np.where(np.isfinite(error_TN), np.minimum(error_TN, lost), lost)
    return float(error_TN[asked_TN].mean()) * _CM


def object_permanence(case: Case) -> float:
    """Whether objects stay hidden behind a board and come out at the right time and place.

    The share of hidden frames in which the object is not seen, times the share of the later frames
    in which it is seen within half its height of where it should be. 0 for an object that vanishes
    behind the board, and for one that stops before it.
    """
    scene = see(case)
    results = []
    for index, (hidden, back) in enumerate(_hiding(case)):
        if hidden.sum() < _MIN_HIDDEN or back.sum() < _MIN_BACK:
            continue
        area = scene.generated.area_TN[:, index]
        is_gone = area < MIN_SHARE * scene.size_px[index]
        away = np.linalg.norm(
            scene.generated.position_TN2[:, index] - scene.truth.position_TN2[:, index], axis=1
        )
        reach = 0.5 * float(scene.known["height_m"][index])
        is_back = (np.nan_to_num(away, nan=np.inf) <= reach) & (area >= 0.5 * scene.size_px[index])
        results.append(float(is_gone[hidden].mean() * is_back[back].mean()))
    return float(np.mean(results))


def counterfactual_margin(case: Case) -> float:
    """Whether a video shows its own push's outcome and not another's: 1 own, -1 the other.

    At each place where the outcomes differ, how much nearer the object is to its own outcome than
    to the other's, in units of what is between them. An object that is not found counts 0.
    """
    scene = see(case)
    own_TN2, other_TN2, asked_TN = _outcomes(case)
    found_TN2 = scene.generated.position_TN2
    between = np.linalg.norm(own_TN2 - other_TN2, axis=-1)
    to_own, to_other = (
        np.linalg.norm(found_TN2 - outcome, axis=-1) for outcome in (own_TN2, other_TN2)
    )
    margin_TN = (to_other - to_own) / np.maximum(between, _MIN_APART_M)
    margin_TN = np.nan_to_num(np.clip(margin_TN, -1, 1), nan=0.0)
    return float(margin_TN[asked_TN].mean())


def _carried(case: Case) -> Bools:
    """Where the true object is carried and all in view."""
    known = case.recorded["objects"]
    return np.asarray(known["touches"], bool) & see(case).is_whole_TN


def _hiding(case: Case) -> list[tuple[Bools, Bools]]:
    """For each object the frames in which it is hidden, and those after in which it is back."""
    scene = see(case)
    visible_TN = np.asarray(scene.known["visible_fraction"])
    found = []
    for index in range(visible_TN.shape[1]):
        seen = visible_TN[:, index]
        hidden = (seen < _HIDDEN) & (np.cumsum(seen > _CLEAR) > 0)
        back = scene.is_whole_TN[:, index] & (np.cumsum(hidden) > 0)
        # Out of the picture is not hidden: only what comes back was behind something.
        last = np.flatnonzero(back)
        hidden[last[-1] if len(last) else 0 :] = False
        found.append((hidden, back))
    return found


def _is_hidden(case: Case) -> bool:
    return any(
        hidden.sum() >= _MIN_HIDDEN and back.sum() >= _MIN_BACK for hidden, back in _hiding(case)
    )


def _outcomes(case: Case) -> tuple[Floats, Floats, Bools]:
    """Positions after the own and the other push, x and z, and where they differ and show."""
    known = case.recorded["objects"]
    own, other = (
        np.asarray(known[name], np.float64)[..., [0, 2]]
        for name in ("position_m", "other_position_m")
    )
    differ = np.linalg.norm(own - other, axis=-1) > _MIN_APART_M
    return own, other, differ & see(case).is_whole_TN


def _has_pair(case: Case) -> bool:
    known = case.recorded["objects"]
    if np.shape(known["other_position_m"]) != np.shape(known["position_m"]):
        return False
    return int(_outcomes(case)[2].sum()) >= _MIN_PLACES


OBJECT_IOU = CaseMetric(
    name="object_iou",
    higher_is_better=True,
    description="overlap of each object, found by its colour, with its true mask",
    needs=NEEDS,
    per_frame=object_iou_per_frame,
)
SUPPORT_ERROR = CaseMetric(
    name="support_error",
    unit="cm",
    higher_is_better=False,
    description="how far objects float above the ground or sink into it, where they should rest",
    needs=NEEDS,
    compute=support_error,
    applies=lambda case: bool(_carried(case).any()),
)
OBJECT_PERMANENCE = CaseMetric(
    name="object_permanence",
    higher_is_better=True,
    description="hidden behind a board, and out again at the right time and place: 1; vanished: 0",
    needs=NEEDS,
    compute=object_permanence,
    applies=_is_hidden,
)
COUNTERFACTUAL_MARGIN = CaseMetric(
    name="counterfactual_margin",
    higher_is_better=True,
    description="the outcome of its own push: 1; of another push from the same start: -1",
    needs=NEEDS,
    compute=counterfactual_margin,
    applies=_has_pair,
)
