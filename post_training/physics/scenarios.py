"""The eight scenarios: each draws a scene, and a push where there is one, from chance.

A scene is drawn before its push, from a source of chance of its own: so the same scene can be
pushed in another way. All are drawn going to the right; half of them are mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nemo_cosmos.errors import ConfigError, nearest_names
from post_training.physics.things import (
    Hanging,
    Pusher,
    Ramp,
    Setup,
    Thing,
    draw_colors,
    mirrored,
)

GRAVITY_M_S2 = 9.81

Chance = np.random.Generator


@dataclass(frozen=True)
class Scenario:
    """One kind of scene.

    Attributes:
        draw: makes a setup from chance, one for the scene and one for the push; the last argument
            chooses one of two pushes.
        is_pushed: whether there is a push that may be another.
        can_hide: whether a board may hide a part of the way. Not where there are two pushes: both
            start from the same picture, and the board stands where the way leads.
    """

    draw: Callable[[Chance, Chance, int], Setup]
    is_pushed: bool = False
    can_hide: bool = False


def draw_setup(name: str, seed: tuple[int, ...], push: int, panel: bool = False) -> Setup:
    """Draw a scene.

    Args:
        name: the scenario.
        seed: seed of the scene.
        push: 0 or 1, which of two pushes; the scene at the start is the same.
        panel: whether a board hides a part of the way, where the scenario allows it.

    Raises:
        ConfigError: there is no such scenario.
    """
    if name not in SCENARIOS:
        raise ConfigError(
            f"There is no scenario '{name}'. The nearest are {nearest_names(name, SCENARIOS)}; "
            f"all: {', '.join(SCENARIOS)}."
        )
    scenario = SCENARIOS[name]
    scene, pushing = (np.random.default_rng([*seed, which]) for which in (0, 1 + push))
    is_mirrored = bool(scene.random() < 0.5)
    setup = scenario.draw(scene, pushing, push)
    setup = replace(setup, panel=panel and scenario.can_hide)
    return mirrored(setup) if is_mirrored else setup


def _falling(scene: Chance, pushing: Chance, push: int) -> Setup:
    colors = draw_colors(scene, 2)[: int(scene.integers(1, 3))]
    places = [scene.uniform(-1.0, -0.4), scene.uniform(0.4, 1.0)]
    things = []
    for color, x in zip(colors, places, strict=False):
        shape = str(scene.choice(["ball", "block"]))
        z, turn = scene.uniform(1.25, 1.75), float(scene.uniform(-0.5, 0.5)) * (shape == "block")
        things.append(_thing(shape, color, scene, float(x), float(z), turn_rad=turn))
    words = _both([thing.words for thing in things])
    verb = "falls" if len(things) == 1 else "fall"
    return Setup("falling", f"{words} {verb} onto a tiled floor.", tuple(things), bounce=0.25)


def _sliding(scene: Chance, pushing: Chance, push: int) -> Setup:
    ramp = _ramp(scene)
    half = (float(scene.uniform(0.2, 0.28)), 0.2, float(scene.uniform(0.15, 0.2)))
    x, z = ramp.point(ramp.length_m - half[0] - 0.05, half[2])
    block = Thing("block", draw_colors(scene, 1)[0], half, x, z, turn_rad=ramp.angle_rad)
    caption = f"A {block.words} slides down a ramp to the {{right}}."
    friction = float(scene.uniform(0.03, 0.15))
    return Setup("sliding", caption, (block,), bounce=0.02, friction=friction, ramp=ramp)


def _collision(scene: Chance, pushing: Chance, push: int) -> Setup:
    first, second = draw_colors(scene, 2)
    one = _thing("ball", first, scene, float(scene.uniform(-1.25, -0.95)))
    other = _thing("ball", second, scene, float(scene.uniform(-0.1, 0.35)))
    word, speed = _speed(pushing, push, slow=(1.1, 1.5), fast=(2.6, 3.4))
    # Balls without friction do not roll: all momentum is that of their centres.
    one = replace(one, speed_m_s=(speed, 0.0), turns=False)
    other = replace(other, turns=False)
    caption = f"A {one.words} glides {word} to the {{right}} and hits a {other.words}."
    return Setup("collision", caption, (one, other), bounce=0.95, friction=0.0)


def _pendulum(scene: Chance, pushing: Chance, push: int) -> Setup:
    ball = _thing("ball", draw_colors(scene, 1)[0], scene)
    length = float(scene.uniform(1.0, 1.3))
    hanging = Hanging(float(scene.uniform(-0.3, 0.3)), 1.9, length, -float(scene.uniform(0.5, 0.9)))
    spin, words = 0.0, "swings freely"
    if push:
        spin, words = float(pushing.uniform(1.4, 2.0)), "is pushed to the {right} and swings"
    caption = f"A {ball.words} on a rod {words}."
    hanging = replace(hanging, spin_rad_s=spin)
    return Setup("pendulum", caption, (ball,), hanging=hanging)


def _rolling(scene: Chance, pushing: Chance, push: int) -> Setup:
    ramp = _ramp(scene)
    wheel = _thing(str(scene.choice(["ball", "disc"])), draw_colors(scene, 1)[0], scene)
    radius = wheel.half_m[0]
    x, z = ramp.point(ramp.length_m - radius - 0.03, radius)
    caption = f"A {wheel.words} rolls down a ramp to the {{right}}."
    return Setup("rolling", caption, (replace(wheel, x_m=x, z_m=z),), 0.02, 0.9, ramp)


def _toppling(scene: Chance, pushing: Chance, push: int) -> Setup:
    num = int(scene.integers(1, 4))
    half = (float(scene.uniform(0.09, 0.13)), 0.2, float(scene.uniform(0.38, 0.5)))
    gap = float(scene.uniform(0.85, 1.05)) * half[2]
    start = -0.3 - 0.5 * gap * (num - 1)
    things = [
        Thing("block", color, half, start + gap * index, half[2])
        for index, color in enumerate(draw_colors(scene, num))
    ]
    # The first of a row must have enough left to knock over the next.
    hard = (1.5, 2.0) if num == 1 else (2.4, 3.0)
    share = float(pushing.uniform(*hard) if push else pushing.uniform(0.75, 0.9))
    spin = share * _toppling_spin(half)
    # It turns about its right lower edge, which stays where it is.
    speed = (spin * half[2], spin * half[0])
    things[0] = replace(things[0], spin_rad_s=spin, speed_m_s=speed)
    row = f" in a row of {num}" if num > 1 else ""
    how = "pushed hard" if push else "nudged"
    caption = f"A tall {things[0].words}{row} is {how} to the {{right}}."
    return Setup("toppling", caption, tuple(things), bounce=0.02, friction=0.9)


def _bouncing(scene: Chance, pushing: Chance, push: int) -> Setup:
    ball = _thing("ball", draw_colors(scene, 1)[0], scene, -1.15, float(scene.uniform(1.0, 1.5)))
    word, speed = _speed(pushing, push, slow=(0.5, 0.8), fast=(1.6, 2.0))
    ball = replace(ball, speed_m_s=(speed, 0.0), turns=False)
    caption = f"A {ball.words} is thrown {word} to the {{right}} and bounces."
    bounce = float(scene.uniform(0.75, 0.9))
    return Setup("bouncing", caption, (ball,), bounce=bounce, friction=0.0)


def _pushing(scene: Chance, pushing: Chance, push: int) -> Setup:
    block = _thing("block", draw_colors(scene, 1)[0], scene, float(scene.uniform(-0.8, -0.4)))
    word, speed = _speed(pushing, push, slow=(0.55, 0.75), fast=(1.7, 2.2))
    pusher = Pusher(block.x_m - block.half_m[0] - 0.05, speed, float(scene.uniform(0.5, 0.7)))
    caption = f"A grey paddle pushes a {block.words} {word} to the {{right}}."
    friction = float(scene.uniform(0.25, 0.4))
    return Setup("pushing", caption, (block,), 0.02, friction, pusher=pusher)


SCENARIOS: dict[str, Scenario] = {
    "falling": Scenario(_falling),
    "sliding": Scenario(_sliding, can_hide=True),
    "collision": Scenario(_collision, is_pushed=True),
    "pendulum": Scenario(_pendulum, is_pushed=True),
    "rolling": Scenario(_rolling, can_hide=True),
    "toppling": Scenario(_toppling, is_pushed=True),
    "bouncing": Scenario(_bouncing, is_pushed=True),
    "pushing": Scenario(_pushing, is_pushed=True),
}
"""All scenarios, in the order in which recordings come."""


def _thing(
    shape: str,
    color: str,
    scene: Chance,
    x_m: float = 0.0,
    z_m: float | None = None,
    turn_rad: float = 0.0,
) -> Thing:
    """A ball, disc or block of a size that chance draws, on the floor unless a height is given."""
    if shape == "block":
        half = (float(scene.uniform(0.19, 0.27)), 0.2, float(scene.uniform(0.19, 0.27)))
        return Thing("block", color, half, x_m, half[2] if z_m is None else z_m, turn_rad)
    radius = float(scene.uniform(0.2, 0.29))
    if shape == "disc":
        half = (radius, 0.12, radius)
        return Thing("disc", color, half, x_m, radius if z_m is None else z_m, turn_rad)
    half = (radius, radius, radius)
    return Thing("ball", color, half, x_m, radius if z_m is None else z_m, turn_rad)


def _ramp(scene: Chance) -> Ramp:
    angle = float(scene.uniform(0.38, 0.55))
    length = float(scene.uniform(1.5, 1.75))
    return Ramp(-1.6 + length * float(np.cos(angle)), angle, length)


def _speed(
    pushing: Chance, push: int, slow: tuple[float, float], fast: tuple[float, float]
) -> tuple[str, float]:
    low, high = fast if push else slow
    return ("quickly" if push else "slowly"), float(pushing.uniform(low, high))


def _toppling_spin(half_m: tuple[float, float, float]) -> float:
    """The angular velocity about its lower edge that just lifts a block's centre over it."""
    width, _, height = half_m
    reach_sq = width**2 + height**2
    rise = np.sqrt(reach_sq) - height
    return float(np.sqrt(2 * GRAVITY_M_S2 * rise / (4 / 3 * reach_sq)))


def _both(words: list[str]) -> str:
    return "A " + " and a ".join(words)
