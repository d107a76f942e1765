"""The table of what post-training needs is the planner's, and leaves no recipe out."""

from __future__ import annotations

from pathlib import Path

from recipes.post_training_plans import ROWS, as_table
from recipes.registry import RECIPES

PAGE = Path(__file__).parents[3] / "docs" / "post_training.md"


def test_the_page_has_the_planners_table() -> None:
    """``python -m recipes.post_training_plans`` prints what the page holds."""
    assert as_table() in PAGE.read_text(encoding="utf-8")


def test_every_recipe_that_adds_a_control_has_a_row() -> None:
    """Stages, decoders and tokenizers go on with a training; they steer nothing new."""
    controlled = ("action", "camera", "driving", "instruction")
    wanted = {name for name in RECIPES if name.endswith(controlled)}
    assert wanted
    assert wanted <= {row.recipe for row in ROWS}
    large = {name for name in wanted if "nano" not in name}
    assert large <= {row.recipe for row in ROWS if row.lora}
