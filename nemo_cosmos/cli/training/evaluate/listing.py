"""``nemo-cosmos evaluate --list``: what can be computed, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from nemo_cosmos.cli.training.evaluate.showing import show
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation import Metric, metrics
from nemo_cosmos.evaluation.record import describe
from nemo_cosmos.evaluation.suites import SUITES


def show_all(as_json: bool) -> None:
    """Show every metric and every suite."""
    known = {name: _about(metric) for name, metric in metrics().items()}
    if as_json:
        show({"metrics": known, "suites": SUITES}, as_json)
        return
    table = Table("metric", "what it says", show_lines=True)
    table.columns[0].no_wrap = True
    for name, about in known.items():
        notes = [_needs(about), _features(about), _batching(about)]
        says = "\n".join([about["description"], *(f"[dim]{note}[/]" for note in notes if note)])
        table.add_row(f"{name}\n[dim]{_form(about)}[/]", says)
    show(table, as_json)
    suites = Table("suite", "its metrics")
    for name, members in SUITES.items():
        suites.add_row(name, ", ".join(members))
    show(suites, as_json)


def _about(metric: Metric) -> dict[str, Any]:
    """What makes two numbers of a metric comparable; a judge may not be configured."""
    try:
        return describe(metric)
    except ConfigError:
        return describe(metric, with_features=False)


def _form(about: Mapping[str, Any]) -> str:
    """Kind, unit and direction."""
    direction = "higher is better" if about["higher_is_better"] else "lower is better"
    return ", ".join(filter(None, (about["kind"], about["unit"], direction)))


def _needs(about: Mapping[str, Any]) -> str:
    return f"needs {', '.join(about['needs'])}" if about["needs"] else ""


def _features(about: Mapping[str, Any]) -> str:
    features = about["features"]
    return f"looks through {features['name']} {features['version']}" if features else ""


def _batching(about: Mapping[str, Any]) -> str:
    """What the network sees at once."""
    frames, videos = about["batching"]["frames"], about["batching"]["videos"]
    parts = [f"{videos} videos"] if videos > 1 else []
    parts += [f"{frames[0]} frames on a CPU, {frames[1]} on a GPU"] if frames else []
    return ", ".join(parts) + (" at once" if parts else "")
