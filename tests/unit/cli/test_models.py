"""``nemo-cosmos models``."""

from __future__ import annotations

import json

import pytest

from nemo_cosmos.cli import models
from nemo_cosmos.errors import ConfigError


def test_counts_are_the_published_ones(capsys):
    models.command(as_json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["diffusion_7b_text2world"]["parameters"] == 7_236_192_256
    assert rows["diffusion_14b_video2world"]["parameters"] == 14_267_169_792
    assert rows["tokenizer_cv8x8x8"]["parameters"] == 105_653_696
    assert rows["tokenizer_di16x16"]["parameters"] == 83_723_958
    assert {row["family"] for row in rows.values()} == {"diffusion", "tokenizer"}


def test_the_table_names_every_model_of_a_family(capsys):
    models.command(family="tokenizer")
    shown = capsys.readouterr().out
    assert "tokenizer_ci8x8" in shown
    assert "diffusion" not in shown


def test_unknown_family():
    with pytest.raises(ConfigError, match="'diffusion' and 'tokenizer'"):
        models.command(family="autoregressive")
