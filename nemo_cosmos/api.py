"""Every verb of the toolkit as a function.

In the manner of ``nemo.collections.llm.api``: :func:`pretrain` and :func:`finetune` take the parts
that a recipe configures, :func:`import_ckpt` and :func:`export_ckpt` convert weights. The other
verbs are short ways into their rooms. Each function imports its room when it is called, and the
command of the same name calls it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import nemo_run as run
    import numpy as np
    from nemo import lightning as nl

    from data_curation import CurateSettings, CurateSummary
    from nemo_cosmos.data.tokenize.config import TokenizeConfig
    from nemo_cosmos.evaluation.record import EvaluationRecord
    from nemo_cosmos.inference import Result
    from nemo_cosmos.inference.given import FrameSource
    from nemo_cosmos.inference.request import Controls
    from nemo_cosmos.inference.views import Rig
    from nemo_cosmos.planning.counted import CountedPlan
    from nemo_cosmos.planning.planner import Plan
    from nemo_cosmos.progress import Progress
    from nemo_cosmos.training.adapters.lora import LoRA

__all__ = [
    "curate",
    "evaluate",
    "evaluate_tokenizer",
    "evaluate_world",
    "export_ckpt",
    "extend",
    "finetune",
    "generate",
    "import_ckpt",
    "plan",
    "predict",
    "pretrain",
    "tokenize",
]

Folder = str | os.PathLike[str]


def curate(
    source: str, output: Folder, settings: CurateSettings | None = None, **options: Any
) -> CurateSummary:
    """Turn raw video into training shards; run it again to resume or to add sources.

    Args:
        source: folder, file, glob pattern or ``.txt`` list of videos, on disk or in a bucket.
        output: folder or bucket URL for the shards, the report and ``summary.json``.
        settings: how to split, filter, caption and encode.
        **options: further arguments of ``data_curation.curate``, such as ``executor``.

    Returns:
        the counts of kept and rejected clips.

    Raises:
        MissingFileError: the input holds no video.
        ConfigError: another run is writing to the output.
    """
    from data_curation import curate as run_curation

    return run_curation(source, output, settings, **options)


def tokenize(
    shards: Folder | Sequence[Folder],
    out: Folder,
    tokenizer: Folder,
    config: TokenizeConfig | None = None,
    *,
    text_encoder: str | None = None,
    text_length: int | None = None,
    stored_text: bool = False,
    work: Folder | None = None,
    on_clip: Progress | None = None,
    allow_mismatch: Collection[str] = (),
) -> Mapping[str, Any]:
    """Encode curated clips into latents (or codes) and captions into embeddings, once.

    If a continuous tokenizer has no latent statistics yet, they are measured on the clips and
    written into its folder first. Run it again to resume.

    Args:
        shards: curated shards, or folders of them, on disk or in a bucket.
        out: folder or bucket URL for the latent shards.
        tokenizer: the tokenizer's folder.
        config: window, size and batch.
        text_encoder: ``"embedded"``, or the folder or hub name of a T5 encoder; by default that of
            the world in whose folder the tokenizer is, and ``"embedded"`` where it is in none.
        text_length: the most tokens of a caption; by default the world's, and 512 without one.
        stored_text: take the text embeddings that the shards hold instead of encoding the captions;
            ``text_encoder`` (then ``"embedded"`` by default) only names the encoder that made them,
            and is not loaded.
        work: the local folder that a run for a bucket works in; in the cache by default.
        on_clip: called with the clips done and the clips in all.
        allow_mismatch: kinds of difference to what ``out`` was begun with that are meant; see
            :mod:`nemo_cosmos.provenance.belonging`.

    Returns:
        the content of ``dataset.json``.

    Raises:
        MissingFileError: there is no shard, or no tokenizer.
        WrongFrameCountError, WrongSizeError: the tokenizer does not take the windows.
        ConfigError: ``out`` was begun with other settings.
    """
    from nemo_cosmos.tokenizing.run import tokenize as run_tokenizing

    return run_tokenizing(
        shards,
        out,
        tokenizer,
        config,
        text_encoder=text_encoder,
        text_length=text_length,
        stored_text=stored_text,
        work=work,
        on_clip=on_clip,
        allow_mismatch=allow_mismatch,
    )


def pretrain(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    log: nl.NeMoLogger | None = None,
    resume: nl.AutoResume | None = None,
    optim: nl.OptimizerModule | None = None,
) -> Path:
    """Train a model from scratch, or resume from the run's newest checkpoint, and export it.

    Call it again with the same arguments to resume after a stop or a kill. A finished run returns
    at once. One process may train several models one after the other.

    Args:
        model: ``DiffusionModel`` or ``TokenizerModel``.
        data: ``LatentDataModule`` or ``VideoDataModule``.
        trainer: such as ``nemo_cosmos.training.trainer.WorldTrainer``.
        log: the run's folder, ``<log_dir>/<name>``, its loggers and when to save.
        resume: what to resume from; by default the newest checkpoint of the run's folder.
        optim: replaces the model's optimiser.

    Returns:
        the run's folder. The trained model is in ``export/`` below it, the curves in
        ``metrics.jsonl``.

    Raises:
        ConfigError: the folder holds a finished run of other arguments.
        StoppedError: Ctrl-C or SIGTERM stopped it, after a save; it is a ``KeyboardInterrupt``.
    """
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.training.run import train

    return train(model, data, trainer, log, resume, optim)


def finetune(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    log: nl.NeMoLogger | None = None,
    resume: nl.AutoResume | None = None,
    optim: nl.OptimizerModule | None = None,
    peft: LoRA | None = None,
) -> Path:
    """Post-train a model: the same as :func:`pretrain`, from given weights.

    Args:
        model: may have parameters that the weights lack, such as a control's.
        data: the data module, as of :func:`pretrain`.
        trainer: the trainer, as of :func:`pretrain`.
        log: folder and loggers, as of :func:`pretrain`.
        resume: its ``restore_config.path`` names the weights: an exported folder
            (``config.json`` and ``model.safetensors``) or a NeMo checkpoint. A checkpoint of this
            run itself goes first.
        optim: the optimiser, as of :func:`pretrain`.
        peft: what to train instead of all weights, such as ``LoRA(dim=16)``; the adapter is then in
            ``adapter/`` below the run's folder, and ``export/`` is the model with it.

    Returns:
        the run's folder.

    Raises:
        MissingFileError: no weights are named, or they are not there.
        CheckpointError: the weights are of another model.
    """
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.training.run import check_restore, train

    check_restore(resume)
    return train(model, data, trainer, log, resume, optim, peft)


def import_ckpt(
    source: Folder,
    target: Folder,
    *,
    model: str | None = None,
    tokenizer: Folder | None = None,
    use_average: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Convert a checkpoint of another format into a world folder or a tokenizer folder.

    Args:
        source: a diffusers folder, an original ``model.pt``, the files of an original tokenizer, or
            a NeMo distributed checkpoint.
        target: the new folder.
        model: the preset that the weights belong to, where the files do not say it.
        tokenizer: the tokenizer of a world model whose source has none.
        use_average: whether to take the moving average of the weights where there is one.
        progress: called with the bytes done and the bytes in all.

    Returns:
        ``target``.

    Raises:
        CheckpointError: a file is damaged, could run code, or belongs to another model.
        InputError: ``target`` exists.
    """
    from nemo_cosmos.checkpoint.convert import import_checkpoint

    return import_checkpoint(
        source,
        target,
        model=model,
        tokenizer=tokenizer,
        use_average=use_average,
        progress=progress,
    )


