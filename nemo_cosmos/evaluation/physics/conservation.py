"""Do the objects keep what physics keeps? Energy and momentum, from where they are seen.

Velocities are central differences of the positions in the plane of motion. A parabola's are exact,
so free fall and throws are measured without a bias. The true video is measured in the same way.

Shape suffixes: T frames, N objects; 2 coordinates in the plane of motion.
"""

from __future__ import annotations

import numpy as np

from nemo_cosmos.evaluation.metric import Case, CaseMetric
from nemo_cosmos.evaluation.physics.finding import Bools, Floats, Scene, Track, see
from nemo_cosmos.evaluation.physics.places import NEEDS

GRAVITY_M_S2 = 9.81

_MIN_FALL_M = 0.05
"""A scene is measured where its fastest motion is worth a fall from this height."""

_STEADY = 0.01
_MIN_SPAN = 4
_STEADY_MOMENTUM, _MIN_EXCHANGE = 0.03, 0.1


def energy_error(case: Case) -> float:
    """Difference of the kinetic and of the potential energy from the truth's, 0 to 1.

    The mean of the two, in units of the truth's largest kinetic energy; more than that, or an
    object that is not found, counts 1.
    """
    scene = see(case)
    asked_TN = _measurable(scene)
    largest = _largest_kinetic(scene)
    errors = [
        np.abs(one - other) / largest
        for one, other in zip(
            _energies(scene.generated, scene), _energies(scene.truth, scene), strict=True
        )
    ]
    error_TN = np.nan_to_num(np.minimum(0.5 * (errors[0] + errors[1]), 1), nan=1.0)
    return float(error_TN[asked_TN].mean())


def energy_drift(case: Case) -> float:
    """How far the energy wanders where the truth keeps it, in units of its largest kinetic energy.

    Mean distance from the mean over each span of frames in which the true energy stays the same:
    in flight, on a pendulum, in steady motion. A still video keeps its energy, too: read this
    together with :func:`energy_error`. At most 1, and 1 where an object is not found.
    """
    scene = see(case)
    total_T = np.sum(_energies(scene.generated, scene), axis=(0, 2))
    largest = _largest_kinetic(scene)
    wandered: list[float] = []
    for span in _conserving_spans(case):
        part = total_T[span]
        if not np.isfinite(part).any():
            wandered += [1.0] * len(part)
            continue
        off = np.abs(part - np.nanmean(part)) / largest
        wandered += np.nan_to_num(np.minimum(off, 1), nan=1.0).tolist()
    return float(np.mean(wandered))


def momentum_error(case: Case) -> float:
    """Difference of the horizontal momentum of all objects from the truth's, 0 to 1.

    In units of the truth's momentum, where the truth keeps it while objects collide; more than
    that, or an object that is not found, counts 1.
    """
    scene = see(case)
    asked_T = np.asarray(_measurable(scene).all(axis=1))
    moved, true = (
        (_velocity(track, scene)[..., 0] * scene.mass_kg).sum(axis=1)
        for track in (scene.generated, scene.truth)
    )
    error_T = np.abs(moved - true) / np.abs(true[asked_T]).mean()
    return float(np.nan_to_num(np.minimum(error_T, 1), nan=1.0)[asked_T].mean())


def _velocity(track: Track, scene: Scene) -> Floats:
    """Velocity in the plane of motion ``(T, N, 2)``; NaN at the ends and beside lost frames."""
    velocity_TN2 = np.full_like(track.position_TN2, np.nan)
    if len(scene.time_s) > 2:
        seconds = (scene.time_s[2:] - scene.time_s[:-2])[:, None, None]
        velocity_TN2[1:-1] = (track.position_TN2[2:] - track.position_TN2[:-2]) / seconds
    return velocity_TN2


