"""Train a tiny world model under a layout, and say what the loss and every gradient were.

The cases run in the pools of processes (``nemo_cosmos.testing.processes``), through NeMo's trainer.
Each rank reports the parts of the gradients that it holds; :func:`whole_gradients` puts them
together.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo_cosmos.batch import DataSpec
from nemo_cosmos.data.loading.loader import collate
from nemo_cosmos.data.order.packing import collate_pack

TEXT_TOKENS, TEXT_DIM = 6, 12
VIDEO, IMAGE = (16, 4, 4, 4), (16, 1, 4, 4)
PACKED = (VIDEO, (16, 3, 2, 2), IMAGE, (16, 1, 2, 6))
"""Shapes of samples in packs, of 16, 3, 4 and 3 tokens: some packs do not divide by two."""
STEPS = 3
GLOBAL_BATCH = 4
MIXED = "mixed"
"""Videos that go on from their first frames (video2world), and every other batch images."""
TASKS = ("text2world", MIXED)
STEERED = "steered"
"""A task of its own: as video2world, with actions that steer every latent frame, and a camera."""
VIEWS = ("views", "views_text")
"""Tasks of several cameras: as video2world, with names, rigs and given views; one text or three."""
CAMERAS = ("front", "left", "roof")
ACTIONS_A_FRAME = 2
CODE_PACKS = "codes_packs"
"""As codes_text, with videos of different shapes in packs."""
CODES = ("codes", "codes_text", "codes_steered", CODE_PACKS)
"""Tasks of the autoregressive family: codes of videos, without and with a text, or with actions."""
PACKED_CODES = ((4, 4, 4), (3, 3, 3), (1, 4, 4), (1, 3, 3))
"""Codes in packs; with 27 and 9 of them, some packs do not divide by two."""
NUM_CODES = 90
"""They are padded to 128, so that a tensor-parallel rank holds codes and what pads them."""
DECODED_GRID = (3, 2, 4)
ADAPTED = "adapted"
"""A task of its own: as video2world with actions, with adapters trained instead of the weights."""
PACKS = "packs"
"""A task of its own: as video2world, with samples of different shapes in packs of one to three."""


@dataclass(frozen=True)
class Layout:
    """How a case is spread over processes; the names are the strategy's."""

    tensor_model_parallel_size: int = 1
    sequence_parallel: bool = False
    context_parallel_size: int = 1
    pipeline_model_parallel_size: int = 1
    virtual_pipeline_model_parallel_size: int | None = None
    num_distributed_optimizer_instances: int = 1
    fsdp: str | None = None
    overlap: bool | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    micro_batch: int = 1

    def strategy(self) -> dict[str, Any]:
        others = ("config", "micro_batch")
        names = [name for name in self.__dataclass_fields__ if name not in others]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Piece:
    """What a rank knows of a gradient."""

    name: str
    whole_shape: tuple[int, ...]
    part: tuple[slice, ...]
    value: Tensor


@dataclass(frozen=True)
class Report:
    """What a rank saw: by step, the loss and the gradients' pieces and norm; then the weights.

    ``exported`` are the whole network's, gathered on the first rank; ``sampled`` is a latent drawn
    at the last step, where the layout can sample.
    """

    losses: list[float]
    gradients: list[list[Piece]]
    norms: list[float]
    weights: list[Piece]
    exported: dict[str, Tensor]
    sampled: list[Tensor]


