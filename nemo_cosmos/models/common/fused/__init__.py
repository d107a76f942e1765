"""The elementwise steps of the networks' layers, each in few passes over memory.

Between matrix products and attention a layer does little arithmetic, but reads and writes all its
tokens again and again. Each such step is a :class:`Region`: a plain formula, which says what is
computed, and faster forms of it. On CUDA the formula is compiled into one kernel a direction
(``compiled``); on a CPU its gradients are written out by hand (``written``). The configuration's
``fused="plain"`` computes the formulas as they stand, to compare or to debug.

The GELU of the feed-forward network is no region: torch's kernel of it is one pass already, and the
epilogues of matrix products that could absorb it know its approximation by tanh alone.

Shape suffixes: L tokens, B batch, T rows of a modulation, E model width, D a head's channels.
"""

from __future__ import annotations

from nemo_cosmos.models.common.fused import formulas, written
from nemo_cosmos.models.common.fused.region import MODES, Region, check_mode, form

__all__ = [
    "MODES",
    "REGIONS",
    "Region",
    "add_gated",
    "add_gated_and_modulate",
    "check_mode",
    "form",
    "modulate",
    "place_and_modulate",
    "rms_norm",
    "rotate",
]

rms_norm = Region(formulas.rms_norm, written.rms_norm)
rotate = Region(formulas.rotate, written.rotate)
modulate = Region(formulas.modulate, written.modulate)
place_and_modulate = Region(formulas.place_and_modulate, written.place_and_modulate)
add_gated = Region(formulas.add_gated, written.add_gated)
add_gated_and_modulate = Region(formulas.add_gated_and_modulate, written.add_gated_and_modulate)

REGIONS: dict[str, Region] = {
    "rms_norm": rms_norm,
    "rotate": rotate,
    "modulate": modulate,
    "place_and_modulate": place_and_modulate,
    "add_gated": add_gated,
    "add_gated_and_modulate": add_gated_and_modulate,
}
"""All of them by name."""
