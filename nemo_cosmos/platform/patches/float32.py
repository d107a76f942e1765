"""Whether CUDA computes float32 in float32."""

from __future__ import annotations

import os

from nemo_cosmos.errors import ConfigError

VARIABLE = "NEMO_COSMOS_TF32"


def set_float32_kernels() -> None:
    """Let this process compute float32 on CUDA in float32, unless ``NEMO_COSMOS_TF32=1``.

    By torch's default convolutions, such as a tokenizer's, round their inputs to TF32, 10 bits of
    mantissa, so that results differ from a CPU's by about a thousandth. With the variable, products
    do so as well, which is several times faster.

    Raises:
        ConfigError: the variable is neither 0 nor 1.
    """
    import torch

    chosen = os.environ.get(VARIABLE) or "0"
    if chosen not in ("0", "1"):
        raise ConfigError(
            f"{VARIABLE}={chosen} is unknown. Set it to 1, so that float32 convolutions and "
            "products on CUDA round to TF32, or to 0, the default."
        )
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = chosen == "1"