def train(
    task: str, layout: Layout, weights: str | None, folder: str, precision: str = "32"
) -> Report:
    """Train for three steps; on every rank of the pool."""
    import lightning.pytorch as pl

    from nemo_cosmos.models.common.megatron.module import bare_networks
    from nemo_cosmos.models.common.megatron.parts import whole_state
    from nemo_cosmos.training.callbacks.samples import SampleVideos
    from nemo_cosmos.training.fsdp.network import ShardedNetwork
    from nemo_cosmos.training.lifecycle import fresh_globals
    from nemo_cosmos.training.strategy import WorldStrategy
    from nemo_cosmos.training.trainer import WorldTrainer
    from nemo_cosmos.training.weights.initial import InitialWeights

    seen = Report([], [], [], [], {}, [])

    class Record(pl.Callback):
        def on_train_start(self, trainer: Any, *_: Any) -> None:
            optimizer = trainer.strategy.optimizers[0]
            step = optimizer.mcore_optimizer.step

            def recording_step(*args: Any, **kwargs: Any) -> Any:
                seen.gradients.append(gradient_pieces(trainer))
                result = step(*args, **kwargs)
                seen.norms.append(float(result[1]))
                return result

            optimizer.mcore_optimizer.step = recording_step

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            for part in trainer.strategy.megatron_parallel.modules():
                if isinstance(part, ShardedNetwork):
                    gathers = part.module.all_gather_pipeline.param_gather_event_map.values()
                    busy = any(event.works for event, _ in gathers)
                    assert not busy, "gloo gathers layers while others compute"
            seen.losses.append(float(trainer.callback_metrics["reduced_train_loss"]))

        def on_train_end(self, trainer: Any, *_: Any) -> None:
            trainer.strategy.sync_weights()
            seen.weights.extend(weight_pieces(trainer))
            seen.exported.update(
                {
                    name: tensor.float()
                    for name, tensor in whole_state(bare_networks(trainer)).items()
                }
            )

    def sampler(model: Any) -> dict[str, Any]:
        seen.sampled.append(draw_sample(model, task))
        return {}

    samples = task in ("text2world", *VIEWS) and layout.virtual_pipeline_model_parallel_size is None
    with fresh_globals():
        first = [] if weights is None else [InitialWeights(weights)]
        trainer = WorldTrainer(
            max_steps=STEPS,
            precision=precision,
            devices=int(os.environ.get("WORLD_SIZE", "1")),
            strategy=WorldStrategy(seed=7, **layout.strategy()),
            callbacks=[*first, Record(), *([SampleVideos(sampler)] if samples else [])],
            log_every_n_steps=1,
            default_root_dir=folder,
        )
        trainer.fit(make_model(task, layout), datamodule=make_data(task, layout.micro_batch))
    return seen


def losses_of(task: str, layout: Layout, folder: str, precision: str) -> list[float]:
    """The losses alone of a training from random weights, in any precision."""
    return train(task, layout, None, folder, precision).losses


def train_shifted(layout: Layout, folder: str) -> tuple[int, dict[str, int], float]:
    """How many numbers a rank reads, sizes of whole tensors, and the largest error of a shift.

    At a learning rate of zero a step writes the optimiser's float32 weights back.
    """
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl

    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from nemo_cosmos.training.logger import RunLogger
    from nemo_cosmos.training.session import TrainingSession
    from nemo_cosmos.training.strategy import WorldStrategy
    from nemo_cosmos.training.trainer import WorldTrainer

    still = OptimizerConfig(optimizer="adam", lr=0.0, use_distributed_optimizer=True)
    arguments: dict[str, Any] = {
        "model": DiffusionModel(
            config_of("text2world", layout), optim=nl.MegatronOptimizerModule(config=still)
        ),
        "data": make_data("text2world", layout.micro_batch),
        "trainer": WorldTrainer(
            max_steps=2,
            precision="bf16-mixed",
            devices=2,
            strategy=WorldStrategy(**layout.strategy()),
        ),
        "log": RunLogger(name="run", log_dir=folder, tensorboard_enabled=False),
    }
    with TrainingSession.start(**arguments) as session:
        session.advance(1)
        wanted = [replace(p, tensor=p.tensor + 0.0123) for p in session.weights()]
        session.replace(wanted)
        session.advance(1)
        found = list(session.weights())
        errors = [
            float((ours.tensor - theirs.tensor).abs().max())
            for ours, theirs in zip(found, wanted, strict=True)
            if ours.tensor.is_floating_point()
        ]
        whole = {part.name: torch.Size(part.whole_shape).numel() for part in found}
        return sum(part.tensor.numel() for part in found), whole, max(errors)


