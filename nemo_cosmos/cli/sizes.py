"""Sizes as people write them on the command line."""

from __future__ import annotations

import re

from nemo_cosmos.errors import WrongSizeError


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in pixels of ``96x128``.

    Raises:
        WrongSizeError: it is not two numbers with an x between.
    """
    match = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if match is None:
        raise WrongSizeError(
            f"The size '{text}' is not HEIGHTxWIDTH; expected two numbers of pixels, for example "
            "--size 96x128."
        )
    return int(match[1]), int(match[2])
