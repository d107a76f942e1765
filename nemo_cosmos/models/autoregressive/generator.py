"""Generation with an autoregressive model: given codes in, decoded codes and video out.

Implements :class:`nemo_cosmos.models.common.generator.Generator`. Shape suffixes: B batch,
C channels, T frames, H height, W width, P codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, WrongFrameCountError
from nemo_cosmos.models.autoregressive.build import joined_context
from nemo_cosmos.models.autoregressive.costs import grid_of
from nemo_cosmos.models.autoregressive.decoding.coupled import decode_coupled
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import (
    Decoded,
    Job,
    check_window,
    decode_jacobi,
    decode_plain,
)
from nemo_cosmos.models.autoregressive.decoding.medusa import decode_medusa
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import Tree, grow_tree
from nemo_cosmos.models.autoregressive.decoding.window import (
    MeasuredWindow,
    best_tree,
    pass_seconds,
    tried_sizes,
    tried_windows,
)
from nemo_cosmos.models.autoregressive.heads.file import SavedHeads, load_heads
from nemo_cosmos.models.autoregressive.network.places import Grid, check_grid
from nemo_cosmos.models.autoregressive.options import AROptions
from nemo_cosmos.models.common.generator import Shot, from_first_rank, on_all_ranks
from nemo_cosmos.models.common.latents import check_side
from nemo_cosmos.platform import by_device
from nemo_cosmos.progress import Progress

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.build import ARWorldNetwork
    from nemo_cosmos.models.autoregressive.process.config import ARProcess
    from nemo_cosmos.models.common.latents import LatentCodec

CPU_WINDOW, GPU_WINDOW = 32, 96
"""Codes that are drawn at once by default: a GPU's pass costs about the same up to a hundred."""


