"""Whether pictures are turned by 180 degrees, from how what moves in them moves.

With a recorded camera, the gripper's way is projected and compared with where the picture moves.
Without one, what is known of nearly every camera is compared: up in the room is up in the picture.

Shape suffixes: T frames, H and W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values
from nemo_cosmos.controls.embodiment import TURNED, Embodiment
from nemo_cosmos.controls.number_group import spans
from post_training.robotics.inspection.faults import Finding
from post_training.robotics.inspection.reading import Recorded
from post_training.robotics.inspection.readings import in_plain_units_of_state, state_groups

Rows = NDArray[np.float64]

_WIDTH = 160
"""Pictures are looked at this wide: enough for an arm, and quick."""
_LEAST_PX = 0.3
"""Flow below this is noise."""
_CLEAR = 0.2
"""Agreement of directions, -1 to 1, that counts as clear."""
_MOST = 0.5
"""Of a picture, what moves at most where the camera stands still."""
_INSIDE = 0.6
"""Of the gripper's places, those that a camera of the same room sees, at least."""
MAX_VIDEOS = 16


def picture_finding(recordings: Sequence[Recorded], embodiment: Embodiment) -> Finding:
    """Say whether pictures are turned.

    Args:
        recordings: the recordings; of up to :data:`MAX_VIDEOS` of them the video is decoded.
        embodiment: what the states are said to be, and how the camera hangs.
    """
    agreements: list[float] = []
    usable = [one for one in recordings if one.video is not None and one.states_TA is not None]
    step = max(1, len(usable) // MAX_VIDEOS)
    for one in usable[::step][:MAX_VIDEOS]:
        way_T3 = _way(one, embodiment)
        if way_T3 is None:
            continue
        agreement = _agreement(one, way_T3)
        if agreement is not None:
            agreements.append(agreement)
    if len(agreements) < 2:
        return Finding(
            "image orientation", "ask", "pictures", "no videos with a moving gripper to tell by",
            "Look at one: if the floor is at the top, the camera hangs upside down.",
        )  # fmt: skip
    mean, spread = float(np.mean(agreements)), float(np.std(agreements))
    error = spread / np.sqrt(len(agreements))
    videos = f"{len(agreements)} videos"
    measured = f"motion agrees with the gripper's by {mean:+.2f} +- {error:.2f} in {videos}"
    said_turned = embodiment.image == TURNED
    signed = -mean if said_turned else mean
    if abs(mean) < max(_CLEAR, 2 * error):
        return Finding(
            "image orientation", "ask", "pictures", f"{measured}, which is not clear",
            "Look at one: if the floor is at the top, the camera hangs upside down.",
        )  # fmt: skip
    if signed < 0:
        return Finding(
            "image orientation", "found", "pictures",
            f"{measured}: they are {'upright' if said_turned else 'turned by 180 degrees'}",
            "Turn the videos, or say image: "
            f"{'upright' if said_turned else 'turned_180'} in the embodiment.",
        )  # fmt: skip
    return Finding("image orientation", "ok", "pictures", measured)


def _way(one: Recorded, embodiment: Embodiment) -> Rows | None:
    """Where the first part of the robot that has a position is, in metres, by frame."""
    assert one.states_TA is not None
    layout = state_groups(embodiment, one.states_TA.shape[1])
    for group, columns in spans(layout):
        if group.kind == "position" and group.width == 3:
            return in_plain_units_of_state(one.states_TA[:, columns], group)
    return None


def _agreement(one: Recorded, way_T3: Rows) -> float | None:
    """How far directions agree, -1 to 1, weighted by both motions; None where nothing moves."""
    assert one.video is not None
    frames_THW = [_small(frame) for frame in one.video().frames_THWC]
    if len(frames_THW) != len(way_T3) or len(way_T3) < 3:
        return None
    flows = [_moving_flow(now, then) for now, then in itertools.pairwise(frames_THW)]
    if np.mean([share for _, share in flows]) > _MOST:
        return None  # the camera itself moves, as one on a wrist: the room moves the other way
    flow_N2 = np.array([flow for flow, _ in flows])
    seen_T2 = None if one.camera is None else _project(one.camera, way_T3)
    if seen_T2 is not None:
        expected_N2 = np.diff(seen_T2, axis=0)
    else:
        expected_N2 = np.zeros_like(flow_N2)
        expected_N2[:, 1] = -np.diff(way_T3[:, 2])
        flow_N2 = flow_N2 * [0, 1]
    weight = np.linalg.norm(flow_N2, axis=1) * np.linalg.norm(expected_N2, axis=1)
    if weight.sum() <= 1e-9:
        return None
    return float((flow_N2 * expected_N2).sum() / weight.sum())


def _small(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame_HWC.shape[:2]
    grey = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    size = (_WIDTH, max(16, round(height * _WIDTH / width)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _moving_flow(now_HW: NDArray[np.uint8], then_HW: NDArray[np.uint8]) -> tuple[Rows, float]:
    """Mean optical flow of what moves, x right and y down, in pixels, and its share of the picture.

    The flow is 0 where nothing moves.
    """
    flow_HW2 = cv2.calcOpticalFlowFarneback(
        now_HW, then_HW, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5,
        poly_sigma=1.2, flags=0,
    )  # fmt: skip
    length_HW = np.linalg.norm(flow_HW2, axis=2)
    weight_HW = np.where(length_HW > _LEAST_PX, length_HW, 0)
    total = weight_HW.sum()
    if total <= 0:
        return np.zeros(2), 0.0
    mean: Rows = (flow_HW2 * weight_HW[..., None]).sum((0, 1)) / total
    return mean, float((weight_HW > 0).mean())


def _project(camera: Values, way_T3: Rows) -> Rows | None:
    """Where points are in the picture, in pixels of the recorded size.

    None where few of them are in it: the camera is then given in another room than the gripper.
    """
    if len(camera["poses"]) != len(way_T3):
        return None
    poses_T44 = np.asarray(camera["poses"], np.float64)
    matrices_T33 = np.asarray(camera["intrinsics"], np.float64)
    seen_T3 = np.einsum("tji,tj->ti", poses_T44[:, :3, :3], way_T3 - poses_T44[:, :3, 3])
    pixels_T3 = np.einsum("tij,tj->ti", matrices_T33, seen_T3)
    depth = pixels_T3[:, 2:]
    places: Rows = pixels_T3[:, :2] / np.where(np.abs(depth) < 1e-6, 1e-6, depth)
    height, width = (float(number) for number in camera["size"])
    inside = ((places >= 0) & (places <= (width, height))).all(axis=1) & (depth[:, 0] > 0)
    return places if inside.mean() >= _INSIDE else None
