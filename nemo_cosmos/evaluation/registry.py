"""The metrics that are known by name.

A new metric is one file and one line here. Packages add theirs through the entry-point group
``nemo_cosmos.metrics``: each entry point names a :class:`~nemo_cosmos.evaluation.metric.Metric`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.evaluation.metric import Metric

ENTRY_POINT_GROUP = "nemo_cosmos.metrics"
_ROOM = "nemo_cosmos.evaluation"
_GEOMETRY = f"{_ROOM}.geometry"
_PHYSICS = f"{_ROOM}.physics"
_FAILURE = f"{_ROOM}.single.failure"
_TRACKING = f"{_ROOM}.tracking.errors"
#: Name -> module and object. The order is that of tables and reports.
BUILTIN_METRICS = {
    "psnr": f"{_ROOM}.pair.psnr:PSNR",
    "ssim": f"{_ROOM}.pair.ssim:SSIM",
    "psnr_repeat_first": f"{_ROOM}.pair.psnr:PSNR_REPEAT_FIRST",
    "motion_margin": f"{_ROOM}.pair.copying:MOTION_MARGIN",
    "motion_following": f"{_ROOM}.pair.motion:MOTION_FOLLOWING",
    "flow_similarity": f"{_ROOM}.pair.motion:FLOW_SIMILARITY",
    "sampson_sift": f"{_ROOM}.single.sampson:SAMPSON_SIFT",
    "given_camera_sampson_sift": f"{_GEOMETRY}.given_camera:GIVEN_CAMERA_SAMPSON_SIFT",
    "reconstruction_success": f"{_GEOMETRY}.camera_path:RECONSTRUCTION_SUCCESS",
    "camera_pose_success": f"{_GEOMETRY}.camera_path:CAMERA_POSE_SUCCESS",
    "camera_rotation_error_deg": f"{_GEOMETRY}.camera_path:CAMERA_ROTATION_ERROR",
    "camera_translation_error": f"{_GEOMETRY}.camera_path:CAMERA_TRANSLATION_ERROR",
    "camera_path_error": f"{_GEOMETRY}.camera_path:CAMERA_PATH_ERROR",
    "aligned_success": f"{_GEOMETRY}.aligned_path:ALIGNED_SUCCESS",
    "aligned_rotation_error_deg": f"{_GEOMETRY}.aligned_path:ALIGNED_ROTATION_ERROR",
    "aligned_position_error_cm": f"{_GEOMETRY}.aligned_path:ALIGNED_POSITION_ERROR",
    "cross_view_sampson_sift": f"{_GEOMETRY}.cross_view:CROSS_VIEW_SAMPSON_SIFT",
    "cross_view_given_camera_sift": f"{_GEOMETRY}.cross_view:CROSS_VIEW_GIVEN_CAMERA_SIFT",
    "cross_view_agreement_sift": f"{_GEOMETRY}.cross_view:CROSS_VIEW_AGREEMENT_SIFT",
    "trajectory_error_cm": f"{_GEOMETRY}.following:TRAJECTORY_ERROR_CM",
    "trajectory_rpe_cm": f"{_GEOMETRY}.following:TRAJECTORY_RPE_CM",
    "trajectory_rpe_deg": f"{_GEOMETRY}.following:TRAJECTORY_RPE_DEG",
    "gripper_error": f"{_TRACKING}:GRIPPER_ERROR",
    "gripper_end_error": f"{_TRACKING}:GRIPPER_END_ERROR",
    "gripper_error_cm": f"{_TRACKING}:GRIPPER_ERROR_CM",
    "gripper_end_error_cm": f"{_TRACKING}:GRIPPER_END_ERROR_CM",
    "gripper_seen": f"{_TRACKING}:GRIPPER_SEEN",
    "object_error": f"{_TRACKING}:OBJECT_ERROR",
    "object_end_error": f"{_TRACKING}:OBJECT_END_ERROR",
    "object_error_cm": f"{_TRACKING}:OBJECT_ERROR_CM",
    "object_end_error_cm": f"{_TRACKING}:OBJECT_END_ERROR_CM",
    "object_seen": f"{_TRACKING}:OBJECT_SEEN",
    "failure_rate": f"{_FAILURE}:FAILURE_RATE",
    "failure_static": f"{_FAILURE}:FAILURE_STATIC",
    "failure_flat": f"{_FAILURE}:FAILURE_FLAT",
    "failure_noise": f"{_FAILURE}:FAILURE_NOISE",
    "failure_cut": f"{_FAILURE}:FAILURE_CUT",
    "failure_from_below": f"{_FAILURE}:FAILURE_FROM_BELOW",
    "lpips_vgg": f"{_ROOM}.pair.lpips:LPIPS_VGG",
    "lpips_alex": f"{_ROOM}.pair.lpips:LPIPS_ALEX",
    "fid_inception": f"{_ROOM}.sets.inception:FID_INCEPTION",
    "kid_inception": f"{_ROOM}.sets.inception:KID_INCEPTION",
    "fvd_i3d": f"{_ROOM}.sets.i3d:FVD_I3D",
    "rfvd_i3d": f"{_ROOM}.sets.i3d:RFVD_I3D",
    "kvd_i3d": f"{_ROOM}.sets.i3d:KVD_I3D",
    "frechet_efficientnet_lite0": f"{_ROOM}.sets.frechet:FRECHET_EFFICIENTNET_LITE0",
    "code_usage": f"{_ROOM}.codes.usage:CODE_USAGE",
    "code_perplexity": f"{_ROOM}.codes.usage:CODE_PERPLEXITY",
    "feature_similarity_efficientnet_lite0": (
        f"{_ROOM}.pair.feature_similarity:FEATURE_SIMILARITY_EFFICIENTNET_LITE0"
    ),
    "object_iou": f"{_PHYSICS}.places:OBJECT_IOU",
    "energy_error": f"{_PHYSICS}.conservation:ENERGY_ERROR",
    "energy_drift": f"{_PHYSICS}.conservation:ENERGY_DRIFT",
    "momentum_error": f"{_PHYSICS}.conservation:MOMENTUM_ERROR",
    "support_error": f"{_PHYSICS}.places:SUPPORT_ERROR",
    "object_permanence": f"{_PHYSICS}.places:OBJECT_PERMANENCE",
    "counterfactual_margin": f"{_PHYSICS}.places:COUNTERFACTUAL_MARGIN",
    "prompt_following": f"{_ROOM}.judges.prompt_following:PROMPT_FOLLOWING",
    "failure_judged": f"{_ROOM}.judges.failure:FAILURE_JUDGED",
}


def metrics() -> dict[str, Metric]:
    """All known metrics by name, built-in ones first. No network is loaded.

    Raises:
        ConfigError: an entry point names something else than a metric, or cannot be loaded.
    """
    found: dict[str, Metric] = {}
    for name, place in BUILTIN_METRICS.items():
        module, _, attribute = place.partition(":")
        found[name] = getattr(import_module(module), attribute)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            metric = point.load()
        except Exception as error:  # whatever the module of a stranger raises
            raise ConfigError(
                f"The metric '{point.name}' ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}. Mend the package that declares it in the entry "
                f"points of {ENTRY_POINT_GROUP}, or uninstall it."
            ) from error
        if not isinstance(metric, Metric):
            raise ConfigError(
                f"The entry point '{point.name}' of {ENTRY_POINT_GROUP} names a "
                f"{type(metric).__name__}, not a metric. Make it a PairMetric, SetMetric or "
                "JudgeMetric, or uninstall the package that declares it."
            )
        found.setdefault(metric.name, metric)
    return found


def as_metrics(chosen: Iterable[Metric | str] | None = None) -> list[Metric]:
    """Metrics that are given themselves or by name; by default those of :func:`choose_metrics`.

    Args:
        chosen: metrics and names.

    Raises:
        ConfigError: a name is unknown, or it is a name alone in place of a list.
    """
    if chosen is None or isinstance(chosen, str):
        return choose_metrics(chosen)
    return [one if isinstance(one, Metric) else choose_metrics([one])[0] for one in chosen]


def default_motion() -> frozenset[str]:
    """Names of default metrics that have no number where all videos are single pictures."""
    return frozenset(metric.name for metric in choose_metrics() if metric.min_frames > 1)


def choose_metrics(names: Iterable[str] | None = None) -> list[Metric]:
    """The metrics of these names; by default all that need no weights, server or large set.

    Raises:
        ConfigError: a name is unknown.
    """
    known = metrics()
    if names is None:
        return [metric for metric in known.values() if metric.is_default]
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigError(f"metrics is {names!r:.80}; it must be a list of names: ['psnr'].")
    chosen = list(dict.fromkeys(str(name) for name in names))
    for name in chosen:
        if name not in known:
            raise ConfigError(
                f"There is no metric '{name}'. The nearest are {nearest_names(name, known)}; "
                f"all metrics: {', '.join(known)}."
            )
    return [known[name] for name in chosen]
