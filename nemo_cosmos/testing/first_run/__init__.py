"""The checks of a first run on a GPU: each a small function of a device.

``tests/gpu/first_run.py`` runs all of them and writes a line each; the suite runs them on a CPU, at
nano size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from nemo_cosmos.testing.first_run import kernels, machine, networks, training
from nemo_cosmos.testing.first_run.kit import Figures


class FirstCheck(NamedTuple):
    """One check.

    Attributes:
        look: returns what it found; raises where it is not as expected.
        expected: what is expected, in words.
        limit_s: seconds that it may take on one H200.
    """

    look: Callable[[torch.device], Figures]
    expected: str
    limit_s: int

    @property
    def name(self) -> str:
        """The check's name."""
        return self.look.__name__


CHECKS: tuple[FirstCheck, ...] = (
    FirstCheck(
        machine.versions_and_ceilings,
        "bfloat16 products over 600 TFLOP/s and copies over 3.5 TB/s on an H200",
        20,
    ),
    FirstCheck(
        machine.platform_and_process_groups,
        "no CPU backend beside CUDA; process groups by NCCL without a port",
        15,
    ),
    FirstCheck(machine.tests_on_the_gpu, "tests/gpu pass", 45),
    FirstCheck(
        kernels.elementwise_steps,
        "values and gradients within 2e-5 (float32) and 2e-2 (bfloat16) of float64",
        30,
    ),
    FirstCheck(
        kernels.attention,
        "values and gradients within 2e-2 in bfloat16; no scores in memory at 56,320 tokens",
        30,
    ),
    FirstCheck(
        networks.network_in_bfloat16,
        "output within 5 % and gradients within 20 % of the CPU in float32",
        20,
    ),
    FirstCheck(networks.two_wide_layers, "over 250 TFLOP/s at 56,320 tokens", 60),
    FirstCheck(
        networks.recomputation, "equal gradients within 2 %; full recomputation saves memory", 40
    ),
    FirstCheck(
        kernels.packs, "samples in a pack as alone; a modulation's gradient in under 50 ms", 30
    ),
    FirstCheck(networks.host_work_of_a_step, "the host never waits; a step's noise repeats", 20),
    FirstCheck(training.optimiser_steps, "the loss falls; a loaded state goes on equally", 40),
    FirstCheck(networks.sampler, "four guided steps within 1e-2 of the CPU", 30),
    FirstCheck(
        networks.tokenizer,
        "within 1e-4 of the CPU without TF32 and 1e-2 with; 33 frames of 704x1280 fit",
        40,
    ),
    FirstCheck(training.trainer_that_resumes, "a resumed run equals one run, bit for bit", 80),
    FirstCheck(kernels.compilation, "compiled steps are no slower than their formulas", 40),
)
"""In the order in which they are worth their time: what fails early explains what fails late."""
