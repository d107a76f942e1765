"""Scenes drawn without a simulator: discs that move as closed formulas say, over a grey floor.

The camera looks along y at 20 pixels a metre; the picture is 3.2 m wide and 2.4 m high, and the
floor is at its lower edge plus 0.2 m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from nemo_cosmos.evaluation.metric import Case

HEIGHT, WIDTH, PX_PER_M, FLOOR_M = 48, 64, 20, 0.2
FPS, GRAVITY_M_S2, RADIUS_M = 20.0, 9.81, 0.2
COLORS = np.array([[225, 30, 25], [25, 80, 230]])
PROJECTION = np.array(
    [
        [PX_PER_M / WIDTH, 0, 0, 0.5],
        [0, 0, -PX_PER_M / HEIGHT, 1 - FLOOR_M * PX_PER_M / HEIGHT],
        [0, 0, 0, 1],
    ]
)


@dataclass(frozen=True)
class Film:
    """How discs move: x and z in metres ``(T, N, 2)``, and a board from x to x in metres."""

    position_TN2: np.ndarray
    board_m: tuple[float, float] | None = None
    touches: bool = False
    mass_kg: tuple[float, ...] = (1.0, 3.0)
    other_TN2: np.ndarray | None = None

    def draw(self) -> np.ndarray:
        """Frames: a grey gradient, discs, a darker board before them."""
        rows = np.linspace(110, 190, HEIGHT)[:, None]
        empty = np.repeat(rows + 8 * (np.arange(WIDTH) // 8 % 2), 3).reshape(HEIGHT, WIDTH, 3)
        frames = []
        for places in self.position_TN2:
            frame = empty.copy()
            for index, place in enumerate(places):
                cover = self._cover(place)[..., None]
                frame = frame * (1 - cover) + COLORS[index] * cover
            if self.board_m is not None:
                frame[:, self._board()] = 70
            frames.append(frame)
        return np.clip(np.round(frames), 0, 255).astype(np.uint8)

    def objects(self) -> dict[str, np.ndarray]:
        """The arrays of ``objects.npz``."""
        length, num, _ = self.position_TN2.shape
        mask = np.zeros((length, HEIGHT, WIDTH), np.uint8)
        share, whole = np.ones((length, num)), np.ones((length, num), np.uint8)
        for frame, places in enumerate(self.position_TN2):
            for index, place in enumerate(places):
                cover = self._cover(place) > 0.5
                mask[frame][cover] = index + 1
                if self.board_m is not None:
                    mask[frame][:, self._board()] = 0
                seen = (mask[frame] == index + 1).sum()
                share[frame, index] = seen / (np.pi * (RADIUS_M * PX_PER_M) ** 2)
                whole[frame, index] = share[frame, index] > 0.93
        time_s = np.arange(length) / FPS
        position = np.insert(self.position_TN2, 1, 0, axis=2)
        velocity = np.gradient(position, 1 / FPS, axis=0, edge_order=2)
        mass = np.array(self.mass_kg[:num])
        energy = np.zeros((length, num, 3))
        energy[..., 0] = 0.5 * mass * (velocity**2).sum(-1)
        energy[..., 2] = mass * GRAVITY_M_S2 * position[..., 2]
        other = np.zeros((length, 0, 3))
        if self.other_TN2 is not None:
            other = np.insert(self.other_TN2, 1, 0, axis=2)
        return {
            "time_s": time_s,
            "position_m": position,
            "velocity_m_s": velocity,
            "rotation_rad": np.zeros((length, num)),
            "energy_j": energy,
            "touches": np.full((length, num), self.touches),
            "mask": mask,
            "visible_fraction": np.minimum(share, 1),
            "is_whole": whole,
            "other_position_m": other,
            "mass_kg": mass,
            "height_m": np.full(num, 2 * RADIUS_M),
            "support_m": np.array([[-2.0, 0.0], [2.0, 0.0]]),
            "projection": PROJECTION,
        }

    def moved(self, position_TN2: np.ndarray) -> Film:
        """The same scene with another motion."""
        return replace(self, position_TN2=position_TN2)

    def _cover(self, place_2: np.ndarray) -> np.ndarray:
        """How much of each pixel a disc fills."""
        fine = 8
        picture = np.zeros((HEIGHT * fine, WIDTH * fine), np.uint8)
        x = (place_2[0] * PX_PER_M + WIDTH / 2) * fine
        y = (HEIGHT - (place_2[1] + FLOOR_M) * PX_PER_M) * fine
        if np.isfinite(place_2).all():
            center = (round(x - 0.5), round(y - 0.5))
            cv2.circle(picture, center, round(RADIUS_M * PX_PER_M * fine), 255, -1)
        return cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) / 255

    def _board(self) -> slice:
        left, right = (round(end * PX_PER_M + WIDTH / 2) for end in self.board_m or (0, 0))
        return slice(left, right)


@pytest.fixture
def case_of() -> Callable[..., Case]:
    """Make a case of what was generated and what is true."""

    def make(shown: Film | np.ndarray, truth: Film) -> Case:
        frames = shown.draw() if isinstance(shown, Film) else shown
        return Case("clip", frames, truth.draw(), recorded={"objects": truth.objects()})

    return make


def _seconds(length: int) -> np.ndarray:
    return np.arange(length)[:, None] / FPS


@pytest.fixture
def falling() -> Film:
    """A disc that is thrown and falls freely; it is above the floor for all of 12 frames."""
    time_s = _seconds(12)
    place = np.concatenate([-0.8 + 1.2 * time_s, 1.7 - 0.5 * GRAVITY_M_S2 * time_s**2], axis=1)
    return Film(place[:, None])


@pytest.fixture
def rolling() -> Film:
    """A disc that goes steadily over the floor, behind a board."""
    time_s = _seconds(24)
    place = np.concatenate([-1.3 + 2.2 * time_s, np.full_like(time_s, RADIUS_M)], axis=1)
    return Film(place[:, None], board_m=(-0.35, 0.25), touches=True)


@pytest.fixture
def collision() -> Film:
    """Two discs of 1 and 3 kg: the first hits the second, elastically, after half a second."""
    time_s = _seconds(20)
    hit_s = 0.5
    before, after = np.minimum(time_s, hit_s), np.maximum(time_s - hit_s, 0)
    first = -1.2 + 2.0 * before - 1.0 * after
    second = np.full_like(time_s, 0.2) + 1.0 * after
    height = np.full_like(time_s, RADIUS_M)
    places = [np.concatenate([x, height], axis=1) for x in (first, second)]
    return Film(np.stack(places, axis=1), touches=True)