def export_ckpt(
    source: Folder,
    target: Folder,
    format: str = "diffusers",
    progress: Progress | None = None,
    *,
    adapters: Mapping[Folder, float] | None = None,
) -> Path:
    """Convert a world, an adapter or a tokenizer into another format; merge adapters into a world.

    Args:
        source: the folder, such as ``<run>/export``.
        target: the new folder.
        format: ``"diffusers"``, ``"cosmos"``, ``"nemo"``, or with adapters ``"world"``.
        progress: called with the bytes done and the bytes in all.
        adapters: adapters to merge into the world, with how much of each: 1 for all of it.

    Returns:
        ``target``.

    Raises:
        ConfigError: an unknown format, one that has no place for such a model, or an adapter of
            another world.
        InputError: ``target`` exists.
    """
    from nemo_cosmos.checkpoint.adapters.merged import Weighted
    from nemo_cosmos.checkpoint.convert import export_checkpoint

    wanted = [Weighted(Path(path), weight) for path, weight in (adapters or {}).items()]
    return export_checkpoint(source, target, format, progress, adapters=wanted)


def plan(
    recipe: run.Partial,
    num_gpus: int,
    *,
    gpu: str = "h100",
    gpu_memory_gb: float | None = None,
    video: tuple[int, int, int] | None = None,
    fsdp: bool = True,
) -> Plan | CountedPlan:
    """Estimate what a training run needs and find the fastest layout that fits, without a GPU.

    Args:
        recipe: a configured recipe, such as ``get_recipe("diffusion_14b_text2world")``.
        num_gpus: the number of GPUs.
        gpu: the kind of GPU: ``a100``, ``h100``, ``h200`` or ``b200``.
        gpu_memory_gb: the memory of each in 10^9 bytes; by default what GPUs of the kind have.
        video: frames, height and width of the training videos; by default those of the data, else
            the published ones.
        fsdp: whether to consider layouts that share out the weights.

    Returns:
        the plan; ``to_dict()`` gives plain data.

    Raises:
        ConfigError: no layout is legal, or none fits.
    """
    import fiddle as fdl

    from nemo_cosmos.errors import ConfigError
    from nemo_cosmos.options import Range, check_instance, check_value
    from nemo_cosmos.planning.hardware import GB, get_gpu
    from nemo_cosmos.planning.recipe import Video, plan_recipe

    advice = "Make one with recipes.registry.get_recipe('diffusion_7b_text2world')."
    check_instance("recipe", recipe, fdl.Buildable, advice)
    gigabytes = check_value("gpu_memory_gb", gpu_memory_gb, float | None, Range(above=0))
    kind = get_gpu(gpu)
    memory_bytes = (kind.memory_gb if gigabytes is None else gigabytes) * GB
    if video is not None and not (isinstance(video, tuple | list) and len(video) == 3):
        raise ConfigError(f"video is {video!r:.80}; it must be (frames, height, width).")
    chosen = Video() if video is None else Video(*video)
    return plan_recipe(recipe, kind, num_gpus, memory_bytes, chosen, fsdp=fsdp)


