"""From a prompt, frames and controls to a guarded video.

::

    pipe = WorldPipeline.from_folder("my_world")
    pipe.generate("a robot arm lifts a red block").save("video.mp4")
    pipe.predict("a robot arm lifts a red block", frames, control={"action": actions})

Every prompt passes the prompt guards before anything is computed, every video the video guards
before it is returned. Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from os import PathLike
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from nemo_cosmos.checkpoint.world.folder import World, model_record
from nemo_cosmos.controls import Signal, Values, get_controls
from nemo_cosmos.errors import ConfigError, InputError, PromptError, WrongFrameCountError
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.inference.options import GenerationOptions, check_num_given, largest_given
from nemo_cosmos.inference.result import Result
from nemo_cosmos.inference.sharding import load_shared_world
from nemo_cosmos.models.common.text import load_text_encoder
from nemo_cosmos.models.diffusion.build import WorldNetwork
from nemo_cosmos.models.diffusion.family import diffusion_settings
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.parallel.sampling import sample_on_all
from nemo_cosmos.models.diffusion.process.conditioning import (
    FrameCondition,
    augment_sigma_for_chunk,
)
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs
from nemo_cosmos.models.diffusion.process.samplers import seeded_noise
from nemo_cosmos.platform import on_first_process
from nemo_cosmos.provenance.record import make_record
from nemo_cosmos.video import Video, center_crop, frames_to_tensor, tensor_to_frames

Progress = Callable[[int, int], None]
"""Called after every sampling step with the number done and the number in all."""

Controls = Mapping[str, np.ndarray | Values]
"""Signals by name: ``{"action": actions}``, or arrays by name for one with several."""


class Encoder(Protocol):
    """A text encoder; see :class:`nemo_cosmos.models.common.text.TextEncoder`."""

    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings (B,L,D) with zeros beyond the text, and their mask (B,L)."""
        ...


