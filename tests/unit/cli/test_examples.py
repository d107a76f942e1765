"""Every command line in the pages and the help: its options exist, and recipes take its keys."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos.cli import main as cli
from nemo_cosmos.controls.embodiment import find_embodiment

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "conf" / "config.yaml"]
LINE = re.compile(r"^\W*nemo[- ]cosmos ([a-z][^`#]*?)(?:  +#.*| +[<|].*|#.*)?$", re.MULTILINE)


def helps() -> list[str]:
    """The docstrings of all commands."""
    texts = []
    for entry in cli.COMMANDS.values():
        target = entry.load()
        if isinstance(target, cli.CommandGroup):
            texts += [
                target.help,
                *(each.load().__doc__ or "" for each in target.commands.values()),
            ]
        else:
            texts.append(target.__doc__ or "")
    return texts


def lines_of(text: str) -> list[str]:
    return [match[1].strip() for match in LINE.finditer(text.replace("\\\n", " "))]


SHOWN = sorted(
    {
        line
        for text in [page.read_text(encoding="utf-8") for page in PAGES] + helps()
        for line in lines_of(text)
    }
)
TRAINING = [line for line in SHOWN if line.split()[0] in ("pretrain", "finetune", "plan")]


def test_lines_are_found():
    assert len(SHOWN) > 60 and len(TRAINING) > 12
    assert any(line.startswith("dataset query") for line in SHOWN)


@pytest.mark.parametrize("line", SHOWN)
def test_options_exist_and_arguments_are_complete(line):
    command = typer.main.get_command(cli.app)
    words = shlex.split(line.replace("...", "x"))
    while hasattr(command, "table"):
        context = command.make_context("nemo-cosmos", list(words), resilient_parsing=True)
        _, command, words = command.resolve_command(context, words)
    if "--help" not in words:
        command.make_context("nemo-cosmos", words)  # raises for an unknown or missing option


@pytest.mark.parametrize("line", TRAINING)
def test_recipes_take_the_keys(line, run_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    monkeypatch.chdir(tmp_path)
    # docs/post_training.md measures it in the line before
    robot = {"embodiment": find_embodiment("bridge_7").to_dict()}
    Path("my_robot.json").write_text(json.dumps(robot), encoding="utf-8")
    words = shlex.split(line)
    if "kubernetes" in words:  # docs/launch.md configures it in the line before
        kept = ["cluster.container_image=registry/image:1", "cluster.container_mounts=[runs:/runs]"]
        assert run_cli("configure", "cluster=kubernetes", *kept).code == cli.Exit.DONE
    if words[0] != "plan":
        words.append("--dryrun")
    ran = run_cli(*words)
    assert ran.code == cli.Exit.DONE, ran.err


@pytest.mark.parametrize("line", [line for line in TRAINING if line.startswith("finetune")])
def test_post_training_names_its_weights(line):
    assert "--from" in line or "restore_config.path=" in line or "--dryrun" in line
