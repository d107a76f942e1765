"""``nemo-cosmos plan``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.kit.options import AsJson, Conf, Overrides, number
from nemo_cosmos.errors import counted

if TYPE_CHECKING:
    from rich.console import Console


def _list_recipes(wanted: bool) -> None:
    """Print the recipes and stop, before typer asks for the other options."""
    if wanted:
        from nemo_cosmos.cli.training.train import print_recipes

        print_recipes(post_training=True)
        raise typer.Exit


def command(
    factory: Annotated[
        str, typer.Option("--factory", "-f", "--recipe", "-r", help="Name of a recipe.")
    ],
    gpus: Annotated[int, number("How many GPUs.", "--gpus", "-n", least=1)],
    gpu_memory_gb: Annotated[
        float | None,
        number(
            "Memory of each GPU, in 10^9 bytes; default: the kind's.",
            "--gpu-memory-gb",
            least=1,
            most=10000,
        ),
    ] = None,
    gpu: Annotated[str, typer.Option("--gpu", help="a100, h100, h200 or b200.")] = "h100",
    num_frames: Annotated[
        int | None,
        number("Frames of a training video; default: data's or published.", least=1, most=1e6),
    ] = None,
    height: Annotated[int | None, number("Its height in pixels.", least=1, most=65536)] = None,
    width: Annotated[int | None, number("Its width in pixels.", least=1, most=65536)] = None,
    num_views: Annotated[
        int | None,
        number("Synchronous cameras of a sample; default: data's or published.", least=1, most=7),
    ] = None,
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

    Prints parameters, memory by kind, the fastest legal layout that fits, where the time of a step
    goes, the expected MFU, and what would make the recipe's own layout faster. All of it is
    arithmetic, with the figures of nemo_cosmos/planning/hardware.py; nothing is measured.

    Examples:
        nemo-cosmos plan --factory diffusion_14b_text2world --gpus 64 --gpu-memory-gb 80
        nemo-cosmos plan -f diffusion_7b_video2world -n 32 --num-frames 57 --height 512 --width 640
        nemo-cosmos plan -f diffusion_7b_action -n 8 --gpu h200 --json
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
    from nemo_cosmos.planning.recipe import Video, check_machines, plan_recipe

    check_machines(configured, overrides or [], gpus, kind)
    video = Video(num_frames, height, width, num_views)
    memory_gb = kind.memory_gb if gpu_memory_gb is None else gpu_memory_gb
    found = plan_recipe(configured, kind, gpus, memory_gb * GB, video, fsdp=fsdp)
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
        + (f", {plan['mfu']:.0%} of the bfloat16 peak" if "mfu" in plan else "")
    )
    if "overrides" in plan:
        command = f"nemo-cosmos {plan['command']} --factory {plan['recipe']}"
        console.print(f"To use it: {command} {_words(plan['overrides'])}", soft_wrap=True)
    if "step_time_parts_s" in plan:
        _print_time(console, plan)
        _print_changes(console, plan)
    if "paper_accounting" in plan:
        paper = plan["paper_accounting"]
        console.print(
            "The accounting of the family's paper: "
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
    if "checkpoint_gb" in plan:
        console.print(f"A step checkpoint: {plan['checkpoint_gb']:.1f} GB")
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
    if plan.get("recipe_layout_problem"):
        console.print(plan["recipe_layout_problem"], markup=False)


TERMS = {
    "attention_s": "attention",
    "matmul_s": "other matrix products",
    "elementwise_s": "elementwise steps",
    "tensor_parallel_s": "tensor-parallel communication",
    "context_parallel_s": "context-parallel communication",
    "pipeline_s": "transfers between pipeline stages",
    "bubble_s": "pipeline bubble",
    "data_parallel_s": "gradients and weights between ranks",
    "optimizer_s": "optimiser",
    "host_s": "waiting for the host",
}
"""The parts of a step in words, as the JSON form names them."""


def _print_time(console: Console, plan: JsonObject) -> None:
    """Where the time of a step goes, in the fastest layout and in the recipe's own."""
    from rich.table import Table

    own = plan["recipe_layout"]
    columns = [plan]
    if own and own["layout"] != plan["layout"]:
        columns.append(own)
    elementwise = plan["elementwise"]
    table = Table("part of a step", title=f"Time of a step (elementwise steps {elementwise})")
    for name, _ in zip(("fastest, s", "the recipe's, s"), columns, strict=False):
        table.add_column(name, justify="right")
        table.add_column("share", justify="right")
    for key, words in TERMS.items():
        if any(column["step_time_parts_s"][key] for column in columns):
            row = [
                text
                for column in columns
                for text in (
                    f"{column['step_time_parts_s'][key]:.3f}",
                    f"{column['step_time_shares'][key]:.1%}",
                )
            ]
            table.add_row(words, *row)
    table.add_section()
    sums = [(f"{column['step_time_s']:.3f}", "") for column in columns]
    table.add_row("all", *(text for pair in sums for text in pair))
    table.add_row("expected MFU", *(x for c in columns for x in (f"{c['mfu']:.1%}", "")))
    console.print(table)


def _print_changes(console: Console, plan: JsonObject) -> None:
    """What would make the recipe's layout faster, one change after another."""
    from rich.table import Table

    start, own = plan["changes_from"], plan["recipe_layout"]
    is_own = own is not None and own["layout"] == start["layout"]
    name = "the recipe's layout" if is_own else "the fastest layout"
    if not plan["changes"]:
        console.print(f"Nothing that the planner knows makes {name} faster.")
        return
    table = Table(
        "change, after those above", "saves, s", "s a step", "MFU", "GB a GPU",
        title=f"What each change brings, from {name}",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    total_gb = start["memory_gb_per_gpu"]["total"]
    table.add_row(
        describe(start["layout"]), "", f"{start['step_time_s']:.2f}", f"{start['mfu']:.1%}",
        f"{total_gb:.1f}",
    )  # fmt: skip
    for change in plan["changes"]:
        table.add_row(
            change["change"], f"{change['gain_s']:.2f}", f"{change['step_time_s']:.2f}",
            f"{change['mfu']:.1%}", f"{change['memory_gb_per_gpu']:.1f}",
        )  # fmt: skip
    console.print(table)
    for place, change in enumerate(plan["changes"], 1):
        console.print(f"{place}. {change['change']}: {_words(change['overrides'])}", soft_wrap=True)


def describe(layout: JsonObject) -> str:
    """One line for a layout of the JSON form."""
    data = "FSDP" if layout["fsdp"] else "DP"
    text = (
        f"TP{layout['tensor_model_parallel_size']} CP{layout['context_parallel_size']} "
        f"PP{layout['pipeline_model_parallel_size']} {data}{layout['data_parallel_size']}"
    )
    if layout["recompute"] == "block":
        text += f", recomputation of {counted(layout['recompute_num_layers'], 'layer')}"
    elif layout["recompute"] != "none":
        text += f", {layout['recompute']} recomputation"
    return text


def _words(overrides: JsonObject) -> str:
    """Keys and values as a command takes them."""
    return " ".join(f"{key}={_word(value)}" for key, value in overrides.items())


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
