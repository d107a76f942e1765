"""What steers a world model: signals, as files beside a video, and the controls that use them.

Nothing here imports torch, so that curation and the command line read signals quickly. The networks
that embed them live with each model family (``nemo_cosmos.models.diffusion.controls``).
"""

from nemo_cosmos.controls.camera import CAMERA, fit_camera
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.embodiment import Embodiment, find_embodiment
from nemo_cosmos.controls.registry import (
    MAX_ACTION,
    Control,
    ControlSpec,
    available_controls,
    comparable_options,
    controls_of,
    get_control,
    get_controls,
    known_signal,
    settled,
)
from nemo_cosmos.controls.resized import fit_recorded
from nemo_cosmos.controls.rig import LAYOUT, RIG
from nemo_cosmos.controls.signal import Signal, TimeAxes, infer_signal, unaffected, undeclared_axes
from nemo_cosmos.controls.signal_array import SignalArray, TimeAxis
from nemo_cosmos.controls.signal_files import Values, decode_arrays, encode_arrays, read_signal

__all__ = [
    "CAMERA",
    "LAYOUT",
    "MAX_ACTION",
    "RIG",
    "Control",
    "ControlSpec",
    "Embodiment",
    "PictureChange",
    "Signal",
    "SignalArray",
    "TimeAxes",
    "TimeAxis",
    "Values",
    "available_controls",
    "comparable_options",
    "controls_of",
    "decode_arrays",
    "encode_arrays",
    "find_embodiment",
    "fit_camera",
    "fit_recorded",
    "get_control",
    "get_controls",
    "infer_signal",
    "known_signal",
    "read_signal",
    "settled",
    "unaffected",
    "undeclared_axes",
]
