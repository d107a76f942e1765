"""``nemo-cosmos configure`` and the site's settings."""

from __future__ import annotations

import pytest

from nemo_cosmos import site
from nemo_cosmos.assets import fetch
from nemo_cosmos.cli.main import Exit


@pytest.fixture(autouse=True)
def own_site(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))


def test_defaults_and_groups(run_cli):
    shown = run_cli("configure").out
    assert "executor: local" in shown
    assert "logger: none, tensorboard, wandb" in shown


def test_choices_are_kept_and_replaced_by_key(run_cli):
    run_cli("configure", "logger=wandb", "storage.outputs=/data/my runs")
    run_cli("configure", "logger=none")
    composed = site.compose_site()
    assert composed["overrides"]["log.tensorboard_enabled"] is False
    assert composed["storage"]["outputs"] == "/data/my runs"
    assert site.recipe_overrides(composed) == [
        "log.log_dir=/data/my runs",
        "log.tensorboard_enabled=false",
    ]
    run_cli("configure", "--reset")
    assert site.kept_choices() == []


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("parallel=tp88", "'tp8'"),
        ("logger", "group=option"),
        ("storage.outptus=/x", "'outputs'"),
    ],
)
def test_wrong_settings_keep_nothing(run_cli, word, message):
    ran = run_cli("configure", word)
    assert ran.code == Exit.WRONG_USE and message in ran.err
    assert site.kept_choices() == []


def test_assets_are_fetched(monkeypatch, run_cli, tmp_path):
    monkeypatch.setattr(fetch, "asset_path", lambda name: tmp_path / name)
    assert "lpips" in run_cli("configure", "--assets").out
