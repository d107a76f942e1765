"""``nemo-cosmos evaluate --list``: what can be computed, and what it needs."""

from __future__ import annotations

from rich.table import Table

from nemo_cosmos.cli.training.evaluate.showing import show
from nemo_cosmos.evaluation import metrics
from nemo_cosmos.evaluation.record import describe
from nemo_cosmos.evaluation.suites import SUITES


def show_all(as_json: bool) -> None:
    """Show every metric and every suite."""
    known = {name: describe(metric, with_features=False) for name, metric in metrics().items()}
    if as_json:
        show({"metrics": known, "suites": SUITES}, as_json)
        return
    table = Table("metric", "of", "unit", "better", "needs", "what it says")
    for name, about in known.items():
        direction = "higher" if about["higher_is_better"] else "lower"
        needs = ", ".join(about["needs"])
        table.add_row(name, about["kind"], about["unit"], direction, needs, about["description"])
    show(table, as_json)
    suites = Table("suite", "metrics")
    for name, members in SUITES.items():
        suites.add_row(name, ", ".join(members))
    show(suites, as_json)
