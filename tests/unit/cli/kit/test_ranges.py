"""Every number that a command takes has a range, and NaN and infinity are in none."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from data_curation.settings import CurateSettings
from nemo_cosmos.cli.main import COMMANDS, CommandEntry, CommandGroup, Exit
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.models.common.family import generation_options
from nemo_cosmos.options import build_options, option_fields

STAGES = CurateSettings.stage_kinds()


def is_number(kind: Any) -> bool:
    return bool({int, float} & {kind, *getattr(kind, "__args__", ())})


def numeric(cls: type[Any]) -> list[str]:
    hints = get_type_hints(cls)
    return [item.name for item in option_fields(cls) if is_number(hints[item.name])]


def commands() -> dict[str, Any]:
    """Every command's function by its name, those of groups too."""

    def walk(name: str, entry: CommandEntry) -> dict[str, Any]:
        target = entry.load()
        if isinstance(target, CommandGroup):
            found: dict[str, Any] = {}
            for word, inner in target.commands.items():
                found |= walk(f"{name} {word}", inner)
            return found
        return {name: target}

    found: dict[str, Any] = {}
    for name, entry in COMMANDS.items():
        found |= walk(name, entry)
    return found


def test_every_number_is_checked_while_the_line_is_read():
    unchecked = []
    for name, function in commands().items():
        for item in inspect.signature(function, eval_str=True).parameters.values():
            infos = [*getattr(item.annotation, "__metadata__", ()), item.default]
            plain = getattr(item.annotation, "__origin__", item.annotation)
            if is_number(plain) and not any(getattr(info, "callback", None) for info in infos):
                unchecked.append(f"{name} --{item.name}")
    assert unchecked == []


@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for stage, kind in STAGES.items() for name in numeric(kind)]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 1e30])
def test_no_stage_takes_a_number_that_cannot_be_right(stage: str, name: str, value: float):
    kind = STAGES[stage]
    hint = get_type_hints(kind)[name]
    given = int(value) if hint is int and math.isfinite(value) else value
    legal = next(item for item in fields(kind) if item.name == name).metadata["range"]
    if value == 1e30 and legal.most is None:
        return  # there is no largest picture
    with pytest.raises(ConfigError, match=f"^{name} is "):
        kind(**{name: given})


@pytest.mark.parametrize("cls", [GenerationOptions, *generation_options().values()])
def test_no_option_of_a_video_takes_one(cls: type[Any]):
    for name in numeric(cls):
        for value in (math.nan, math.inf, -1, 10**30):
            with pytest.raises(ConfigError, match=f"^{name} is "):
                build_options(cls, {name: value})


@pytest.mark.parametrize(
    "words",
    [
        ("transcode", "raw", "out", "--crf", "99"),
        ("transcode", "raw", "out", "--transcode-keyframe-s", "nan"),
        ("tokenize", "raw", "out", "--tokenizer", "tok", "--window-frames", "0"),
        ("tokenize", "raw", "out", "--tokenizer", "tok", "--batch-size", "-1"),
        ("dataset", "query", "robot", "--limit", "0"),
        ("dataset", "retain", "--raw-days", "1000000000"),
        ("evaluate", "a", "b", "--skip-frames", "-1"),
        ("plan", "-f", "diffusion_7b_text2world", "-n", "8", "--gpu-memory-gb", "nan"),
        ("plan", "-f", "diffusion_7b_text2world", "-n", "8", "--height", "-5"),
        ("predict", "world", "-i", "a.png", "--num-condition-frames", "0"),
        ("extend", "world", "-i", "a.png", "--chunks", "0"),
        ("generate", "world", "-p", "rain", "--tensor-parallel", "0"),
        ("generate", "world", "-p", "rain", "--fps", "1e9"),
        ("generate", "world", "-p", "rain", "--guidance", "inf"),
        ("simulate", "out", "--fps", "nan"),
    ],
)
def test_commands_name_option_range_and_value(run_cli, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run_cli(*words)
    name = words[-2].removeprefix("--").removeprefix("transcode-")
    assert ran.code == Exit.WRONG_USE
    assert name.replace("-", "_") in ran.err.replace("-", "_")
    assert "it must be" in ran.err and words[-1].removesuffix("1e9") in ran.err
    assert not (tmp_path / "out").exists()
