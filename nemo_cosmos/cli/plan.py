"""``nemo-cosmos plan``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.options import AsJson, Conf, Overrides, number

if TYPE_CHECKING:
    from rich.console import Console


def _list_recipes(wanted: bool) -> None:
    """Print the recipes and stop, before typer asks for the other options."""
    if wanted:
        from nemo_cosmos.cli.train import print_recipes

        print_recipes(post_training=True)
        raise typer.Exit


def command(
    factory: Annotated[
        str, typer.Option("--factory", "-f", "--recipe", "-r", help="Name of a recipe.")
    ],
    gpus: Annotated[int, number("How many GPUs.", "--gpus", "-n", least=1)],
    gpu_memory_gb: Annotated[
        float, number("Memory of each GPU, in 10^9 bytes.", "--gpu-memory-gb", least=1, most=10000)
    ] = 80.0,
    gpu: Annotated[str, typer.Option("--gpu", help="a100, h100, h200 or b200.")] = "h100",
    num_frames: Annotated[
        int | None,
        number("Frames of a training video; default: data's or published.", least=1, most=1e6),
    ] = None,
    height: Annotated[int | None, number("Its height in pixels.", least=1, most=65536)] = None,
    width: Annotated[int | None, number("Its width in pixels.", least=1, most=65536)] = None,
    post_training: Annotated[
        bool, typer.Option("--post-training", help="Plan 'finetune' instead of 'pretrain'.")
    ] = False,
    fsdp: Annotated[bool, typer.Option(help="Also consider layouts that shard weights.")] = True,
    list_recipes: Annotated[
        bool,
        typer.Option(
            "--list", help="List the recipes and stop.", is_eager=True, callback=_list_recipes
        ),
    ] = False,
    conf: Conf = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Report what a training run needs and how to spread it over GPUs, without a GPU.

    Prints parameters, memory by kind, operations per step, and the fastest legal layout that fits,
    by a cost model whose figures are in nemo_cosmos/planning/hardware.py.

    Examples:
        nemo-cosmos plan --factory diffusion_14b_text2world --gpus 64 --gpu-memory-gb 80
        nemo-cosmos plan -f diffusion_7b_video2world -n 32 --num-frames 57 --height 512 --width 640
        nemo-cosmos plan -f diffusion_7b_action -n 8 --gpu h200 --gpu-memory-gb 141 --json
        nemo-cosmos plan --factory tokenizer_cv8x8x8 --gpus 8 data.global_batch_size=16
    """
    from recipes.registry import RECIPES, require_recipe

    require_recipe(factory, post_training=True, command="plan")
    post_training = post_training or not RECIPES[factory].pretrains
    from nemo_cosmos.planning.hardware import GB, get_gpu

    kind = get_gpu(gpu)
    from nemo_cosmos.launch import configure_recipe
    from nemo_cosmos.site import compose_site

    site = compose_site(conf or [])
    configured = configure_recipe(factory, overrides or [], site, post_training)
    from nemo_cosmos.planning.recipe import Video, plan_recipe

    video = Video(num_frames, height, width)
    found = plan_recipe(configured, kind, gpus, gpu_memory_gb * GB, video, fsdp=fsdp)
    action = "finetune" if post_training else "pretrain"
    plan = {"recipe": factory, "command": action, **found.to_dict()}
    if as_json:
        typer.echo(json.dumps(plan, indent=2))
        return
    print_plan(plan)


def print_plan(plan: JsonObject) -> None:
    """Show a plan as tables.

    Args:
        plan: the object that ``--json`` prints.
    """
    from rich.console import Console

    console = Console(highlight=False)
    clip = plan.get("latent_thw") or plan["clip_thw"]
    size = f"{clip[0]}x{clip[1]}x{clip[2]}"
    tokens = f", {plan['tokens_per_sample']:,} tokens" if "tokens_per_sample" in plan else ""
    console.print(
        f"[bold]{plan['recipe']}[/bold]: {plan['parameters']:,} parameters, {plan['precision']}, "
        f"{'latents' if tokens else 'clips'} of {size}{tokens}, "
        f"a global batch of {plan['global_batch_size']}"
    )
    _print_memory(console, plan)
    _print_layouts(console, plan)
    flops = plan["flops_per_step"]
    console.print(
        f"A step: {flops:.3g} FLOP, {plan['forward_flops_per_sample']:.3g} forward for a sample; "
        f"expected {plan['step_time_s']:.2f} s, bubble {plan['bubble']:.1%}"
        + (f", {plan['mfu']:.0%} of the peak" if "mfu" in plan else "")
    )
    if "overrides" in plan:
        words = " ".join(f"{key}={_word(value)}" for key, value in plan["overrides"].items())
        command = f"nemo-cosmos {plan['command']} --factory {plan['recipe']} {words}"
        console.print(f"To use it: {command}", soft_wrap=True)
    if "paper_accounting" in plan:
        paper = plan["paper_accounting"]
        console.print(
            f"The paper's accounting (20 bytes a parameter; 15 values a token and layer): "
            f"{paper['model_state_gb']:.0f} GB of model state and {paper['activation_gb']:.0f} GB "
            "of activations for one sample",
            style="dim",
        )


def _print_memory(console: Console, plan: JsonObject) -> None:
    from rich.table import Table

    table = Table("memory", "in all, GB", "on the fullest GPU, GB", title="Memory", min_width=50)
    for column in table.columns[1:]:
        column.justify = "right"
    total = plan.get("model_state_gb", {})
    for kind, size in plan["memory_gb_per_gpu"].items():
        if kind != "total":
            table.add_row(kind, f"{total[kind]:.1f}" if kind in total else "", f"{size:.2f}")
    table.add_section()
    table.add_row(
        "all",
        f"{plan['model_state_gb_total']:.1f}",
        f"{plan['memory_gb_per_gpu']['total']:.2f}",
    )
    console.print(table)
    by_mode = plan["activation_gb_per_gpu_by_recompute"]
    if len(by_mode) > 1:
        modes = ", ".join(f"{mode} {size:.1f} GB" for mode, size in by_mode.items())
        console.print(f"Activations on a GPU by recomputation: {modes}")


def _print_layouts(console: Console, plan: JsonObject) -> None:
    from rich.table import Table

    table = Table("layout", "GB a GPU", "s a step", "bubble", title="Layouts that fit")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [("fastest", plan), *(("", other) for other in plan.get("others", []))]
    if plan.get("recipe_layout"):
        fits = plan["recipe_layout"]["fits"]
        label = "the recipe's" if fits else "the recipe's, does not fit"
        rows.append((label, plan["recipe_layout"]))
    for label, row in rows:
        table.add_row(
            f"{describe(row['layout'])}{f'  [{label}]' if label else ''}".replace("[", "\\["),
            f"{row['memory_gb_per_gpu']['total']:.1f}",
            f"{row['step_time_s']:.2f}",
            f"{row['bubble']:.1%}",
        )
    console.print(table)


def describe(layout: dict[str, object]) -> str:
    """One line for a layout of the JSON form."""
    data = "FSDP" if layout["fsdp"] else "DP"
    text = (
        f"TP{layout['tensor_model_parallel_size']} CP{layout['context_parallel_size']} "
        f"PP{layout['pipeline_model_parallel_size']} {data}{layout['data_parallel_size']}"
    )
    if layout["recompute"] != "none":
        text += f", {layout['recompute']} recomputation"
    return text


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