def generate(
    world: Folder,
    prompt: str,
    *,
    control: Controls | None = None,
    rig: Rig | None = None,
    view_prompts: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    **options: object,
) -> Result:
    """Make a video from a prompt (Text2World), and from controls where the model has them.

    The world stays loaded for the next call, with other worlds as far as three quarters of the
    device's memory allow; ``nemo_cosmos.inference.default_pool().clear()`` frees them.

    Args:
        world: the world's folder, as training exports it.
        prompt: what happens in the video.
        control: the signals of the model's controls by name, for exactly the video's frames.
        rig: the cameras of a model of several, such as ``RecordedRig.read("rig.npz")``.
        view_prompts: what single cameras of several show instead, by their names.
        progress: called after every sampling step; may raise ``Cancelled``.
        **options: ``num_frames``, ``height``, ``width``, ``fps``, ``seed``, ``negative_prompt``,
            and those of the model's family, such as ``guidance`` and ``steps``.

    Returns:
        the result, with ``video``, ``provenance`` and ``save(path)``.
    """
    from nemo_cosmos.inference import Request, default_pool

    request = Request(
        "generate",
        prompt,
        options,
        control={} if control is None else control,
        rig=rig,
        view_prompts=view_prompts or {},
    )
    return default_pool().run(world, request, progress)


def predict(
    world: Folder,
    prompt: str | None,
    frames: FrameSource | Mapping[str, FrameSource],
    *,
    begin: str | int | None = None,
    num_condition_frames: int | None = None,
    control: Controls | None = None,
    rig: Rig | None = None,
    view_prompts: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    **options: object,
) -> Result:
    """Continue an image or video (Video2World), with controls where the model has them.

    Args:
        world: the world's folder.
        prompt: what happens in the video; None only for a model with a control.
        frames: uint8 RGB frames, a ``Video``, or the path of an image or video.
        begin: which frames are given: ``"first"``, ``"last"``, or the number of the first one. By
            default the first with a control, else the last.
        num_condition_frames: how many frames are given; by default 1.
        control: the signals of the model's controls by name, for exactly the new video's frames.
        rig: the cameras of a model of several; ``frames`` are then by the camera's name.
        view_prompts: what single cameras of several show instead, by their names.
        progress: called after every sampling step; may raise ``Cancelled``.
        **options: the options of :func:`generate`.

    Returns:
        the result, as for :func:`generate`.
    """
    from nemo_cosmos.inference import Request, default_pool

    request = Request(
        "predict",
        prompt,
        options,
        frames,
        begin,
        num_condition_frames,
        control={} if control is None else control,
        rig=rig,
        view_prompts=view_prompts or {},
    )
    return default_pool().run(world, request, progress)


def extend(
    world: Folder,
    prompt: str | None,
    frames: FrameSource | Mapping[str, FrameSource],
    num_chunks: int,
    *,
    begin: str | int | None = None,
    num_condition_frames: int | None = None,
    control: Controls | None = None,
    rig: Rig | None = None,
    view_prompts: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    **options: object,
) -> Result:
    """Make a long video chunk by chunk, each conditioned on the end of the one before.

    Args:
        world: the world's folder.
        prompt: what happens in the video; None only for a model with a control.
        frames: the frames to begin with, as for :func:`predict`.
        num_chunks: how many chunks to add.
        begin: which frames are given, as for :func:`predict`.
        num_condition_frames: frames that each chunk takes from the one before.
        control: the signals of the model's controls by name, for exactly the new video's frames.
        rig: the cameras of a model of several; ``frames`` are then by the camera's name.
        view_prompts: what single cameras of several show instead, by their names.
        progress: called after every sampling step of all chunks; may raise ``Cancelled``.
        **options: the options of :func:`generate`; ``num_frames`` is a chunk's.

    Returns:
        the result, as for :func:`generate`.
    """
    from nemo_cosmos.inference import Request, default_pool

    request = Request(
        "extend",
        prompt,
        options,
        frames,
        begin,
        num_condition_frames,
        num_chunks,
        {} if control is None else control,
        rig,
        view_prompts=view_prompts or {},
    )
    return default_pool().run(world, request, progress)


