"""Options of a command come from the fields of its settings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import typer
from typer.testing import CliRunner

from data_curation.stages.base import Stage, StageSettings
from nemo_cosmos.cli.kit.options import listed, settings_from, with_options, with_settings
from nemo_cosmos.options import option


@dataclass(frozen=True)
class SharpnessSettings(StageSettings):
    least: float = option(0.5, "Least sharpness.")
    way: Literal["fast", "slow"] = option("fast", "How.", flag="--way")
    strict: bool = option(False, "All frames.")
    names: tuple[str, ...] = option((), "Only these.", flag="--name")

    def build(self, store: Any) -> Stage:
        raise NotImplementedError


@dataclass(frozen=True)
class OtherSettings(StageSettings):
    number: int = option(3, "How many.")

    def build(self, store: Any) -> Stage:
        raise NotImplementedError


@dataclass(frozen=True)
class RunSettings:
    sharp_edges: SharpnessSettings = field(default_factory=SharpnessSettings)
    other: OtherSettings = field(default_factory=OtherSettings)
    size: int = 1


def run(stages, *arguments):
    seen = []
    app = typer.Typer()

    @app.command()
    @with_settings(RunSettings, stages)
    def command(place: str, **options: Any) -> None:
        seen.append((place, settings_from(RunSettings, options, size=7)))

    result = CliRunner().invoke(app, list(arguments))
    return (seen or [result.output])[0]


def test_every_field_is_an_option_with_its_default():
    assert run(None, "here") == ("here", RunSettings(size=7))
    given = ["--sharp-edges-least", "0.7", "--way", "slow", "--sharp-edges-strict"]
    given += ["--name", "a", "--name", "b c", "--other-number", "5"]
    sharp = SharpnessSettings(0.7, "slow", True, ("a", "b c"))
    assert run(None, "here", *given) == ("here", RunSettings(sharp, OtherSettings(5), 7))


def test_a_command_with_some_of_the_stages():
    assert run(["other"], "here", "--other-number", "4")[1].other.number == 4
    assert "No such option" in run(["other"], "here", "--way", "slow")
    assert "Least sharpness." in run(None, "--help")


def test_help_of_curate_brings_no_torch():
    code = (
        "import sys\nfrom nemo_cosmos.cli.main import main\n"
        "try:\n main(['curate', '--help'])\nexcept SystemExit:\n pass\n"
        "print([m for m in ('torch', 'nemo', 'transformers', 'ray') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--min-clip-s" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_names_are_repeated_or_have_commas_between_them():
    assert listed(["a, b", "c", ""]) == ("a", "b", "c")
    assert listed(None) == ()


@dataclass(frozen=True)
class SharedOptions:
    height: int | None = option(None, "Height in pixels.")
    seed: int = option(1, "Seed.")


@dataclass(frozen=True)
class FamilyOptions:
    seed: int = option(2, "Seed again.")
    guidance: float = option(7.0, "How strongly.", flag="--strength")
    guide: bool = option(False, "Guide.")
    internal: int = 3


def run_flat(*arguments):
    seen = []
    app = typer.Typer()

    @app.command()
    @with_options(options=SharedOptions, Diffusion=FamilyOptions)
    def command(**options: Any) -> None:
        seen.append(options)

    result = CliRunner().invoke(app, list(arguments))
    return (seen or [result.output])[0]


def test_options_that_were_not_given_are_none():
    assert run_flat() == {"height": None, "seed": None, "guidance": None, "guide": None}
    given = ["--height", "96", "--seed", "7", "--strength", "0", "--guide"]
    assert run_flat(*given) == {"height": 96, "seed": 7, "guidance": 0.0, "guide": True}


def test_help_shows_the_defaults_of_the_dataclass():
    text = run_flat("--help")
    assert "[default: 7.0]" in text and "[default: 1]" in text and "Seed again" not in text
    assert "internal" not in text and "Diffusion" in text
