"""A setup as a MuJoCo scene, and its simulation.

Things have three joints: along x, along z, and about y. So they stay exactly in the picture's
plane, and one camera sees all of their motion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.platform import require
from post_training.physics.scenarios import GRAVITY_M_S2
from post_training.physics.things import COLORS, Motion, Ramp, Setup, Thing
from post_training.rendering import Camera, add_camera, add_floor, add_look, tile_texture

if TYPE_CHECKING:
    from types import ModuleType

    from mujoco import MjData, MjModel, MjsGeom, MjSpec

CAMERA = Camera(position_m=(0.0, -5.2, 1.5), target_m=(0.0, 0.0, 0.9), fov_y_deg=27.0)
TIMESTEP_S = 5e-4

_CONTACT_S = 0.01
"""How long two things touch when they collide: twenty time steps."""

_DARKER = 0.7
_GREY, _DARK_GREY = (0.62, 0.62, 0.63), (0.33, 0.34, 0.36)
_RAMP_HALF_WIDTH_M, _RAMP_HALF_THICKNESS_M = 0.42, 0.5
_PADDLE_HALF_M = (0.05, 0.2, 0.3)
_PADDLE_KG = 1e4
PANEL_Y_M, _PANEL_HALF_Z_M = -0.6, 0.7
_FLOOR_HALF_M = 2.0
_TOUCHING_M = 0.004


def build_model(setup: Setup, panel_x_m: tuple[float, float] | None = None) -> MjModel:
    """Compile a setup.

    Args:
        setup: the scene.
        panel_x_m: left and right end of the board that hides a part of the way.
    """
    mujoco = require("mujoco")
    spec = mujoco.MjSpec()
    spec.option.timestep = TIMESTEP_S
    spec.option.gravity = [0, 0, -GRAVITY_M_S2]
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10  # a wheel rolls and does not slip
    spec.nuser_geom = 3
    add_look(spec)
    floor = add_floor(spec, "floor", tile_texture(256), (0, 0), (_FLOOR_HALF_M, _FLOOR_HALF_M))
    _touch(floor, setup)
    if setup.ramp is not None:
        _add_ramp(mujoco, spec, setup, setup.ramp)
    for index, thing in enumerate(setup.things):
        _add_thing(mujoco, spec, setup, index, thing)
    if setup.pusher is not None:
        _add_paddle(mujoco, spec, setup)
    if panel_x_m is not None:
        left, right = panel_x_m
        _still(mujoco, spec, "panel", [(right - left) / 2, 0.02, _PANEL_HALF_Z_M], _DARK_GREY,
               [(left + right) / 2, PANEL_Y_M, _PANEL_HALF_Z_M])  # fmt: skip
    add_camera(spec, CAMERA)
    return spec.compile()


def simulate_motion(setup: Setup, num_frames: int, fps: float) -> tuple[MjModel, Motion]:
    """Simulate a setup.

    Args:
        setup: the scene.
        num_frames: frames, the first at the start.
        fps: frames per second.

    Returns:
        the compiled scene without a board, and how its things move.
    """
    mujoco = require("mujoco")
    model = build_model(setup)
    data = mujoco.MjData(model)
    start(setup, model, data)
    rows = []
    steps = 0
    for frame in range(num_frames):
        # Rounded anew for each frame, so that any frame rate keeps its time.
        until = round(frame / fps / TIMESTEP_S)
        while steps < until:
            _drive_paddle(setup, data)
            mujoco.mj_step(model, data)
            steps += 1
        # After a step the velocities are new, and what is derived from them is not.
        mujoco.mj_forward(model, data)
        rows.append(_measure(setup, model, data))
    return model, Motion(*(np.stack(column) for column in zip(*rows, strict=True)))


def start(setup: Setup, model: MjModel, data: MjData) -> None:
    """Put all things where they start, with the speeds of their push."""
    mujoco = require("mujoco")
    mujoco.mj_resetData(model, data)
    for index, thing in enumerate(setup.things):
        if index == 0 and setup.hanging is not None:
            data.joint("hinge0").qpos = -setup.hanging.angle_rad
            data.joint("hinge0").qvel = -setup.hanging.spin_rad_s
            continue
        for axis, position, speed in (
            ("x", thing.x_m, thing.speed_m_s[0]),
            ("z", thing.z_m, thing.speed_m_s[1]),
            ("turn", thing.turn_rad, thing.spin_rad_s),
        ):
            if axis == "turn" and not thing.turns:
                continue
            data.joint(f"{axis}{index}").qpos = position
            data.joint(f"{axis}{index}").qvel = speed
    mujoco.mj_forward(model, data)


def support_profile(setup: Setup) -> np.ndarray:
    """Height of the ground along the picture, ``(K, 2)``: x and z in metres."""
    x = np.linspace(-2.5, 2.5, 251)
    height = np.zeros_like(x)
    if setup.ramp is not None:
        run = setup.ramp.foot_x_m - (-x if setup.is_mirrored else x)
        on_ramp = (run > 0) & (run < setup.ramp.length_m * np.cos(setup.ramp.angle_rad))
        height = np.where(on_ramp, run * np.tan(setup.ramp.angle_rad), 0.0)
    return np.stack([x, height], axis=1)


def _touch(geom: MjsGeom, setup: Setup) -> None:
    """What happens when a geom touches another: how much it bounces, and its friction."""
    geom.friction = [setup.friction, 0.0, 0.0]
    geom.condim = 3 if setup.friction > 0 else 1
    # A damped oscillator that swings for half a period of _CONTACT_S and leaves with this share of
    # its speed.
    logarithm = np.log(setup.bounce) / np.pi
    damping_ratio = -logarithm / np.sqrt(1 + logarithm**2)
    frequency = np.pi / _CONTACT_S / np.sqrt(1 - damping_ratio**2)
    geom.solref = [-(frequency**2), -2 * damping_ratio * frequency]
    geom.solimp = [0.99, 0.99, 0.001, 0.5, 2.0]


def _add_ramp(mujoco: ModuleType, spec: MjSpec, setup: Setup, ramp: Ramp) -> None:
    """A thick board whose upper side is the slope; the floor hides what is below it."""
    middle_x, middle_z = ramp.point(ramp.length_m / 2, -_RAMP_HALF_THICKNESS_M)
    side = -1 if setup.is_mirrored else 1
    turn = side * ramp.angle_rad
    geom = spec.worldbody.add_geom(
        name="ramp",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[ramp.length_m / 2, _RAMP_HALF_WIDTH_M, _RAMP_HALF_THICKNESS_M],
        pos=[side * middle_x, 0, middle_z],
        quat=[np.cos(turn / 2), 0, np.sin(turn / 2), 0],
        rgba=[*_GREY, 1],
    )
    _touch(geom, setup)


def _add_thing(mujoco: ModuleType, spec: MjSpec, setup: Setup, index: int, thing: Thing) -> None:
    hanging = setup.hanging if index == 0 else None
    name = f"object{index}"
    body = spec.worldbody.add_body(
        name=name, pos=[0, 0, 0] if hanging is None else [hanging.x_m, 0, hanging.z_m]
    )
    place = [0.0, 0.0, 0.0]
    if hanging is not None:
        place = [0.0, 0.0, -hanging.length_m]
        body.add_joint(name=f"hinge{index}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0])
        rod = body.add_geom(
            name="rod",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[0.022, hanging.length_m / 2, 0],
            pos=[0, 0, -hanging.length_m / 2],
            rgba=[*_DARK_GREY, 1],
            mass=1e-6,
        )
        rod.contype = rod.conaffinity = 0
        _still(mujoco, spec, "pivot", [0.16, 0.1, 0.05], _DARK_GREY,
               [hanging.x_m, 0, hanging.z_m + 0.05])  # fmt: skip
    else:
        slide, turn = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
        body.add_joint(name=f"x{index}", type=slide, axis=[1, 0, 0])
        body.add_joint(name=f"z{index}", type=slide, axis=[0, 0, 1])
        if thing.turns:
            body.add_joint(name=f"turn{index}", type=turn, axis=[0, 1, 0])
    half = thing.half_m
    kinds = mujoco.mjtGeom
    shapes = {
        "ball": (kinds.mjGEOM_SPHERE, [half[0], 0, 0]),
        "block": (kinds.mjGEOM_BOX, list(half)),
        "disc": (kinds.mjGEOM_CYLINDER, [half[0], half[1], 0]),
    }
    kind, size = shapes[thing.shape]
    color = COLORS[thing.color]
    geom = body.add_geom(
        name=name,
        type=kind,
        size=size,
        pos=place,
        # A disc stands on its rim: its axis leads along y.
        quat=[np.sqrt(0.5), np.sqrt(0.5), 0, 0] if thing.shape == "disc" else [1, 0, 0, 0],
        mass=thing.mass_kg,
        rgba=[*color, 1],
        userdata=[_DARKER * part for part in color],
    )
    _touch(geom, setup)


def _add_paddle(mujoco: ModuleType, spec: MjSpec, setup: Setup) -> None:
    assert setup.pusher is not None
    side = -1 if setup.is_mirrored else 1
    x = side * (setup.pusher.x_m - _PADDLE_HALF_M[0])
    body = spec.worldbody.add_body(name="paddle", pos=[x, 0, _PADDLE_HALF_M[2] + 0.01])
    body.add_joint(name="paddle", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[side, 0, 0])
    geom = body.add_geom(
        name="paddle",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=list(_PADDLE_HALF_M),
        mass=_PADDLE_KG,  # so heavy that the block does not slow it down
        rgba=[*_DARK_GREY, 1],
    )
    _touch(geom, setup)
    geom.friction = [0, 0, 0]


def _drive_paddle(setup: Setup, data: MjData) -> None:
    """Speed the paddle up over the first tenth of its way, and stop it over the last."""
    pusher = setup.pusher
    if pusher is None:
        return
    way = float(data.joint("paddle").qpos[0])
    share = np.clip(min(0.05 + way / pusher.way_m, 1.0 - way / pusher.way_m) / 0.1, 0, 1)
    data.joint("paddle").qvel = pusher.speed_m_s * np.sqrt(share) if way < pusher.way_m else 0.0


def _still(
    mujoco: ModuleType,
    spec: MjSpec,
    name: str,
    half_m: list[float],
    color: tuple[float, float, float],
    center_m: list[float],
) -> None:
    """A box that nothing touches."""
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=half_m,
        pos=center_m,
        rgba=[*color, 1],
        contype=0,
        conaffinity=0,
    )


def _measure(setup: Setup, model: MjModel, data: MjData) -> tuple[np.ndarray, ...]:
    """State, position, velocity, rotation, energy and support of all things."""
    mujoco = require("mujoco")
    num = len(setup.things)
    position, velocity = np.zeros((num, 3)), np.zeros((num, 3))
    rotation, energy = np.zeros(num), np.zeros((num, 3))
    moving = np.zeros(6)
    for index, thing in enumerate(setup.things):
        geom = model.geom(f"object{index}").id
        body = model.geom_bodyid[geom]
        position[index] = data.geom_xpos[geom]
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_GEOM, geom, moving, 0)
        velocity[index] = moving[3:]
        axes = data.xmat[body].reshape(3, 3)
        rotation[index] = np.arctan2(axes[0, 2], axes[0, 0])
        inertia = _inertia_kg_m2(thing)
        energy[index] = (
            0.5 * thing.mass_kg * velocity[index] @ velocity[index],
            0.5 * inertia * moving[1] ** 2,
            thing.mass_kg * GRAVITY_M_S2 * position[index, 2],
        )
    touches = _touching(setup, model, data, rotation)
    return data.qpos.copy(), position, velocity, rotation, energy, touches


def _inertia_kg_m2(thing: Thing) -> float:
    """About the axis that leads away from the camera, through the centre."""
    x, _, z = thing.half_m
    factors = {"ball": 2 / 5 * x**2, "disc": 1 / 2 * x**2, "block": (x**2 + z**2) / 3}
    return thing.mass_kg * factors[thing.shape]


def _touching(setup: Setup, model: MjModel, data: MjData, rotation_N: np.ndarray) -> np.ndarray:
    """Which things floor or ramp carries.

    The simulator's list of contacts does not say so: a thing that rests leaves the ground by
    micrometres and comes back.
    """
    mujoco = require("mujoco")
    touches = np.zeros(len(setup.things), bool)
    for index, thing in enumerate(setup.things):
        geom = model.geom(f"object{index}").id
        x, _, z = thing.half_m
        below = x
        if thing.shape == "block":
            below = abs(np.sin(rotation_N[index])) * x + abs(np.cos(rotation_N[index])) * z
        gap = float(data.geom_xpos[geom, 2]) - below
        if setup.ramp is not None:
            ramp = model.geom("ramp").id
            gap = min(gap, mujoco.mj_geomDistance(model, data, ramp, geom, 1.0, np.zeros(6)))
        touches[index] = gap < _TOUCHING_M
    return touches