@dataclass(frozen=True)
class Averaged:
    """What a rank found of the weights' average.

    Attributes:
        error: largest difference from the average of the weights of all steps, in float64.
        applied: largest difference of the weights from that average, while it was applied.
        is_undone: whether the weights were the same again afterwards.
        num_averaged: numbers that the rank averages.
        num_trained: numbers of the weights that its network holds.
    """

    error: float
    applied: float
    is_undone: bool
    num_averaged: int
    num_trained: int


def train_averaged(layout: Layout, folder: str, overlap: bool, precision: str) -> Averaged:
    """Average the weights over three steps, and compare on this rank what it holds of them."""
    from megatron.core.distributed import DistributedDataParallelConfig

    from nemo_cosmos.models.common.megatron.module import bare_networks
    from nemo_cosmos.models.common.megatron.parts import parts_of
    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from nemo_cosmos.training.callbacks.ema import EMA
    from nemo_cosmos.training.logger import RunLogger
    from nemo_cosmos.training.session import TrainingSession
    from nemo_cosmos.training.strategy import WorldStrategy
    from nemo_cosmos.training.trainer import WorldTrainer

    ema = EMA(decay=0.5)
    overlaps = {}
    if overlap:
        settings = {"overlap_grad_reduce": True, "overlap_param_gather": True, "bucket_size": 5000}
        overlaps["ddp"] = DistributedDataParallelConfig(use_distributed_optimizer=True, **settings)
    adam = optimizer()
    adam.config.overlap_param_gather = overlap
    arguments: dict[str, Any] = {
        "model": DiffusionModel(config_of("text2world", layout), optim=adam),
        "data": make_data("text2world", layout.micro_batch),
        "trainer": WorldTrainer(
            max_steps=STEPS,
            precision=precision,
            devices=int(os.environ.get("WORLD_SIZE", "1")),
            strategy=WorldStrategy(seed=7, **overlaps, **layout.strategy()),
            callbacks=[ema],
        ),
        "log": RunLogger(name="run", log_dir=folder, tensorboard_enabled=False),
    }
    with TrainingSession.start(**arguments) as session:
        wanted = [part.tensor.double() for part in session.weights()]
        for step in range(STEPS):
            past = min(0.5, (1 + step) / (10 + step))
            session.advance(1)
            for average, part in zip(wanted, session.weights(), strict=True):
                average.lerp_(part.tensor.double(), 1 - past)
        held = [p.tensor for n in bare_networks(session.trainer) for p in parts_of(n)]
        before = [tensor.clone() for tensor in held]
        with ema.applied():
            pairs = list(zip(held, wanted, strict=True))
            applied = max(float((mine - whole).abs().max()) for mine, whole in pairs)
        by_place = {tensor.data_ptr(): whole for tensor, whole in pairs}
        errors = [
            float((by_place[each.weight.data_ptr()].flatten()[each.elements] - average.flatten())
                  .abs().max())
            for each, average in zip(ema._shares, ema._averages, strict=True)
        ]  # fmt: skip
        return Averaged(
            max(errors),
            applied,
            all(torch.equal(mine, kept) for mine, kept in zip(held, before, strict=True)),
            sum(average.numel() for average in ema._averages),
            sum(tensor.numel() for tensor in held if tensor.requires_grad),
        )


@dataclass(frozen=True)
class SavedState:
    """What a rank puts into a checkpoint of the optimiser.

    Attributes:
        kind: the form, as Megatron names it.
        num_saved: numbers of all its entries.
        num_trained: numbers of the weights that its network holds.
        has_copies: whether an entry is anything but a view of what the optimiser steps.
    """

    kind: str
    num_saved: int
    num_trained: int
    has_copies: bool


