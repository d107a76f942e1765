"""The robot: a Franka Panda with its hand, taken from a package and made light enough to film.

The package's visual meshes have 140,000 triangles, far more than a 128x96 picture can show. They
are welded onto a grid of a few millimetres once, merged by body and colour, and kept in the cache;
every renderer then draws the same few thousand triangles.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.platform import require
from nemo_cosmos.storage import atomic_path
from post_training.rendering import HIDDEN_GROUP

if TYPE_CHECKING:
    from types import ModuleType

    from mujoco import MjModel, MjSpec

ARM_JOINTS = tuple(f"joint{index}" for index in range(1, 8))
FINGER_JOINTS = ("hand_finger_joint1", "hand_finger_joint2")
TOOL_SITE = "hand_grip_site"
FINGER_TRAVEL_M = 0.04
"""How far each finger opens; the gripper takes objects of up to twice this width."""

_WELD_M = 0.014
_MIN_FACES = 20
_PACKAGE_VISUAL_GROUP = 1
_HAND_BODY = "right_hand"
_HAND_PREFIX = "hand_"
_FINGER_BODIES = ("hand_leftfinger", "hand_rightfinger")
_FINGER_RGBA = (0.16, 0.17, 0.19, 1.0)
_CONTACT_GEOMS = tuple(
    _HAND_PREFIX + name
    for name in (
        "hand_collision",
        "finger1_collision",
        "finger1_pad_collision",
        "finger2_collision",
        "finger2_pad_collision",
    )
)

# Position servos with a velocity term: (stiffness, damping) of each joint, in N m/rad and
# N m s/rad (fingers: N/m and N s/m). Stiff, so that the arm follows its commands at every frame.
_ARM_GAINS = ((9000, 450),) * 4 + ((4000, 150),) * 3
_FINGER_GAINS = (4000, 120)
_FINGER_FORCE_N = 30


@dataclass(frozen=True)
class VisualMesh:
    """What is seen of one body in one colour.

    Attributes:
        body: the body it is fixed to.
        rgba: its colour.
        vertices_V3: metres, in the frame of the body.
        faces_F3: vertex numbers, counter-clockwise seen from outside.
    """

    body: str
    rgba: tuple[float, ...]
    vertices_V3: np.ndarray
    faces_F3: np.ndarray


def robot_spec() -> MjSpec:
    """The Panda with its hand as an ``MjSpec``: light visual meshes, finger contacts, servos.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        AssetError: the robot's files cannot be fetched.
    """
    mujoco = require("mujoco")
    visuals = _visual_meshes()
    spec = _package_spec()
    for geom in list(spec.geoms):
        if geom.name not in _CONTACT_GEOMS:
            spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)
    for hidden in [*spec.geoms, *spec.sites]:
        hidden.group = HIDDEN_GROUP
    for index, visual in enumerate(visuals):
        _add_visual(mujoco, spec, f"visual{index}", visual)
    for body in spec.bodies:
        body.gravcomp = 1
    _add_servos(mujoco, spec)
    return spec


def _package_spec() -> MjSpec:
    """Arm and hand as the package describes them, joined; without its motors and cameras."""
    mujoco = require("mujoco")
    spec = mujoco.MjSpec.from_file(str(asset_path("panda_arm") / "robot.xml"))
    hand = mujoco.MjSpec.from_file(str(asset_path("panda_gripper")))
    # The hand's description names its meshes relative to a tree that the cache does not mirror.
    mesh_folder = asset_path("panda_gripper_meshes")
    for mesh in hand.meshes:
        mesh.file = str(mesh_folder / Path(mesh.file).name)
    spec.attach(hand, prefix=_HAND_PREFIX, frame=spec.body(_HAND_BODY).add_frame())
    for element in [*spec.actuators, *spec.sensors, *spec.cameras]:
        spec.delete(element)
    return spec


def _add_visual(mujoco: ModuleType, spec: MjSpec, name: str, visual: VisualMesh) -> None:
    spec.add_mesh(
        name=name,
        uservert=visual.vertices_V3.ravel().tolist(),
        userface=visual.faces_F3.ravel().tolist(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    spec.body(visual.body).add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        rgba=list(visual.rgba),
        contype=0,
        conaffinity=0,
        group=_PACKAGE_VISUAL_GROUP,
        mass=0,
    )


def _add_servos(mujoco: ModuleType, spec: MjSpec) -> None:
    """One position servo a joint, in the order of :data:`ARM_JOINTS`, then the fingers."""
    gains = dict(zip(ARM_JOINTS, _ARM_GAINS, strict=True))
    gains |= dict.fromkeys(FINGER_JOINTS, _FINGER_GAINS)
    for name, (stiffness, damping) in gains.items():
        is_finger = name in FINGER_JOINTS
        joint = spec.joint(name)
        joint.damping[:] = (10.0 if is_finger else 1.0, 0.0, 0.0)
        joint.armature = 0.1
        joint.frictionloss = 0.0
        actuator = spec.add_actuator(
            name=f"servo_{name}",
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        )
        actuator.gainprm[0] = stiffness
        actuator.biasprm[1:3] = (-stiffness, -damping)
        if is_finger:
            actuator.forcelimited = True
            actuator.forcerange = (-_FINGER_FORCE_N, _FINGER_FORCE_N)


def servo_lead_s(model: MjModel) -> np.ndarray:
    """Seconds by which each servo lags behind a steady motion: damping over stiffness.

    Setting a servo ``lead * velocity`` ahead of the wanted position cancels the lag.
    """
    return -model.actuator_biasprm[:, 2] / model.actuator_gainprm[:, 0]


def prepare_robot() -> Path:
    """Fetch the robot and simplify what is seen of it, unless the cache has it; the cached file.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        AssetError: the robot's files cannot be fetched.
    """
    folder = asset_path("panda_arm").parent
    file = folder / f"panda-visual-{_WELD_M * 1000:.0f}mm.npz"
    if not file.exists():
        _save(file, _weld_package_meshes())
    return file


def _visual_meshes() -> list[VisualMesh]:
    with np.load(prepare_robot(), allow_pickle=False) as arrays:
        labels = json.loads(str(arrays["labels"]))
        return [
            VisualMesh(body, tuple(rgba), arrays[f"vertices{index}"], arrays[f"faces{index}"])
            for index, (body, rgba) in enumerate(labels)
        ]


def _save(file: Path, meshes: list[VisualMesh]) -> None:
    arrays: dict[str, Any] = {"labels": json.dumps([(mesh.body, mesh.rgba) for mesh in meshes])}
    for index, mesh in enumerate(meshes):
        arrays |= {f"vertices{index}": mesh.vertices_V3, f"faces{index}": mesh.faces_F3}
    with atomic_path(file) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def _weld_package_meshes() -> list[VisualMesh]:
    """Compile the package's model once and weld what it shows, body by body, colour by colour."""
    mujoco = require("mujoco")
    model = _package_spec().compile()
    triangles: dict[tuple[str, tuple[float, ...]], list[np.ndarray]] = defaultdict(list)
    for geom in range(model.ngeom):
        is_mesh = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH
        if is_mesh and model.geom_group[geom] == _PACKAGE_VISUAL_GROUP:
            body = model.body(model.geom_bodyid[geom]).name
            material = model.geom_matid[geom]
            rgba = model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]
            colour = _FINGER_RGBA if body in _FINGER_BODIES else tuple(map(float, rgba.round(3)))
            triangles[body, colour].append(_triangles_in_body(mujoco, model, geom))
    meshes = [
        VisualMesh(body, rgba, *weld(np.concatenate(parts), _WELD_M))
        for (body, rgba), parts in triangles.items()
    ]
    return [mesh for mesh in meshes if len(mesh.faces_F3) >= _MIN_FACES]