class ARGenerator:
    """Makes videos with an autoregressive network and the tokenizer of its codes.

    Args:
        net: the network in evaluation mode, or this tensor-parallel rank's part of it.
        process: the training that it had.
        tokenizer: pixels to codes and back.
        folder: the world's folder, where its heads are; None where there is none.

    Raises:
        ConfigError: the tokenizer has another codebook.
    """

    options_class = AROptions
    takes_frames = True

    def __init__(
        self,
        net: ARWorldNetwork,
        process: ARProcess,
        tokenizer: LatentCodec,
        folder: Path | None = None,
    ) -> None:
        if tokenizer.config.num_codes != net.config.vocab_size:
            raise ConfigError(
                f"The model was trained on {net.config.vocab_size} codes, but its tokenizer has "
                f"{tokenizer.config.num_codes}. Use the tokenizer that made the training data."
            )
        self.net = net
        self.process = process
        self.tokenizer = tokenizer
        self.folder = folder
        self._last_run: dict[str, object] = {}
        self._seconds: list[float] = []  # of a pass of each size, once measured

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.net.parameters()).device

    @cached_property
    def saved_heads(self) -> SavedHeads:
        """The world's heads.

        Raises:
            MissingFileError: it has none.
            CheckpointError: they are damaged, or another model's.
        """
        if self.folder is None:
            raise MissingFileError(
                "A network without a world's folder has no heads that guess ahead. Decode with "
                "decoding='jacobi', or load the world from its folder."
            )
        config = self.net.config
        return load_heads(
            self.folder, config.hidden_size, dtype=config.params_dtype, device=self.device
        )

    @property
    def last_run(self) -> Mapping[str, object]:
        """Strategy, window, passes of the network and codes of the last video."""
        return self._last_run

    @property
    def needs_frames(self) -> bool:
        """Whether the network has no token to begin a video with."""
        return not self.net.config.begin_token

    @property
    def takes_text(self) -> bool:
        """Whether the network attends to a text."""
        return bool(self.net.config.context_channels)

    def legal_given(self, num_frames: int) -> list[int]:
        """Return the frame counts that fill whole latents and leave some to generate."""
        tokenizer = self.tokenizer.config
        counts = map(tokenizer.num_pixel_frames, range(1, self.net.config.max_frames))
        return [count for count in counts if count < num_frames]

    def check(self, num_frames: int, height: int, width: int, options: AROptions) -> None:
        """Check length, size and window.

        Raises:
            WrongFrameCountError: a length that the tokenizer or the network cannot take.
            WrongSizeError: a size that it cannot take.
            ConfigError: guidance without text, a window longer than the video, or guesses by heads
                for a decoding that takes none.
            MissingFileError, CheckpointError: heads are asked for, which the world lacks.
        """
        most = self.tokenizer.config.num_pixel_frames(self.net.config.max_frames)
        if num_frames > most:  # first, so that the nearest legal lengths below are legal here
            raise WrongFrameCountError(
                f"{num_frames} frames are more than the {most} that this model makes at once. "
                "Ask for fewer, or use 'extend' for a longer video."
            )
        step = self.tokenizer.config.spatial_factor
        check_side("height", height, step, step * self.net.config.max_height)
        check_side("width", width, step, step * self.net.config.max_width)
        self.tokenizer.latent_shape(num_frames, height, width)
        num_codes = check_grid(self._grid(num_frames, height, width), self.net.config)
        if options.guidance and not self.takes_text:
            raise ConfigError(
                f"guidance={options.guidance:g} follows a prompt, but this model takes none. "
                "Leave it out."
            )
        if options.window is not None:
            check_window(options.window, num_codes)
        by_heads = options.drafts == "heads"
        if by_heads and options.decoding not in ("auto", "jacobi"):
            raise ConfigError(
                f"drafts='heads' guesses for decoding='jacobi', not for '{options.decoding}'. "
                "Leave it out, or choose that decoding."
            )
        if options.acceptance == "typical" and options.decoding != "medusa":
            raise ConfigError(
                f"acceptance='typical' is for decoding='medusa', not for '{options.decoding}'. "
                "Leave it out, or choose that decoding; it changes the distribution of the codes."
            )
        if by_heads or options.decoding == "medusa":
            _ = self.saved_heads  # before anything is computed

    @torch.no_grad()
    def generate(self, shot: Shot, progress: Progress | None = None) -> Tensor:
        """Decode the shot's codes and turn them into pixels; every rank of the network calls it.

        Returns:
            video_BCTHW in [-1, 1], the same on every rank.

        Raises:
            Cancelled: the progress of any rank raised it.
            InputError: no frames, for a network that cannot begin a video.
        """
        grid = self._grid(shot.num_frames, shot.height, shot.width)
        given_P = self._given(shot)
        job = Job(
            given=[given_P],
            totals=[math.prod(grid)],
            seeds=[shot.seed],
            sampling=self._sampling(shot.options),
            stream=shot.chunk,
        )
        decoded = self._decode(shot, grid, job, on_all_ranks(progress))
        self._last_run |= {"passes": decoded.num_passes, "codes": decoded.num_drawn}
        (codes_P,) = decoded.codes
        codes_BTHW = codes_P.view(1, *grid).int()
        # Decoded once: GPUs may round differently, and ranks must begin the next chunk alike.
        return from_first_rank(lambda: self.tokenizer.decode(codes_BTHW))

    def _decode(self, shot: Shot, grid: Grid, job: Job, progress: Progress) -> Decoded:
        options: AROptions = shot.options
        usual = by_device(CPU_WINDOW, GPU_WINDOW, self.device)
        window = options.window or min(usual, job.totals[0])
        is_plain, is_medusa = options.decoding == "plain", options.decoding == "medusa"
        sizes = tuple(min(size, job.totals[0]) for size in tried_sizes(self.device))
        if is_medusa and options.window is None:
            window = max(sizes)
        measured = None
        if options.decoding == "auto" and options.window is None:
            measured = MeasuredWindow(tried_windows(self.device, job.totals[0]), self.device)
            window = measured.largest
        scorer = self._scorer(shot, grid, spare=0 if is_plain else window)
        name = "jacobi" if options.decoding == "auto" else options.decoding
        self._last_run = {"decoding": name, "top_p": job.sampling.top_p}
        if is_plain:
            return decode_plain(scorer, job, progress)
        if is_medusa:
            heads = self.saved_heads.heads.to(self.device)  # the network may have waited elsewhere
            choose = partial(self._tree, sizes=sizes, window=options.window)
            is_lossy = options.acceptance == "typical"
            self._last_run["acceptance"] = options.acceptance
            return decode_medusa(scorer, job, heads, choose, progress, is_lossy=is_lossy)
        self._last_run |= {"window": window, "drafts": options.drafts}
        drafts = Drafts(options.drafts, grid, self.net.config.vocab_size)
        if name == "coupled":
            return decode_coupled(scorer, job, window, drafts, progress)
        by_heads = None
        if options.drafts == "heads":
            by_heads = self.saved_heads.heads.to(self.device)
        decoded = decode_jacobi(scorer, job, measured or window, drafts, progress, by_heads)
        if measured is not None:
            self._last_run["window"] = measured.size  # None was chosen for few codes
        return decoded

    def _scorer(self, shot: Shot, grid: Grid, spare: int) -> Scorer:
        """Return the network with the shot's text and controls."""
        guidance: float = shot.options.guidance
        batch = {name: self._on_device(values) for name, values in shot.controls.items()}
        control = self.net.embed_controls(batch, grid)
        text, negative = (
            joined_context(self.net.config, text_BLD.to(self.device), control)
            for text_BLD in (shot.text_BLD, shot.negative_text_BLD)
        )
        return Scorer(
            self.net,
            grid,
            spare=spare,
            text_BMC=text,
            negative_BMC=negative if guidance else None,
            guidance=guidance,
            frame_BTE=control.frame_BTE,
        )

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values)[None].to(self.device)

    def _tree(self, scorer: Scorer, sizes: Sequence[int], window: int | None) -> Tree:
        """Return the tree of a number of nodes, or the fastest one here, measured once."""
        acceptance = self.saved_heads.acceptance
        if window is not None:
            tree = grow_tree(acceptance, window)
        else:
            self._seconds = self._seconds or pass_seconds(scorer, sizes)
            tree = best_tree(acceptance, sizes, self._seconds)
        self._last_run |= {"window": tree.num_nodes, "heads": len(acceptance)}
        return tree

    def _sampling(self, options: AROptions) -> Sampling:
        top_p = self.process.top_p if options.top_p is None else options.top_p
        return Sampling(options.temperature, options.top_k, top_p)

    def _given(self, shot: Shot) -> Tensor:
        """Return the codes of the given frames; none where there are no frames."""
        if shot.given_BCTHW is None:
            if self.needs_frames:
                raise InputError(
                    "This model continues given frames and cannot begin a video. Give an image or "
                    "a video."
                )
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        codes_BTHW = self.tokenizer.encode(shot.given_BCTHW.to(self.device))
        return codes_BTHW.flatten().long()

    def _grid(self, num_frames: int, height: int, width: int) -> Grid:
        return grid_of((num_frames, height, width), self.tokenizer.config)