def save_state(folder: str) -> SavedState:
    """Train a step on data-parallel ranks, and describe the optimiser for a checkpoint."""
    import lightning.pytorch as pl
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from nemo_cosmos.training.lifecycle import fresh_globals
    from nemo_cosmos.training.strategy import WorldStrategy
    from nemo_cosmos.training.trainer import WorldTrainer

    found: list[SavedState] = []

    class Describe(pl.Callback):
        def on_train_end(self, trainer: Any, *_: Any) -> None:
            strategy = trainer.strategy
            (inner,) = strategy.optimizers
            inner = inner.mcore_optimizer.chained_optimizers[0].optimizer
            stepped = [t for state in inner.state.values() for t in state.values()]
            stepped += [p for group in inner.param_groups for p in group["params"]]
            storages = {t.untyped_storage().data_ptr() for t in stepped if torch.is_tensor(t)}
            state = strategy.optimizer_sharded_state_dict(
                metadata=strategy.sharded_state_dict_metadata
            )
            tensors = [e.data for e in nested_values(state) if isinstance(e, ShardedTensor)]
            found.append(
                SavedState(
                    strategy.sharded_state_dict_metadata["distrib_optim_sharding_type"],
                    sum(tensor.numel() for tensor in tensors),
                    sum(weight.numel() for weight in strategy.trained_weights()),
                    any(t.untyped_storage().data_ptr() not in storages for t in tensors),
                )
            )

    with fresh_globals():
        trainer = WorldTrainer(
            max_steps=1,
            precision="bf16-mixed",
            devices=2,
            strategy=WorldStrategy(seed=7),
            callbacks=[Describe()],
            default_root_dir=folder,
        )
        model = DiffusionModel(config_of("text2world", Layout()), optim=optimizer())
        trainer.fit(model, datamodule=make_data("text2world", 1))
    return found[0]


def draw_sample(model: Any, task: str = "text2world") -> Tensor:
    """The same on every rank, whatever it holds of the network."""
    from nemo_cosmos.models.common.megatron.module import bare_network
    from nemo_cosmos.models.diffusion.network.views import CameraViews
    from nemo_cosmos.models.diffusion.parallel.sampling import sample_on_all
    from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs

    generator = torch.Generator().manual_seed(1)
    text = torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=generator)
    noise = torch.randn(1, *VIDEO, generator=generator)
    views = None
    if task in VIEWS:  # two cameras of two frames
        views = CameraViews(torch.tensor([[1, 2]]), 2, torch.randn(1, 2, 17, generator=generator))
    if task == "views_text":
        text = torch.stack([text, text.flip(1)], dim=1)
    conditions = SamplingInputs(text, torch.zeros_like(text), guidance=2.0, views=views)
    return sample_on_all(bare_network(model), conditions, model.process, noise, num_steps=3)


def make_model(task: str, layout: Layout) -> Any:
    """The Lightning module of a task."""
    from nemo_cosmos.models.autoregressive.model import ARModel
    from nemo_cosmos.models.diffusion.model import DiffusionModel

    if task in CODES:
        controls = controls_of(STEERED if task == "codes_steered" else "")
        controls["controls"] = controls["controls"][:1]  # a camera steers diffusion alone
        return ARModel(codes_config(task, layout), optim=optimizer(), **controls)
    process = process_of_views() if task in VIEWS else None
    model = DiffusionModel(config_of(task, layout), process, optimizer(), **controls_of(task))
    if task == ADAPTED:
        from nemo_cosmos.training.adapters.lora import LoRA

        model.peft = LoRA(dim=3, alpha=6)  # a rank that no number of processes divides
    return model


def process_of_views() -> Any:
    """First frames and whole views are given, and names hidden."""
    from nemo_cosmos.models.diffusion.process.conditioning import (
        ConditioningConfig,
        ViewConditioning,
    )
    from nemo_cosmos.models.diffusion.process.config import DiffusionConfig

    return DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=1),
        views=ViewConditioning(max_given=1, name_dropout=0.3),
    )


