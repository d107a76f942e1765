"""``nemo-cosmos configure`` and the site's settings."""

from __future__ import annotations

import pytest

from nemo_cosmos import site
from nemo_cosmos.assets import fetch
from nemo_cosmos.cli import configure
from nemo_cosmos.errors import ConfigError


@pytest.fixture(autouse=True)
def own_site(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))


def test_defaults_and_groups(capsys):
    configure.command()
    shown = capsys.readouterr().out
    assert "executor: local" in shown
    assert "logger: none, tensorboard, wandb" in shown


def test_choices_are_kept_and_replaced_by_key(capsys):
    configure.command(["logger=wandb", "storage.outputs=/data/my runs"])
    configure.command(["logger=none"])
    composed = site.compose_site()
    assert composed["overrides"]["log.tensorboard_enabled"] is False
    assert composed["storage"]["outputs"] == "/data/my runs"
    assert site.recipe_overrides(composed) == [
        "log.log_dir=/data/my runs",
        "log.tensorboard_enabled=false",
    ]
    configure.command(reset=True)
    assert site.kept_choices() == []


def test_groups_add_up():
    overrides = site.compose_site(["parallel=tp8_cp2", "data=workers"])["overrides"]
    assert overrides["trainer.strategy.context_parallel_size"] == 2
    assert overrides["data.num_workers"] == 8
    assert overrides["log.tensorboard_enabled"] is True


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("parallel=tp88", "'tp8'"),
        ("logger", "group=option"),
        ("storage.outptus=/x", "do not compose"),
    ],
)
def test_wrong_settings_keep_nothing(word, message):
    with pytest.raises(ConfigError, match=message):
        configure.command([word])
    assert site.kept_choices() == []


def test_assets_are_fetched(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(fetch, "asset_path", lambda name: tmp_path / name)
    configure.command(assets=True)
    assert "lpips" in capsys.readouterr().out


def test_the_site_file_follows_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(site.SITE_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert site.site_file() == tmp_path / "nemo_cosmos" / "site.txt"
