"""From a prompt, frames and controls to a guarded video.

::

    pipe = WorldPipeline.from_folder("my_world")
    pipe.generate("a robot arm lifts a red block").save("video.mp4")
    pipe.predict("a robot arm lifts a red block", "first.png", control={"action": actions})

The pipeline is the guarded shell around a family's generator: every prompt passes the prompt guards
before anything is computed, every video the video guards before it is returned. Shape suffixes:
B batch, L tokens, D channels, T frames, H height, W width, C colours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from nemo_cosmos.batch import Views
from nemo_cosmos.checkpoint.adapters.merged import Weighted
from nemo_cosmos.checkpoint.world.folder import World, load_world
from nemo_cosmos.checkpoint.world.folder import model_record as describe_weights
from nemo_cosmos.controls import Signal, controls_of
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.inference.completion import check_request
from nemo_cosmos.inference.diffusion_decoder import DiffusionDecoder
from nemo_cosmos.inference.given import FrameSource
from nemo_cosmos.inference.layouts import encode_layouts
from nemo_cosmos.inference.loading import default_dtype, load_shared_world
from nemo_cosmos.inference.offloading import (
    DECODER,
    GUARDS,
    NETWORK,
    TOKENIZER,
    TakingTurns,
    Turns,
    check_offload,
)
from nemo_cosmos.inference.request import CheckedRequest, Controls, Request
from nemo_cosmos.inference.result import Result
from nemo_cosmos.inference.views import Rig
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.models.common.latents import LatentCodec
from nemo_cosmos.models.common.text import load_text_encoder
from nemo_cosmos.platform import default_device, on_first_process
from nemo_cosmos.progress import Progress
from nemo_cosmos.provenance.belonging import TEXT_ENCODER
from nemo_cosmos.provenance.record import make_record
from nemo_cosmos.video import Video, frames_to_tensor, tensor_to_frames


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
        decoder: a diffusion model that decodes the world's codes in its tokenizer's place.
        offload: parts that wait in the CPU's memory while others work; names of
            :data:`~nemo_cosmos.inference.offloading.PARTS`.

    Raises:
        ConfigError: there is no such part, or it cannot wait.
    """

    def __init__(
        self,
        world: World,
        text_encoder: Encoder,
        guards: GuardPolicy,
        decoder: World | None = None,
        offload: Collection[str] = (),
    ) -> None:
        check_offload(offload, has_decoder=decoder is not None)
        self.world = world
        self.decoder = decoder
        parts: dict[str, list[nn.Module]] = {NETWORK: [world.net], TOKENIZER: [world.tokenizer]}
        codec: LatentCodec = world.tokenizer
        if decoder is not None:
            codec = DiffusionDecoder(world.tokenizer, decoder)
            parts[DECODER] = [decoder.net, decoder.tokenizer]
        self._turns = Turns({name: parts[name] for name in offload})
        if offload:
            codec = TakingTurns(codec, self._turns, TOKENIZER if decoder is None else DECODER)
        self.text_encoder = text_encoder
        self.guards = guards
        self.generator = get_family(world.config.family).make_generator(
            world.net, world.config.model, codec, world.folder
        )

    @classmethod
    def from_folder(
        cls,
        path: str | PathLike[str],
        guards: GuardPolicy | None = None,
        dtype: torch.dtype | None = None,
        tp: int = 1,
        allow_mismatch: Collection[str] = (),
        adapters: Sequence[Weighted] = (),
        decoder: str | PathLike[str] | None = None,
        offload: Collection[str] = (),
    ) -> Self:
        """Load a world-model folder; with several ranks (``torchrun``), share its weights out.

        Args:
            path: the folder, as training exports it.
            guards: the guards, by default all; turn one off by its name with
                ``GuardPolicy.default(disabled=["face_blur"])``.
            dtype: precision to compute in; bfloat16 on a GPU by default, float32 on a CPU.
            tp: how many of the ranks that a launcher started share the weights of a layer. The
                rest share the tokens of the video. All of them call the pipeline's methods alike,
                and get the same result.
            allow_mismatch: kinds of difference between the world and its tokenizer or text encoder
                that are meant; see :mod:`nemo_cosmos.provenance.belonging`. The provenance
                records them.
            adapters: what is put on the world's weights, such as
                ``[Weighted(Path("outputs/rain/adapter"), 0.5)]``.
            decoder: folder of a diffusion decoder of the world's codes; none by default.
            offload: parts that wait in the CPU's memory while others work: ``"network"``,
                ``"tokenizer"`` and ``"diffusion_decoder"``. The video stays the same.

        Raises:
            ConfigError: ``tp`` does not divide the ranks or the heads, or a part cannot wait.
            MissingFileError: the folder or a part of it does not exist.
            CheckpointError: it is damaged.
        """
        check_offload(offload, tp, decoder is not None)
        cpu = torch.device("cpu")
        place = cpu if NETWORK in offload else None
        world = load_shared_world(path, dtype, tp, allow_mismatch, adapters, place)
        if TOKENIZER not in offload:
            world.tokenizer.to(default_device())
        spec = dict(world.config.text_encoder)
        if TEXT_ENCODER in allow_mismatch and spec.pop("probe", None) is not None:
            meant = (*world.config.allowed_mismatch, f"{TEXT_ENCODER}: not compared")
            world = replace(world, config=replace(world.config, allowed_mismatch=meant))
        encoder = load_text_encoder(spec)
        decodes = None
        if decoder is not None:
            place = cpu if DECODER in offload else None
            decodes = load_world(decoder, dtype or default_dtype(), place)
        policy = guards if guards is not None else GuardPolicy.default()
        return cls(world, encoder, policy, decodes, offload)

    def generate(
        self,
        prompt: str,
        *,
        control: Controls | None = None,
        rig: Rig | None = None,
        view_prompts: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        **options: object,
    ) -> Result:
        """Generate a video without frames to begin with (Text2World).

        Args:
            prompt: what happens.
            control: the signals of the model's controls, for exactly the frames of the video.
            rig: the cameras of a model of several.
            view_prompts: what single cameras of several show instead, by their names.
            progress: called after every sampling step; may raise ``Cancelled``.
            **options: fields of :class:`GenerationOptions`, and those of the model's family, such
                as :class:`~nemo_cosmos.models.diffusion.options.DiffusionOptions`.

        Raises:
            PromptError: the prompt is longer than the text encoder takes.
            GuardrailError: a guard refused.
            InputError: an option is not legal; the message names the nearest that are.
            Cancelled: ``progress`` raised it.
        """
        request = Request(
            "generate",
            prompt,
            options,
            control=control or {},
            rig=rig,
            view_prompts=view_prompts or {},
        )
        return self.run(request, progress)

    def predict(
        self,
        prompt: str | None,
        frames: FrameSource | Mapping[str, FrameSource],
        *,
        begin: str | int | None = None,
        num_condition_frames: int | None = None,
        control: Controls | None = None,
        rig: Rig | None = None,
        whole: Collection[str] = (),
        view_prompts: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        **options: object,
    ) -> Result:
        """Continue an image or a video (Video2World).

        Args:
            prompt: what happens; None only for a model with a control.
            frames: uint8 RGB (T,H,W,3), a ``Video``, or the path of an image or video, of which
                frames at the model's rate are decoded. They are scaled and cropped to the video's
                size and are also the first frames of the result.
            begin: which frames are given: ``"first"``, ``"last"``, or the number of the first one.
                By default the first with a control, else the last.
            num_condition_frames: how many frames are given: 1, or more where the model was trained
                with more.
            control: the signals of the model's controls, for exactly the frames of the new video,
                from the first given frame on.
            rig: the cameras of a model of several; ``frames`` are then by the camera's name.
            whole: names of cameras that are given from begin to end.
            view_prompts: what single cameras of several show instead, by their names.
            progress: called after every sampling step; may raise ``Cancelled``.
            **options: the options of :meth:`generate`.

        Raises:
            PromptError: no prompt, or one that is too long.
            GuardrailError: a guard refused.
            SampleError: the control arrays do not fit the video.
            InputError: an option is not legal; the message names the nearest that are.
            Cancelled: ``progress`` raised it.
        """
        request = Request(
            "predict",
            prompt,
            options,
            frames,
            begin,
            num_condition_frames,
            control=control or {},
            rig=rig,
            whole=tuple(whole),
            view_prompts=view_prompts or {},
        )
        return self.run(request, progress)

    def extend(
        self,
        prompt: str | None,
        frames: FrameSource | Mapping[str, FrameSource],
        num_chunks: int,
        *,
        begin: str | int | None = None,
        num_condition_frames: int | None = None,
        control: Controls | None = None,
        rig: Rig | None = None,
        whole: Collection[str] = (),
        view_prompts: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        **options: object,
    ) -> Result:
        """Continue a video chunk by chunk, each from the last frames of the one before.

        Args:
            prompt: what happens; None only for a model with a control.
            frames: the frames to continue, one or more; see :meth:`predict`.
            num_chunks: how many times to continue.
            begin: which frames are given; see :meth:`predict`.
            num_condition_frames: frames that each chunk takes from the one before; by default as
                many as the model was trained with. The first chunk takes what there is.
            control: signals for exactly the frames of the whole new video, from its first given
                frame on.
            rig: the cameras of a model of several; see :meth:`predict`.
            whole: names of cameras that are given from begin to end.
            view_prompts: what single cameras of several show instead, by their names.
            progress: called after every sampling step of all chunks; may raise ``Cancelled``.
            **options: the options of :meth:`generate`; ``num_frames`` is a chunk's.

        Raises:
            InputError, GuardrailError, Cancelled: as :meth:`predict`.
        """
        request = Request(
            "extend",
            prompt,
            options,
            frames,
            begin,
            num_condition_frames,
            num_chunks,
            control or {},
            rig,
            tuple(whole),
            view_prompts or {},
        )
        return self.run(request, progress)

    def run(self, request: Request, progress: Progress | None = None) -> Result:
        """Fulfil a request; :meth:`generate`, :meth:`predict` and :meth:`extend` make one.

        Args:
            request: the request.
            progress: called after every sampling step; may raise ``Cancelled``.
        """
        checked = check_request(request, self.generator, self.world.config.video, self.signals)
        context = {"model": self.world.folder.name, "seed": checked.options.seed}
        verdicts = [
            verdict
            for prompt in dict.fromkeys(checked.prompts)
            for verdict in self._check_prompt(prompt, context)
        ]
        text = self._encode_text(checked)
        made, runs = self._make(checked, text, progress)
        self._turns.take(GUARDS)
        # Guards keep a log and may call services: one rank asks, all get the answer.
        safe, video_verdicts = on_first_process(lambda: self._check_views(made, context, checked))
        return self._result(checked, safe, [*verdicts, *video_verdicts], runs)

    @cached_property
    def model_record(self) -> dict[str, object]:
        """The model's part of the provenance; hashing large weights takes a while."""
        record = describe_weights(self.world)
        if self.decoder is not None:
            record = {**record, "diffusion_decoder": describe_weights(self.decoder)}
        return record

    @cached_property
    def signals(self) -> dict[str, Signal]:
        """The signals of the model's controls by name."""
        controls = controls_of(self.world.config.controls)
        return {signal.name: signal for control in controls for signal in control.signals}

    def _check_prompt(self, prompt: str | None, context: dict[str, object]) -> list[Verdict]:
        """Let the prompt guards judge; without a prompt, a control alone steers."""
        if prompt is None:
            return []
        return on_first_process(lambda: self.guards.check_prompt(prompt, context))

    def _check_views(
        self, made: Mapping[str, np.ndarray], context: dict[str, object], checked: CheckedRequest
    ) -> tuple[dict[str, np.ndarray], list[Verdict]]:
        """Let the video guards judge what every camera sees."""
        safe, verdicts = {}, []
        for view, frames_THWC in made.items():
            safe[view], found = self.guards.check_video(frames_THWC, context, checked.fps)
            verdicts += found
        return safe, verdicts

    def _encode_text(self, checked: CheckedRequest) -> tuple[Tensor, Tensor]:
        """Return the prompt's and the negative prompt's embeddings; zeros for none.

        Raises:
            PromptError: a prompt is longer than the text encoder takes.
        """
        prompts, negative = checked.prompts, checked.options.negative_prompt
        texts = [text for text in (*prompts, negative) if text is not None]
        embedded = iter(self.text_encoder.encode(texts)[0].split(1)) if texts else iter(())
        spec = self.world.config.text_encoder
        zeros_BLD = torch.zeros(1, spec["max_length"], spec["dim"])
        of_prompts = [zeros_BLD if prompt is None else next(embedded) for prompt in prompts]
        negative_BLD = zeros_BLD if negative is None else next(embedded)
        if not checked.view_prompts:
            return of_prompts[0], negative_BLD
        # A text a view, (1, V, L, D); what no camera shows is the same for all.
        text_BVLD = torch.stack(of_prompts, dim=1)
        return text_BVLD, negative_BLD[:, None].expand_as(text_BVLD)

    def _make(
        self, checked: CheckedRequest, text: tuple[Tensor, Tensor], progress: Progress | None
    ) -> tuple[dict[str, np.ndarray], list[dict[str, object]]]:
        """Generate all chunks; return uint8 frames of each view, and what each chunk took."""
        runs: list[dict[str, object]] = []
        whole = {view: checked.given[view] for view in checked.whole}
        videos = {view: one for view, one in checked.given.items() if view not in whole}
        tails = dict(videos)
        for chunk in range(checked.num_chunks):
            if chunk:
                tails = {view: video[-checked.overlap :] for view, video in videos.items()}
            first = chunk * (checked.chunk_frames - checked.overlap)
            shown = tails | {
                view: video[first : first + checked.chunk_frames] for view, video in whole.items()
            }
            shot = Shot(
                text_BLD=text[0],
                negative_text_BLD=text[1],
                num_frames=checked.chunk_frames,
                height=checked.size_hw[0],
                width=checked.size_hw[1],
                fps=checked.fps,
                seed=checked.options.seed,
                options=checked.family_options,
                controls=checked.controls_of(chunk) | self._layouts(checked, chunk),
                chunk=chunk,
                **_given(checked.views, shown),
            )
            self._turns.take(NETWORK)
            made = self.generator.generate(shot, _part_of(progress, chunk, checked.num_chunks))
            frames_THWC = tensor_to_frames(made[0])
            by_view = dict(
                zip(checked.views, np.split(frames_THWC, len(checked.views)), strict=True)
            )
            if self.generator.last_run:
                runs.append(dict(self.generator.last_run))
            if checked.task != "extend":
                return by_view, runs
            # A long video keeps the given frames themselves, not what the tokenizer makes of them.
            for view in by_view.keys() - whole.keys():
                new = by_view[view][len(tails.get(view, ())) :]
                videos[view] = np.concatenate([videos[view], new]) if view in videos else new
        return {view: (videos | whole)[view] for view in checked.views}, runs

    def _layouts(self, checked: CheckedRequest, chunk: int) -> dict[str, np.ndarray]:
        """The latent of a chunk's layout videos, where the request has them."""
        layouts = checked.layouts_of(chunk)
        return encode_layouts(self.world.tokenizer, layouts) if layouts else {}

    def _result(
        self,
        checked: CheckedRequest,
        made: Mapping[str, np.ndarray],
        verdicts: list[Verdict],
        runs: list[dict[str, object]],
    ) -> Result:
        """Put video and provenance together; views are hashed one after another."""
        given = list(checked.given.values())
        record = make_record(
            task=checked.task,
            model=self.model_record,
            prompt=checked.prompt,
            negative_prompt=checked.options.negative_prompt,
            options=checked.recorded_options(),
            given_frames_THWC=np.concatenate(given) if given else None,
            given_times_s=checked.given_times_s,
            control={
                name if name == array else f"{name}.{array}": values
                for name, arrays in checked.values.items()
                for array, values in arrays.items()
            }
            | {f"layout.{view}": frames for view, frames in checked.layouts.items()},
            verdicts=verdicts,
            frames_THWC=np.concatenate(list(made.values())),
            fps=checked.fps,
            runs=runs,
            views=tuple(made) if len(made) > 1 else (),
            view_prompts=checked.view_prompts,
        )
        videos = {view: Video(frames_THWC, checked.fps) for view, frames_THWC in made.items()}
        return Result.of_views(videos, record)


def _given(views: Views, shown: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What is given of each view, as a shot takes it."""
    tensors = [frames_to_tensor(shown[view])[None] if view in shown else None for view in views]
    if len(views) == 1:
        return {"views": views, "given_BCTHW": tensors[0]}
    return {"views": views, "given_by_view": tuple(tensors)}


def _part_of(progress: Progress | None, chunk: int, num_chunks: int) -> Progress | None:
    """Report a chunk's steps as part of those of all chunks."""
    if progress is None:
        return None
    return lambda done, total: progress(chunk * total + done, num_chunks * total)