def codes_config(task: str, layout: Layout) -> Any:
    from nemo_cosmos.models.autoregressive.network.config import ARConfig

    text = {"context_channels": TEXT_DIM, "begin_token": True, "absolute_positions": True}
    return ARConfig(
        num_layers=4,
        hidden_size=48,
        ffn_hidden_size=40,
        num_attention_heads=4,
        num_query_groups=2,
        vocab_size=NUM_CODES,
        max_frames=4,
        max_height=4,
        max_width=4,
        layer_spec="local",
        **(text if task in ("codes_text", CODE_PACKS) else {}),
        **({"control_channels": 40} if task == "codes_steered" else {}),
        **layout.config,
    )


def decode_codes(task: str, weights: str) -> list[list[int]]:
    """The codes of two videos, plain and by windows; on every rank of the pool."""
    from nemo_cosmos.checkpoint.loading import load_weights
    from nemo_cosmos.checkpoint.world.folder import open_weights
    from nemo_cosmos.models.autoregressive.build import build_network
    from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
    from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi, decode_plain
    from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
    from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
    from nemo_cosmos.platform import ensure_model_parallel

    tp = int(os.environ.get("WORLD_SIZE", "1"))
    ensure_model_parallel(tp=tp)
    config = codes_config(task, Layout(config={"tensor_model_parallel_size": tp}))
    net = build_network(config).eval().requires_grad_(False)
    for weight in net.parameters():
        weight.zero_()  # the weights were drawn from the same seed; a load must change something
    load_weights([net], open_weights(Path(weights) / "model.safetensors"), "the test's network")
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(2, 5, TEXT_DIM, generator=generator) if task == "codes_text" else None
    given = [torch.randint(NUM_CODES, (n,), generator=generator) for n in (8, 3)]
    job = Job(given, [24, 20], [4, 5], Sampling(top_p=0.9))
    plain = decode_plain(Scorer(net, DECODED_GRID, 2, text_BMC=text), job)
    drafts = Drafts("frame", DECODED_GRID, NUM_CODES)
    windows = decode_jacobi(Scorer(net, DECODED_GRID, 2, spare=6, text_BMC=text), job, 6, drafts)
    return [codes.tolist() for codes in (*plain.codes, *windows.codes)]


def config_of(task: str, layout: Layout) -> Any:
    from nemo_cosmos.models.diffusion.network.config import DiTConfig

    return DiTConfig(
        num_layers=4,
        hidden_size=48,
        num_attention_heads=4,
        crossattn_emb_channels=TEXT_DIM,
        adaln_lora_dim=8,
        max_frames=4,
        max_height=8,
        max_width=8,
        condition_mask=task != "text2world",
        layer_spec="local",
        view_slots=CAMERAS[:2] if task in VIEWS else (),
        **layout.config,
    )


def controls_of(task: str) -> dict[str, Any]:
    from nemo_cosmos.controls import ControlSpec
    from nemo_cosmos.models.diffusion.controls import TokenizerFacts

    controls = [ControlSpec("action"), ControlSpec("camera")] if task in (STEERED, ADAPTED) else []
    return {"controls": controls, "tokenizer": TokenizerFacts(ACTIONS_A_FRAME)}


def optimizer() -> Any:
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl

    # With a large epsilon a step is smooth in the gradient: rounding does not decide on signs.
    return nl.MegatronOptimizerModule(
        config=OptimizerConfig(
            optimizer="adam",
            lr=1e-3,
            adam_eps=1e-3,
            clip_grad=1.0,
            use_distributed_optimizer=True,
        )
    )