def evaluate(
    generated_THWC: np.ndarray, truth_THWC: np.ndarray, metrics: Sequence[str] | None = None
) -> dict[str, float]:
    """Compare a generated video with the true one; ``nemo-cosmos evaluate`` does so for folders.

    Args:
        generated_THWC: frames, uint8 RGB.
        truth_THWC: frames of the same shape.
        metrics: names such as ``"psnr"``; all where None.

    Returns:
        one number for each metric.
    """
    from nemo_cosmos.evaluation import choose_metrics, evaluate_pair

    return evaluate_pair(generated_THWC, truth_THWC, choose_metrics(metrics))


def evaluate_tokenizer(
    tokenizer: Folder,
    data: Folder,
    *,
    metrics: Sequence[str] = (),
    suite: str | None = None,
    window_frames: int | None = None,
    max_frames: int | None = None,
    limit: int | None = None,
    out: Folder | None = None,
    progress: Progress | None = None,
) -> EvaluationRecord:
    """Let a tokenizer reconstruct videos, and score each against itself.

    Args:
        tokenizer: the tokenizer's folder, or that of the run that exported it.
        data: a folder of mp4 files, one file, or shards.
        metrics: names such as ``"lpips_vgg"``; with neither these nor a suite, all that need no
            weights.
        suite: a named set of metrics; ``tokenbench`` and ``davis`` also prepare the videos.
        window_frames: frames that are encoded on their own, 1 + f n; None for the whole video.
        max_frames: how many first frames of each video; None for all.
        limit: how many videos at most; None for all.
        out: a folder for ``evaluation.json``, curves, pictures and videos; None to keep nothing.
        progress: called with the videos done and the videos in all.

    Returns:
        the scores with their intervals, and all that is needed to repeat them.

    Raises:
        MissingFileError: there is no such tokenizer, or no video.
        InputError: no video can be scored, or there are too few for a metric that was named.
    """
    from nemo_cosmos.evaluation.record import as_record
    from nemo_cosmos.tokenizing import trial

    asked = trial.TokenizerTrial(tuple(metrics), suite, window_frames, max_frames, limit)
    folder = None if out is None else Path(out)
    _, record = trial.evaluate_tokenizer(tokenizer, data, asked, out=folder, progress=progress)
    return as_record(record, str(folder or tokenizer))


def evaluate_world(
    world: Folder,
    data: Folder,
    *,
    metrics: Sequence[str] = (),
    seeds: Sequence[int] = (1,),
    limit: int | None = None,
    out: Folder | None = None,
    workers: int = 1,
    offload: Sequence[str] = (),
    progress: Progress | None = None,
    **options: object,
) -> EvaluationRecord:
    """Let a world make the videos of recorded episodes, score them, and see whether it obeys.

    Args:
        world: the world's folder.
        data: a folder of recordings, or shards, with the signals that steer the model.
        metrics: names such as ``"psnr"``; by default all that need no weights.
        seeds: seeds of the noise; an episode's numbers are their mean.
        limit: how many episodes at most; None for all.
        out: a folder for ``evaluation.json``, curves, pictures and videos; None to keep nothing.
        workers: how many processes make videos and score them. A script that asks for several does
            so below ``if __name__ == "__main__":``, since each new process imports it.
        offload: parts that wait in the CPU's memory while others work: ``"network"``,
            ``"tokenizer"``.
        progress: called with the videos done and the videos in all.
        **options: options of the generation, such as ``steps`` and ``guidance``.

    Returns:
        the scores with their intervals, and all that is needed to repeat them.

    Raises:
        MissingFileError: there is no such world, or no recording.
        InputError: no episode fits the model.
    """
    from nemo_cosmos.evaluation.record import as_record
    from nemo_cosmos.inference.trial import run as trial
    from nemo_cosmos.inference.trial.videos import Trial

    folder = None if out is None else Path(out)
    asked = Trial(tuple(metrics), tuple(seeds), limit=limit, options=options)
    _, record = trial.evaluate_world(
        world, data, asked, out=folder, workers=workers, offload=offload, progress=progress
    )
    return as_record(record, str(folder or world))
