"""How clips are cut into windows and stored as latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nemo_cosmos.data.augmentation.settings import Variants
from nemo_cosmos.data.loading.buckets import Size, nearest_size
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import check_fields, check_instance, check_size, limited

LATENT_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
"""Types of latents on disk by name."""


@dataclass(frozen=True)
class TokenizeConfig:
    """How clips are cut and stored.

    Attributes:
        window_frames: frames N of a window; 1 makes images.
        window_stride: frames between the starts of windows; the last window ends with the clip.
        size: (height, width) of a window; clips of another aspect are padded by reflection.
        more_sizes: further sizes; a clip takes the one whose aspect is nearest to its own.
        batch_size: windows encoded at once.
        keep_video: whether to write the window's frames as mp4, too.
        latent_dtype: type on disk: ``float16``, ``bfloat16`` or ``float32``.
        variants: changed copies of each window, beside the window itself; none by default.
    """

    window_frames: int = limited(17, least=1)
    window_stride: int = limited(8, least=1)
    size: Size = (96, 128)
    more_sizes: tuple[Size, ...] = ()
    batch_size: int = limited(4, least=1)
    keep_video: bool = False
    latent_dtype: str = "float16"
    variants: Variants | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.variants is not None:
            check_instance("variants", self.variants, Variants, "Write Variants(flip=0.5, ...).")
        for size in self.sizes:
            check_size("size", size)
        if self.latent_dtype not in LATENT_DTYPES:
            raise ConfigError(
                f"latent_dtype is '{self.latent_dtype}'; expected {', '.join(LATENT_DTYPES)}."
            )

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes that a window may have."""
        return (self.size, *self.more_sizes)

    def size_of(self, clip: Sample) -> Size:
        """Return the size of a clip's windows."""
        return nearest_size(clip.record.height, clip.record.width, self.sizes)