def make_data(task: str, micro_batch: int) -> Any:
    """Samples or packs in order; in ``mixed``, every second step is of images."""
    import lightning.pytorch as pl
    from nemo import lightning as nl

    class Data(pl.LightningDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.data_sampler = nl.MegatronDataSampler(
                seq_len=1, micro_batch_size=micro_batch, global_batch_size=GLOBAL_BATCH
            )

        def data_spec(self) -> DataSpec:
            return DataSpec(packed=task in (PACKS, CODE_PACKS))

        def train_dataloader(self) -> Any:
            if task in (PACKS, CODE_PACKS):
                packs = Packs(task)
                return torch.utils.data.DataLoader(packs, collate_fn=operator.itemgetter(0))
            make = collate if task in VIEWS else None
            return torch.utils.data.DataLoader(Samples(task), collate_fn=make)

    return Data()


class Samples(torch.utils.data.Dataset):
    def __init__(self, task: str) -> None:
        self.task = task

    def __len__(self) -> int:
        return STEPS * GLOBAL_BATCH

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.task == MIXED and index // GLOBAL_BATCH % 2 == 1
        if self.task in VIEWS:
            return make_views(index, with_texts=self.task == "views_text")
        sample = make_sample(index, IMAGE if image else VIDEO)
        if self.task not in CODES:
            return sample
        generator = torch.Generator().manual_seed(index)
        codes = torch.randint(NUM_CODES, VIDEO[1:], generator=generator)
        return {**sample, "codes": codes}


class Packs(Samples):
    def __getitem__(self, index: int) -> dict[str, Any]:
        numbers = [3 * index + place for place in range(1 + index % 3)]
        samples = [make_sample(number, PACKED[number % len(PACKED)]) for number in numbers]
        if self.task == CODE_PACKS:
            for number, sample in zip(numbers, samples, strict=True):
                generator = torch.Generator().manual_seed(number)
                shape = PACKED_CODES[number % len(PACKED_CODES)]
                sample["codes"] = torch.randint(NUM_CODES, shape, generator=generator)
        return collate_pack(samples)


def camera_of(shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """A camera that goes about, for latents of a shape."""
    num_frames = ACTIONS_A_FRAME * (shape[1] - 1) + 1
    poses = torch.eye(4).repeat(num_frames, 1, 1)
    poses[:, :3, 3] = torch.randn(num_frames, 3, generator=generator)
    height, width = 8.0 * shape[2], 8.0 * shape[3]
    lens = torch.tensor([[40.0, 0, width / 2], [0, 40, height / 2], [0, 0, 1]])
    return {
        "camera_poses": poses,
        "camera_intrinsics": lens.repeat(num_frames, 1, 1),
        "camera_size": torch.tensor([height, width]),
    }


def make_sample(index: int, shape: tuple[int, ...]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(index)
    padding = torch.zeros(1, 8 * shape[2], 8 * shape[3])
    padding[:, 6 * shape[2] :] = 1
    return {
        "latent": torch.randn(shape, generator=generator),
        "t5_text_embeddings": torch.randn(TEXT_TOKENS, TEXT_DIM, generator=generator),
        "fps": torch.tensor(10.0 + index),
        "padding_mask": padding,
        "action": torch.randn(ACTIONS_A_FRAME * (shape[1] - 1), 7, generator=generator),
        **camera_of(shape, generator),
        "key": f"clip-{index}",
    }


def make_views(index: int, with_texts: bool) -> dict[str, Any]:
    """A sample of several cameras of two latent frames each."""
    sample = make_sample(index, VIDEO)
    generator = torch.Generator().manual_seed(1000 + index)
    # Two processes cut three views in the middle of one; views with texts of their own stay whole.
    num_views = 2 if with_texts else len(CAMERAS)
    shape = (VIDEO[0], 2 * num_views, *VIDEO[2:])
    sample["latent"] = torch.randn(shape, generator=generator)
    if with_texts:
        texts = (num_views, TEXT_TOKENS, TEXT_DIM)
        sample["t5_text_embeddings"] = torch.randn(texts, generator=generator)
    poses = torch.eye(4).repeat(num_views, 1, 1)
    poses[:, :3, 3] = torch.randn(num_views, 3, generator=generator)
    lens = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]])
    rig = {"rig_poses": poses, "rig_intrinsics": lens.repeat(num_views, 1, 1)}
    views = CAMERAS[index % 2 :][:num_views] if with_texts else CAMERAS
    return {**sample, **rig, "rig_size": torch.full((num_views, 2), 32.0), "views": views}


