"""``nemo-cosmos models``."""

from __future__ import annotations

from nemo_cosmos.cli.main import Exit


def test_counts_are_the_published_ones(run_cli):
    rows = {row["name"]: row for row in run_cli("models", "--json").json}
    assert rows["diffusion_7b_text2world"]["parameters"] == 7_236_192_256
    assert rows["diffusion_14b_video2world"]["parameters"] == 14_267_169_792
    assert rows["tokenizer_cv8x8x8"]["parameters"] == 105_653_696
    assert rows["tokenizer_di16x16"]["parameters"] == 83_723_958
    assert {row["family"] for row in rows.values()} == {"diffusion", "tokenizer"}


def test_the_table_names_every_model_of_a_family(run_cli):
    shown = run_cli("models", "--family", "tokenizer").out
    assert "tokenizer_ci8x8" in shown
    assert "diffusion" not in shown


def test_unknown_family(run_cli):
    ran = run_cli("models", "--family", "autoregressive")
    assert ran.code == Exit.WRONG_USE and "'diffusion' and 'tokenizer'" in ran.err