class WorldPipeline:
    """A world model ready to generate.

    Args:
        world: the loaded model.
        text_encoder: the encoder that it was trained with.
        guards: what prompts and videos must pass.
    """

    def __init__(self, world: World, text_encoder: Encoder, guards: GuardPolicy) -> None:
        self.world = world
        self.text_encoder = text_encoder
        self.guards = guards

    @classmethod
    def from_folder(
        cls,
        path: str | PathLike[str],
        guards: GuardPolicy | None = None,
        dtype: torch.dtype = torch.float32,
        tp: int = 1,
    ) -> Self:
        """Load a world-model folder; with several processes (``torchrun``), share its weights out.

        Args:
            path: the folder, as training exports it.
            guards: by default every guard; turn one off by its name with
                ``GuardPolicy.default(disabled=["face_blur"])``.
            dtype: precision to compute in.
            tp: of the processes that a launcher started, how many share the weights of a layer.
                The rest share the tokens of the video. All of them call the pipeline's methods
                alike, and get the same result.

        Raises:
            ConfigError: ``tp`` does not divide the processes or the heads.
            MissingFileError: the folder or a part of it is not there.
            CheckpointError: it is damaged.
        """
        world = load_shared_world(path, dtype, tp)
        encoder = load_text_encoder(world.config.text_encoder)
        return cls(world, encoder, guards if guards is not None else GuardPolicy.default())

    def generate(self, prompt: str, *, progress: Progress | None = None, **options: Any) -> Result:
        """Generate a video from a prompt (Text2World).

        Args:
            prompt: what happens.
            progress: called after every sampling step.
            **options: see :class:`GenerationOptions`.

        Raises:
            PromptError: the prompt is longer than the text encoder takes.
            GuardrailError: a guard refused.
            InputError: an option is not legal; the message names the nearest that are.
        """
        chosen = GenerationOptions.make(options, self.world)
        self._check_control({})
        verdicts = self._check_prompt(prompt, chosen)
        text = self._encode_text(prompt, chosen)
        frames_THWC = self._sample(text, chosen, progress=progress)
        return self._result("generate", prompt, chosen, frames_THWC, verdicts)

    def predict(
        self,
        prompt: str | None,
        frames_THWC: np.ndarray,
        *,
        num_condition_frames: int = 1,
        control: Controls | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Result:
        """Continue an image or a video (Video2World).

        Args:
            prompt: what happens; None only for a model with a control.
            frames_THWC: uint8 RGB; the last ``num_condition_frames`` of them are continued, scaled
                and cropped to the video's size. They are also the first frames of the result.
            num_condition_frames: 1, or more where the model was trained with more.
            control: the signals of the model's controls, for exactly the frames of the video.
            progress: called after every sampling step.
            **options: see :class:`GenerationOptions`.

        Raises:
            PromptError: no prompt, or one that is too long.
            GuardrailError: a guard refused.
            SampleError: the control arrays do not fit the video.
            InputError: an option is not legal; the message names the nearest that are.
        """
        chosen = GenerationOptions.make(options, self.world)
        check_num_given(num_condition_frames, chosen, self.world)
        given_THWC = _last_frames(frames_THWC, num_condition_frames, chosen)
        arrays = self._check_control(control or {})
        embedding = self._embed_control(arrays, chosen, 0, chosen.length)
        verdicts = self._check_prompt(prompt, chosen)
        text = self._encode_text(prompt, chosen)
        video_THWC = self._sample(
            text, chosen, given_THWC=given_THWC, control=embedding, progress=progress
        )
        return self._result("predict", prompt, chosen, video_THWC, verdicts, given_THWC, arrays)

    def extend(
        self,
        prompt: str | None,
        frames_THWC: np.ndarray,
        num_chunks: int,
        *,
        num_condition_frames: int | None = None,
        control: Controls | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Result:
        """Continue a video chunk by chunk, each from the last frames of the one before.

        The given frames are augmented with more noise from chunk to chunk (0.001, 0.2, then 0.5),
        so that flaws of generated frames do not add up.

        Args:
            prompt: what happens; None only for a model with a control.
            frames_THWC: uint8 RGB; one frame or more.
            num_chunks: how many times to continue.
            num_condition_frames: frames that each chunk takes from the one before; by default as
                many as the model was trained with. The first chunk takes what there is.
            control: signals for exactly the frames of the new video, from its first given frame.
            progress: called after every sampling step of all chunks.
            **options: see :class:`GenerationOptions`; ``num_frames`` is a chunk's.

        Raises:
            InputError, GuardrailError: as :meth:`predict`.
        """
        if num_chunks < 1:
            raise ConfigError(f"num_chunks is {num_chunks}; it must be 1 or more.")
        chosen = GenerationOptions.make(options, self.world)
        overlap = num_condition_frames or largest_given(chosen, self.world)
        check_num_given(overlap, chosen, self.world)
        first = largest_given(chosen, self.world, at_most=min(overlap, len(frames_THWC)))
        arrays = self._check_control(control or {})
        step = chosen.length - overlap
        whole = chosen.length + (num_chunks - 1) * step
        controls = [self._embed_control(arrays, chosen, n * step, whole) for n in range(num_chunks)]
        verdicts = self._check_prompt(prompt, chosen)
        text = self._encode_text(prompt, chosen)
        video_THWC = given_THWC = _last_frames(frames_THWC, first, chosen)
        for chunk, embedding in enumerate(controls):
            tail_THWC = video_THWC[-(overlap if chunk else first) :]
            new_THWC = self._sample(
                text,
                chosen,
                given_THWC=tail_THWC,
                control=embedding,
                chunk=chunk,
                progress=_part_of(progress, chunk, num_chunks),
            )
            video_THWC = np.concatenate([video_THWC, new_THWC[len(tail_THWC) :]])
        return self._result("extend", prompt, chosen, video_THWC, verdicts, given_THWC, arrays)

    @cached_property
    def _model_record(self) -> dict[str, Any]:
        """The model's part of the provenance; hashing large weights takes a while."""
        return model_record(self.world)

    def _check_prompt(self, prompt: str | None, options: GenerationOptions) -> list[Verdict]:
        """Let the prompt guards judge; nothing is asked where a control alone steers."""
        if prompt is None:
            if not self.world.config.controls:
                raise PromptError(
                    "There is no prompt. This model is steered by text; say what happens."
                )
            return []
        context = {"model": self.world.folder.name, "seed": options.seed}
        return on_first_process(lambda: self.guards.check_prompt(prompt, context))

    def _encode_text(self, prompt: str | None, options: GenerationOptions) -> tuple[Tensor, Tensor]:
        """Return the prompt's and the negative prompt's embeddings; zeros for none.

        Raises:
            PromptError: a prompt is longer than the text encoder takes.
        """
        texts = [text for text in (prompt, options.negative_prompt) if text is not None]
        embedded = iter(self.text_encoder.encode(texts)[0].split(1)) if texts else iter(())
        spec = self.world.config.text_encoder
        zeros_BLD = torch.zeros(1, spec["max_length"], spec["dim"])
        text_BLD = zeros_BLD if prompt is None else next(embedded)
        uncond_BLD = zeros_BLD if options.negative_prompt is None else next(embedded)
        return text_BLD.to(self._device), uncond_BLD.to(self._device)

    @cached_property
    def _signals(self) -> dict[str, Signal]:
        """The signals of the model's controls by name."""
        controls = get_controls(spec.name for spec in self.world.config.controls)
        return {signal.name: signal for control in controls for signal in control.signals}

    def _check_control(self, control: Controls) -> dict[str, Values]:
        """Return the arrays of each signal that the model's controls read.

        Raises:
            InputError: one is missing, or there is one that the model does not know.
        """
        if sorted(control) != sorted(self._signals):
            raise InputError(
                f"The model takes {_listed(self._signals)} as control, but got {_listed(control)}. "
                "Give exactly those; a model learns a control in post-training."
            )
        return {name: signal.values(control[name]) for name, signal in self._signals.items()}

    def _embed_control(
        self,
        arrays: Mapping[str, Values],
        options: GenerationOptions,
        first_frame: int,
        whole_frames: int,
    ) -> ControlEmbedding | None:
        """Embed a window of the signals; None without a control.

        Args:
            arrays: the signals' arrays for all frames.
            options: say the window's length.
            first_frame: first frame of the window.
            whole_frames: how many frames the arrays must be for.
        """
        batch: dict[str, Tensor] = {}
        for name, signal in self._signals.items():
            signal.check(arrays[name], whole_frames)
            batch |= {
                key: torch.from_numpy(values)[None].to(self._device)
                for key, values in signal.batch(arrays[name], first_frame, options.length).items()
            }
        return self._net.embed_controls(batch, options.latent_shape(self.world))

    def _sample(
        self,
        text: tuple[Tensor, Tensor],
        options: GenerationOptions,
        *,
        given_THWC: np.ndarray | None = None,
        control: ControlEmbedding | None = None,
        chunk: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Sample one video (or chunk) and decode it to uint8 frames."""
        process = diffusion_settings(self.world.config.model).process
        shape = options.latent_shape(self.world)
        noise_BCTHW = seeded_noise(shape, (options.seed + chunk) % 2**32).to(self._device)
        frames = None
        if given_THWC is not None:
            frames = self._frame_condition(given_THWC, noise_BCTHW, augment_sigma_for_chunk(chunk))
        conditions = SamplingInputs(
            text_BLD=text[0],
            uncond_text_BLD=text[1],
            guidance=options.guidance,
            fps_B=torch.tensor([options.fps], dtype=torch.float32, device=self._device),
            frames=frames,
            control=control,
            guide_frames=options.guide_frames,
            guide_control=options.guide_control,
        )
        x0_BCTHW = sample_on_all(
            self._net,
            conditions,
            process,
            noise_BCTHW,
            sampler=options.sampler,
            num_steps=options.steps,
            progress=progress,
        )
        latents_BCTHW = x0_BCTHW / process.edm.sigma_data
        return on_first_process(
            lambda: tensor_to_frames(self.world.tokenizer.decode(latents_BCTHW)[0])
        )

    def _frame_condition(
        self, given_THWC: np.ndarray, noise_BCTHW: Tensor, augment_sigma: float
    ) -> FrameCondition:
        """Encode the given frames into the first latents.

        The tokenizer is causal, so padding the frames to the whole length first, as the reference
        does, would give the same latents.
        """
        video_BCTHW = frames_to_tensor(given_THWC)[None].to(self._device)
        latents_BCTHW = self.world.tokenizer.encode(video_BCTHW)
        num_given = latents_BCTHW.shape[2]
        x0_BCTHW = torch.zeros_like(noise_BCTHW)
        process = diffusion_settings(self.world.config.model).process
        x0_BCTHW[:, :, :num_given] = latents_BCTHW * process.edm.sigma_data
        return FrameCondition.first_frames(
            x0_BCTHW,
            torch.tensor([num_given], device=self._device),
            noise_BCTHW,
            torch.tensor([augment_sigma], device=self._device),
        )

    def _result(
        self,
        task: str,
        prompt: str | None,
        options: GenerationOptions,
        frames_THWC: np.ndarray,
        verdicts: list[Verdict],
        given_THWC: np.ndarray | None = None,
        signals: Mapping[str, Values] | None = None,
    ) -> Result:
        """Let the video guards judge, and put video and provenance together."""
        context = {"model": self.world.folder.name, "seed": options.seed}
        fps = float(options.fps or 0)
        safe_THWC, video_verdicts = on_first_process(
            lambda: self.guards.check_video(frames_THWC, context, fps)
        )
        record = make_record(
            task=task,
            model=self._model_record,
            prompt=prompt,
            negative_prompt=options.negative_prompt,
            options=options.to_dict(),
            given_frames_THWC=given_THWC,
            control={
                name if name == array else f"{name}.{array}": values
                for name, arrays in (signals or {}).items()
                for array, values in arrays.items()
            },
            verdicts=[*verdicts, *video_verdicts],
            frames_THWC=safe_THWC,
            fps=fps,
        )
        return Result(Video(safe_THWC, fps), record)

    @property
    def _net(self) -> WorldNetwork:
        assert isinstance(self.world.net, WorldNetwork)
        return self.world.net

    @property
    def _device(self) -> torch.device:
        return next(self.world.net.parameters()).device


def _last_frames(
    frames_THWC: np.ndarray, num_frames: int, options: GenerationOptions
) -> np.ndarray:
    """Return the last frames, scaled and cropped to the video's size."""
    if len(frames_THWC) < num_frames:
        raise WrongFrameCountError(
            f"The input has {len(frames_THWC)} frames, but {num_frames} are to be continued. Give "
            "a longer input, or continue fewer frames."
        )
    last = Video(frames_THWC[-num_frames:], fps=float(options.fps or 0)).frames_THWC
    return center_crop(last, (options.height or 0, options.width or 0))


def _part_of(progress: Progress | None, chunk: int, num_chunks: int) -> Progress | None:
    """Report a chunk's steps as part of those of all chunks."""
    if progress is None:
        return None
    return lambda done, total: progress(chunk * total + done, num_chunks * total)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"