def gradient_pieces(trainer: Any) -> list[Piece]:
    """This rank's gradients as the optimiser is about to use them."""
    from megatron.core import parallel_state

    from nemo_cosmos.models.common.megatron.module import bare_network
    from nemo_cosmos.models.common.megatron.parts import parts_of

    pieces = [
        Piece(
            rows.part.name,
            rows.part.whole_shape,
            rows.part.slices,
            rows.main.grad.to_local().detach().float().clone(),
        )
        for network in getattr(trainer.strategy, "sharded_networks", ())
        for rows in network.rows
        if rows.main.requires_grad
    ]
    if pieces:
        return pieces
    for chunk in trainer.strategy.megatron_parallel:
        for buffer in chunk.buffers:
            for bucket in buffer.buckets:
                _gather_bucket(bucket, parallel_state)
        for shard in parts_of(bare_network(chunk)):
            gradient = getattr(shard.tensor, "main_grad", None)
            if gradient is not None:
                value = gradient.detach().float().clone()
                pieces.append(Piece(shard.name, shard.whole_shape, shard.slices, value))
    return pieces


def _gather_bucket(bucket: Any, parallel_state: Any) -> None:
    """The distributed optimiser reduces to each rank its share; fetch the others'."""
    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    if group.size() == 1:
        return
    shares = list(bucket.grad_data.chunk(group.size()))
    own = shares[group.rank()].clone()
    torch.distributed.all_gather(shares, own, group=group)


def weight_pieces(trainer: Any) -> list[Piece]:
    from nemo_cosmos.models.common.megatron.module import bare_networks
    from nemo_cosmos.models.common.megatron.parts import parts_of

    return [
        Piece(shard.name, shard.whole_shape, shard.slices, shard.tensor.detach().float().clone())
        for network in bare_networks(trainer)
        for shard in parts_of(network)
    ]


def put_together(ranks: Sequence[Sequence[Piece]]) -> dict[str, Tensor]:
    """Whole tensors of all ranks' pieces; copies on several ranks must agree."""
    whole: dict[str, Tensor] = {}
    filled: dict[str, Tensor] = {}
    for pieces in ranks:
        for piece in pieces:
            if piece.name not in whole:
                whole[piece.name] = torch.zeros(piece.whole_shape)
                filled[piece.name] = torch.zeros(piece.whole_shape, dtype=torch.bool)
            target, known = whole[piece.name][piece.part], filled[piece.name][piece.part]
            if known.any():
                torch.testing.assert_close(
                    piece.value[known], target[known], rtol=1e-5, atol=1e-7, msg=piece.name
                )
            target.copy_(piece.value)
            known.fill_(True)
    for name, known in filled.items():
        assert known.all(), f"no rank holds all of {name}"
    return whole


def write_weights(task: str, folder: str) -> None:
    """Write initial weights with nothing left at zero, which would hide a mistake; on one rank."""
    from safetensors.torch import save_file

    from nemo_cosmos.checkpoint.formats.tensors import named_tensors
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel()
    model = make_model(task, Layout())
    network = model.build(None)
    if model.peft is not None:
        model.peft.apply(network)
    state = named_tensors(network)
    generator = torch.Generator().manual_seed(3)
    for value in state.values():
        if not value.any():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    if os.environ.get("RANK", "0") == "0":
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(state, Path(folder) / "model.safetensors")
        (Path(folder) / "config.json").write_text(json.dumps({}))
