"""What a training command looks at before a process is started or a network is built."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import ConfigError, MissingFileError, counted

if TYPE_CHECKING:
    import nemo_run as run

NO_DATA = (
    "No training data is named. Give data.path=FOLDER: for a diffusion model a folder that "
    "'nemo-cosmos tokenize' wrote, for a tokenizer one that 'nemo-cosmos curate' wrote."
)
NO_WEIGHTS = (
    "Post-training needs weights to start from, and none are named. Give --from FOLDER: an "
    "exported folder ('<run>/export'), or weights that 'nemo-cosmos import' converted; or "
    "train from scratch with 'nemo-cosmos pretrain'."
)


def training_checks(recipe: run.Partial, post_training: bool, *, here: bool = True) -> list[Check]:
    """Return what to look at before a recipe is run.

    Args:
        recipe: the configured recipe.
        post_training: whether it starts from weights.
        here: whether it runs on this machine, whose folders it sees.
    """
    checks = [Check("machine", lambda: _machine(recipe))] if here else []
    checks += [
        Check("precision", lambda: _precision(recipe)),
        Check("layout", lambda: _layout(recipe)),
        Check("saves", lambda: _saves(recipe)),
        Check("data", lambda: _named_data(recipe)),
    ]
    if post_training:
        checks.append(Check("weights", lambda: _weights(recipe, here)))
    model = cache(lambda: _build(recipe))
    checks.append(Check("model", lambda: f"{type(model()).__name__}, {_preset(model())}"))
    if here:
        data = cache(lambda: _spec(recipe))
        checks += [
            Check("samples", lambda: data()[1]),
            Check("belonging", lambda: _belonging(recipe, model(), data()[0])),
            Check("fit", lambda: _fit(recipe, data()[0])),
            Check("output", lambda: _output(recipe)),
            Check("room", lambda: _room(recipe)),
        ]
    return checks


def value_checks(recipe: run.Partial) -> list[Check]:
    """Return what to look at before a recipe is printed: values that no machine could run.

    Args:
        recipe: the configured recipe.
    """
    return [
        Check("precision", lambda: _precision(recipe)),
        Check("saves", lambda: _saves(recipe)),
        Check("model", lambda: _preset(_build(recipe))),
    ]


def fits_on(recipe: run.Partial | None, num_nodes: int) -> bool:
    """Whether a recipe's layout and batches fit another number of machines.

    Args:
        recipe: the configured recipe; None for a command, which fits any.
        num_nodes: the machines.
    """
    if recipe is None:
        return True
    from copy import deepcopy

    other = deepcopy(recipe)
    other.trainer.num_nodes = num_nodes
    try:
        _layout(other)
    except ConfigError:
        return False
    return True


def _machine(recipe: run.Partial) -> str:
    """What this machine computes on, if it has what the precision needs."""
    from nemo_cosmos.platform.accelerator.findings import Needs, check_machine

    trainer = recipe.trainer
    fp8 = getattr(trainer, "fp8", None)
    needs = Needs(
        precision=str(getattr(trainer, "precision", Needs().precision)),
        fp8_recipe=getattr(trainer, "fp8_recipe", "tensorwise") if fp8 else None,
        num_devices=int(getattr(trainer, "devices", 1)),
    )
    return check_machine(needs)


def _precision(recipe: run.Partial) -> str:
    from nemo_cosmos.training.precision import check_precision

    trainer = recipe.trainer
    if getattr(trainer, "plugins", None):
        return "as the trainer's plug-in says"
    precision, fp8 = str(trainer.precision), trainer.fp8
    check_precision(precision, fp8, trainer.fp8_recipe)
    return f"{precision}, FP8 {fp8} ({trainer.fp8_recipe})" if fp8 else precision


def _layout(recipe: run.Partial) -> str:
    """Steps, processes and batches."""
    import fiddle as fdl

    from nemo_cosmos.training.checks import (
        check_batches,
        check_processes,
        check_steps,
        num_copies,
    )

    trainer = recipe.trainer
    check_steps(trainer.max_steps)
    if min(trainer.devices, trainer.num_nodes) < 1:
        raise ConfigError(
            f"trainer.devices={trainer.devices} and trainer.num_nodes={trainer.num_nodes} leave no "
            "process to train; both must be 1 or more."
        )
    strategy, processes = fdl.build(trainer.strategy), trainer.devices * trainer.num_nodes
    check_processes(strategy, processes)
    copies = num_copies(strategy, processes)
    check_batches(recipe.data.micro_batch_size, recipe.data.global_batch_size, copies)
    return (
        f"{counted(trainer.max_steps, 'step')}, {counted(processes, 'process', 'processes')}, "
        f"{counted(copies, 'copy', 'copies')} of the model"
    )


def _saves(recipe: run.Partial) -> str:
    """Where and when the run saves, and what it does about faults: both check their values."""
    import fiddle as fdl

    fdl.build(recipe.log)
    fdl.build(getattr(recipe.trainer, "resilience", None))
    saves = getattr(recipe.log, "ckpt", None)
    every_s = getattr(saves, "train_time_interval_s", None)
    if every_s is not None:
        return f"a checkpoint every {every_s:g} s"
    every = getattr(saves, "every_n_train_steps", None)
    return f"a checkpoint every {counted(every, 'step')}" if every else "a checkpoint at the end"


def _named_data(recipe: run.Partial) -> str:
    if not recipe.data.path:
        raise ConfigError(NO_DATA)
    return str(recipe.data.path)


def _weights(recipe: run.Partial, here: bool) -> str:
    import fiddle as fdl

    from nemo_cosmos.training.checkpointing.resume import restore_source
    from nemo_cosmos.training.matching import check_kind_of_weights
    from nemo_cosmos.training.run import check_restore
    from nemo_cosmos.training.weights.initial import check_own_weights

    restore = getattr(recipe.resume, "restore_config", None)
    path = getattr(restore, "path", None)
    if not path:
        raise MissingFileError(NO_WEIGHTS)
    if not here:
        return str(path)
    check_restore(fdl.build(recipe.resume))
    source = restore_source(Path(path))
    check_kind_of_weights(fdl.get_callable(recipe.model), source)
    check_own_weights(source)
    return str(source)


def _build(recipe: run.Partial) -> Any:
    """The Lightning module, whose network is built later."""
    from nemo_cosmos.planning.recipe import build_model
    from nemo_cosmos.training.checks import check_model

    model = build_model(recipe)
    check_model(model)
    return model


def _preset(model: Any) -> str:
    return getattr(model, "preset", None) or "its own size"


def _spec(recipe: run.Partial) -> tuple[Any, str]:
    """What the data module knows of its batches, and what it found, in words."""
    import fiddle as fdl

    from nemo_cosmos.batch import spec_of
    from nemo_cosmos.data.shard_module import as_list
    from nemo_cosmos.data.shards.writer import list_shards

    folders = [*as_list(recipe.data.path), *as_list(getattr(recipe.data, "val_path", None) or ())]
    num_shards = sum(len(list_shards(folder)) for folder in folders)
    spec = spec_of(fdl.build(recipe.data))
    shapes = ", ".join("x".join(map(str, thw)) for thw in spec.latents_thw)
    return spec, f"{counted(num_shards, 'shard')}{f', latents of {shapes}' if shapes else ''}"


def _belonging(recipe: run.Partial, model: Any, spec: Any) -> str:
    from nemo_cosmos.training.checkpointing.resume import restore_source
    from nemo_cosmos.training.matching import check_belonging
    from nemo_cosmos.training.run_folder import list_checkpoints

    restore = getattr(recipe.resume, "restore_config", None)
    path = getattr(restore, "path", None)
    saved = list_checkpoints(_folder(recipe))
    meant = check_belonging(
        model,
        spec.folders,
        restore_source(Path(path)) if path else None,
        recipe.resume.allow_mismatch,
        text_length=spec.num_text_tokens,
        checkpoint=saved[-1][0] if saved else None,
        encoders=_encoders(recipe),
    )
    return f"allowed: {' '.join(meant)}" if meant else "data, model and weights belong together"


def _encoders(recipe: run.Partial) -> list[str]:
    """Folders of the tokenizers that make codes in the step."""
    import fiddle as fdl

    from nemo_cosmos.training.callbacks.encoding import EncodeVideo

    callbacks = getattr(recipe.trainer, "callbacks", None) or []
    encoding = [one for one in callbacks if fdl.get_callable(one) is EncodeVideo]
    return [callback.tokenizer for callback in encoding if callback.tokenizer]


def _fit(recipe: run.Partial, spec: Any) -> str:
    """Let the strategy take the model, and the model look at the data, as a run begins."""
    import inspect

    import fiddle as fdl

    from nemo_cosmos.batch import ChecksData
    from nemo_cosmos.training.precision import check_same_fp8, megatron_precision

    strategy = fdl.build(recipe.trainer.strategy)
    if not getattr(recipe.trainer, "plugins", None):
        names = inspect.signature(megatron_precision).parameters
        asked = {name: getattr(recipe.trainer, name) for name in names}
        strategy.precision_plugin = megatron_precision(
            **asked | {"precision": str(asked["precision"])}
        )
    # The model that is built below has no FP8 of its own: that would need Transformer Engine.
    check_same_fp8(getattr(recipe.model, "config", None), strategy.precision_plugin)
    model = _build(recipe)  # the strategy writes into its configuration
    strategy.connect(model)
    if isinstance(model, ChecksData):
        model.check_data(spec, sharded=strategy.fsdp is not None)
    return "the layout and the network take the data"


def _output(recipe: run.Partial) -> str:
    from nemo_cosmos.storage.outputs import check_output_folder

    return f"'{check_output_folder(_folder(recipe))}' can be written"


def _room(recipe: run.Partial) -> str:
    from nemo_cosmos.planning.room import run_bytes
    from nemo_cosmos.storage.outputs import check_room
    from nemo_cosmos.training.run_folder import list_checkpoints

    folder = _folder(recipe)
    num_bytes = run_bytes(recipe, len(list_checkpoints(folder)))
    return check_room(folder, num_bytes, "checkpoints and the export of this run")


def _folder(recipe: run.Partial) -> Path:
    """The folder of the run."""
    log = recipe.log
    explicit = getattr(log, "explicit_log_dir", None)
    return Path(explicit) if explicit else Path(log.log_dir or "outputs") / log.name