def _energies(track: Track, scene: Scene) -> tuple[Floats, Floats]:
    """Kinetic and potential energy of each object at each frame, ``(T, N)`` in J."""
    speed_sq_TN = (_velocity(track, scene) ** 2).sum(-1)
    kinetic_TN = 0.5 * scene.mass_kg * speed_sq_TN
    return kinetic_TN, scene.mass_kg * GRAVITY_M_S2 * track.position_TN2[..., 1]


def _measurable(scene: Scene) -> Bools:
    """Where the true object is all in view, and was and will be a frame before and after."""
    whole = scene.is_whole_TN
    asked = np.zeros_like(whole)
    asked[1:-1] = whole[:-2] & whole[1:-1] & whole[2:]
    return asked


def _largest_kinetic(scene: Scene) -> float:
    """The truth's largest kinetic energy of one object, measured as all else is."""
    kinetic_TN = np.where(_measurable(scene), _energies(scene.truth, scene)[0], 0)
    return float(np.nan_to_num(kinetic_TN).max(initial=0))


def _moves(case: Case) -> bool:
    """Whether the true objects move fast enough for their energy to be measured."""
    scene = see(case)
    if not _measurable(scene).any():
        return False
    return _largest_kinetic(scene) > scene.mass_kg.min() * GRAVITY_M_S2 * _MIN_FALL_M


def _conserving_spans(case: Case) -> list[slice]:
    """Spans of frames in which the true energy of all objects' motion stays the same."""
    scene = see(case)
    energy_TN3 = np.asarray(scene.known["energy_j"], np.float64)
    total_T = (energy_TN3[..., 0] + energy_TN3[..., 2]).sum(axis=1)
    asked_T = np.asarray(_measurable(scene).all(axis=1))
    limit = _STEADY * _largest_kinetic(scene)
    spans, first = [], 0
    for frame in range(1, len(total_T) + 1):
        # A contact between two frames also bends the central differences beside it.
        goes_on = (
            frame < len(total_T)
            and asked_T[frame]
            and asked_T[frame - 1]
            and abs(total_T[frame] - total_T[frame - 1]) <= limit
        )
        if goes_on:
            continue
        begin, end = first + 1, frame - 1
        if end - begin >= _MIN_SPAN:
            spans.append(slice(begin, end))
        first = frame
    moving_T = energy_TN3[..., 0].sum(axis=1) > 0.05 * _largest_kinetic(scene)
    return [span for span in spans if moving_T[span].any()]


def _keeps_energy(case: Case) -> bool:
    return _moves(case) and bool(_conserving_spans(case))


def _collides(case: Case) -> bool:
    """Whether objects exchange momentum and keep the sum."""
    scene = see(case)
    asked_T = np.asarray(_measurable(scene).all(axis=1))
    if len(scene.mass_kg) < 2 or asked_T.sum() < _MIN_SPAN or not _moves(case):
        return False
    velocity_TN = np.asarray(scene.known["velocity_m_s"], np.float64)[asked_T, :, 0]
    momentum_TN = velocity_TN * scene.mass_kg
    total_T = momentum_TN.sum(axis=1)
    typical = float(np.abs(total_T).mean())
    if typical <= 0 or np.ptp(total_T) > _STEADY_MOMENTUM * typical:
        return False
    return bool(np.ptp(momentum_TN, axis=0).max() > _MIN_EXCHANGE * typical)


ENERGY_ERROR = CaseMetric(
    name="energy_error",
    higher_is_better=False,
    description="difference of kinetic and potential energy from the truth's; 0 the same, 1 all",
    needs=NEEDS,
    compute=energy_error,
    applies=_moves,
)
ENERGY_DRIFT = CaseMetric(
    name="energy_drift",
    higher_is_better=False,
    description="how far the energy wanders where the truth keeps it; 0 not at all",
    needs=NEEDS,
    compute=energy_drift,
    applies=_keeps_energy,
)
MOMENTUM_ERROR = CaseMetric(
    name="momentum_error",
    higher_is_better=False,
    description="difference of the objects' momentum from the truth's in collisions; 0 the same",
    needs=NEEDS,
    compute=momentum_error,
    applies=_collides,
)
