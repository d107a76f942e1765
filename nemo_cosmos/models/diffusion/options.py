"""What a person can choose about sampling from a diffusion model; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.options import option

SAMPLER_NAMES = ("res_2ab", "edm_euler")


@dataclass(frozen=True)
class DiffusionOptions:
    """Choices about the sampling.

    Attributes:
        guidance: how strongly to follow the prompt; 0 is without guidance and twice as fast.
        steps: sampling steps.
        sampler: ``res_2ab`` or ``edm_euler``.
        guide_frames: whether guidance strengthens the given frames, too.
        guide_control: whether guidance strengthens the control, too.
        control_guidance: how strongly to follow the control, on its own; 0 is faster. Both need a
            model that was trained with ``control_dropout``.
        sigma_max: the noise level that sampling begins with.
        sigma_min: the lowest level that it visits.
    """

    guidance: float = option(
        7.0, "How strongly to follow the prompt; 0 is faster.", least=0, most=1000
    )
    steps: int = option(35, "Sampling steps.", least=1, most=100000)
    sampler: str = option("res_2ab", "res_2ab or edm_euler.", choices=SAMPLER_NAMES)
    guide_frames: bool = option(False, "Let guidance strengthen the given frames, too.")
    guide_control: bool = option(False, "Let guidance strengthen the control, too.")
    control_guidance: float = option(
        0.0, "How strongly to follow the control; 0 is faster.", least=0, most=1000
    )
    sigma_max: float = option(80.0, "Noise level to begin with.", above=0, most=1e6)
    sigma_min: float = option(0.002, "Lowest noise level that is visited.", above=0, most=1e6)