def _triangles_in_body(mujoco: ModuleType, model: MjModel, geom: int) -> np.ndarray:
    """Triangles (F, 3, 3) of a mesh geom in the frame of its body."""
    mesh = model.geom_dataid[geom]
    vertices_V3 = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
    faces_F3 = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    in_body_V3 = vertices_V3 @ rotation.reshape(3, 3).T + model.geom_pos[geom]
    return in_body_V3[faces_F3]


def weld(triangles_F33: np.ndarray, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Simplify by clustering: all corners within one cell become their mean.

    Args:
        triangles_F33: corners of each triangle, metres.
        cell_m: edge of the cubic cells.

    Returns:
        ``vertices_V3`` and ``faces_F3``; triangles that collapsed or repeat are gone.
    """
    corners = triangles_F33.reshape(-1, 3)
    _, cell = np.unique(np.round(corners / cell_m).astype(int), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    count = np.bincount(cell)
    vertices_V3 = np.stack([np.bincount(cell, corners[:, axis]) / count for axis in range(3)], 1)
    faces_F3 = cell.reshape(-1, 3)
    is_whole = (faces_F3 != np.roll(faces_F3, 1, axis=1)).all(1)
    faces_F3 = faces_F3[is_whole]
    # Rotate the smallest number to the front, which keeps the side a face looks to.
    order = (faces_F3.argmin(1)[:, None] + np.arange(3)) % 3
    return vertices_V3, np.unique(np.take_along_axis(faces_F3, order, 1), axis=0)
