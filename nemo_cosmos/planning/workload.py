"""What a diffusion run trains in one step, taken from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.flops import DiTFlops, dit_flops
from nemo_cosmos.models.diffusion.network.inputs import token_grid
from nemo_cosmos.models.diffusion.parallel.cp_box import Size3
from nemo_cosmos.models.diffusion.parallel.divisibility import Sharing


@dataclass(frozen=True)
class Precision:
    """Bytes that one parameter costs, by what they are for.

    Attributes:
        name: Lightning's name, such as ``"bf16-mixed"``.
        compute_bytes: a weight or activation in the forward pass.
        gradient_bytes: an accumulated gradient.
        optimizer_bytes: float32 master weight (in mixed precision) and both moments of Adam.
        ema_bytes: the averaged weight; 0 without an average.
        fp8: whether the matrix products of the layers run in FP8.
    """

    name: str
    compute_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    ema_bytes: int
    fp8: bool = False

    @classmethod
    def of(cls, name: str, *, grad_reduce_in_fp32: bool, ema: bool, fp8: bool = False) -> Precision:
        """Megatron's mixed precision by its name.

        Args:
            name: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.
            grad_reduce_in_fp32: whether gradients are accumulated and reduced in float32.
            ema: whether a float32 average of the weights is kept.
            fp8: whether FP8 is asked for.
        """
        ema_bytes = 4 if ema else 0
        if name.startswith("32"):  # the weights are their own master copy
            return cls(name, 4, 4, 8, ema_bytes)
        return cls(name, 2, 4 if grad_reduce_in_fp32 else 2, 12, ema_bytes, fp8)

    @property
    def state_bytes(self) -> int:
        """All bytes of one parameter."""
        return self.compute_bytes + self.gradient_bytes + self.optimizer_bytes + self.ema_bytes


@dataclass(frozen=True)
class Workload:
    """One step of a diffusion run.

    Attributes:
        config: the network; its parallel sizes do not matter here.
        latent_thw: latent frames, rows and columns of a sample.
        num_text_tokens: of the text embedding.
        micro_batch_size: samples of a forward pass.
        global_batch_size: samples of an optimiser step.
        precision: bytes by kind.
        noise_levels: per sample: 1, or the number of latent frames (with a control).
        packed: whether samples are packed.
        other_latents_thw: further sizes of samples, which have to divide over processes, too.
    """

    config: DiTConfig
    latent_thw: tuple[int, int, int]
    num_text_tokens: int
    micro_batch_size: int
    global_batch_size: int
    precision: Precision
    noise_levels: int = 1
    packed: bool = False
    other_latents_thw: tuple[Size3, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens of one sample."""
        frames, rows, columns = self.latent_thw
        return frames * rows * columns // self.config.patch_volume

    @property
    def sample_flops(self) -> DiTFlops:
        """Operations of one sample's forward pass, by part."""
        return dit_flops(
            self.config,
            self.latent_thw,
            self.num_text_tokens,
            batch_size=1,
            noise_levels=self.noise_levels,
        )

    def check_sharing(self, sharing: Sharing) -> None:
        """Require samples to divide over the processes that share them.

        Raises:
            ConfigError: they do not.
        """
        if self.packed:
            sharing.check_packs()
        latents = () if self.packed else (self.latent_thw, *self.other_latents_thw)
        grids = [token_grid(latent_thw, self.config) for latent_thw in latents]
        sharing.check(grids, self.num_text_tokens)

    def with_tokens_of(self, latent_thw: tuple[int, int, int]) -> Workload:
        """The same run on samples of another size."""
        return replace(self, latent_thw=latent_thw)
