"""``nemo-cosmos import`` and ``export``: weights of other formats to ours, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.options import Adapters, AllowMismatch, listed
from nemo_cosmos.errors import counted
from nemo_cosmos.progress import BYTES, show_progress


def import_(
    source: Annotated[Path, typer.Argument(help="A checkpoint of another format.")],
    target: Annotated[Path, typer.Argument(help="The new world or tokenizer folder.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="The preset of the model, where the files do not name it."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="The world model's tokenizer, where the source has none."),
    ] = None,
    average: Annotated[
        bool,
        typer.Option("--average/--no-average", help="Take the EMA weights of a NeMo checkpoint."),
    ] = True,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
) -> None:
    """Convert a checkpoint of another format to a world folder or a tokenizer folder.

    Sources: a diffusers folder; an original Cosmos model.pt; a tokenizer's model.pt or .jit files
    with mean_std.pt; a NeMo distributed checkpoint, such as <run>/checkpoints/step=001000. The
    format is detected. Tensors are converted one by one, in little memory; nothing that could run
    code is loaded, and nothing is overwritten.

    Examples:
        nemo-cosmos import Cosmos-1.0-Diffusion-7B-Text2World-Diffusers worlds/7b
        nemo-cosmos import Cosmos-1.0-Diffusion-14B-Video2World/model.pt worlds/14b --tokenizer Cosmos-1.0-Tokenizer-CV8x8x8
        nemo-cosmos import outputs/my_run/checkpoints/step=001000 worlds/step_1000
        nemo-cosmos import Cosmos-0.1-Tokenizer-CV4x8x8 tokenizers/cv4x8x8
    """  # noqa: E501 - a command stays on one line
    from nemo_cosmos.checkpoint.convert import import_checkpoint, import_checks
    from nemo_cosmos.checkpoint.world.config import WEIGHTS_FILE
    from nemo_cosmos.checkpoint.world.folder import open_weights

    how: dict[str, Any] = {
        "model": model,
        "tokenizer": tokenizer,
        "use_average": average,
        "allow_mismatch": listed(allow_mismatch),
    }
    if check:
        look_first(import_checks(source, target, **how), check)
    with show_progress(f"Importing {source.name}", BYTES) as progress:
        import_checkpoint(
            source,
            target,
            progress=progress,
            **how,
        )
    num = counted(len(open_weights(target / WEIGHTS_FILE).specs), "tensor")
    # Strict: a name too few or too many has stopped the import.
    typer.echo(f"Imported '{source}' into '{target}': {num} matched, 0 missing, 0 unexpected.")


def export(
    source: Annotated[Path, typer.Argument(help="A world, adapter or tokenizer folder.")],
    target: Annotated[Path, typer.Argument(help="The new folder.")],
    format: Annotated[
        str,
        typer.Option(
            "--format", help="diffusers, cosmos, transformers, nemo; with --adapter also world."
        ),
    ],
    adapter: Adapters = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read the export back, compare it, and generate with base and export."
        ),
    ] = False,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
) -> None:
    """Convert a world folder, such as <run>/export, to another format, with adapters merged in.

    diffusers: for CosmosTextToWorldPipeline or CosmosVideoToWorldPipeline (give it a T5 text
    encoder and a safety checker). cosmos: model.pt under the original names; autoregressive ones
    also in parts, as cosmos-tp2, -tp4 or -tp8. transformers: an autoregressive model without text,
    for Qwen3VLForConditionalGeneration. nemo: a distributed checkpoint that NeMo loads into any
    parallel layout. 'nemo-cosmos import' converts each of them but transformers' back with
    identical weights. world: our own folder, of a world that --adapter changes.

    An adapter's folder, <run>/adapter, is written as diffusers and PEFT read adapters.

    --verify ends with code 1 unless what was written is read back the same and, with adapters,
    makes another video than the base from the same noise.

    Examples:
        nemo-cosmos export outputs/my_run/export my_world_hf --format diffusers
        nemo-cosmos export worlds/14b nemo_14b --format nemo
        nemo-cosmos export worlds/7b worlds/7b_rain --adapter outputs/rain/adapter --format world --verify
        nemo-cosmos export worlds/7b mixed --adapter a/adapter --adapter b/adapter=0.5 --format world
        nemo-cosmos export outputs/rain/adapter rain_hf --format diffusers
    """  # noqa: E501 - a command stays on one line
    from nemo_cosmos.checkpoint.adapters.merged import Weighted
    from nemo_cosmos.checkpoint.convert import export_checkpoint, export_checks

    wanted = [Weighted.parse(text) for text in adapter or ()]
    allowed = listed(allow_mismatch)
    if verify:
        from nemo_cosmos.inference.verification import check_verifiable, verify_export

        check_verifiable(source, format)
    if check:
        look_first(export_checks(source, target, format, wanted, allowed), check)
    with show_progress(f"Exporting {source.name}", BYTES) as progress:
        export_checkpoint(
            source,
            target,
            format,
            progress,
            adapters=wanted,
            allow_mismatch=allowed,
            say=typer.echo,
        )
    if verify:
        typer.echo(verify_export(source, target, format, wanted, allowed).words())
    typer.echo(f"Exported '{source}' into '{target}' ({format}).")
