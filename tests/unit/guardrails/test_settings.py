"""The guards' models are named by the site, else by the environment."""

from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.guardrails import GuardPolicy, RefusedError
from nemo_cosmos.guardrails.settings import GuardSettings, variable


def test_the_site_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv(variable("blocklist"), "/from/environment")
    monkeypatch.setenv(variable("siglip"), "/from/environment")
    found = GuardSettings.from_site({"blocklist": "/from/site", "siglip": None})
    assert (found.blocklist, found.siglip) == ("/from/site", "/from/environment")
    assert found.retinaface is None
    assert GuardSettings.from_environment().blocklist == "/from/environment"


@pytest.mark.parametrize(
    ("values", "message"),
    [({"blocklists": "x"}, "'blocklist'"), ({"siglip": 3}, "siglip is 3 .* must be text")],
)
def test_a_wrong_setting_is_an_error(values, message):
    with pytest.raises(ConfigError, match=message):
        GuardSettings.from_site(values)


def test_a_policy_builds_its_guards_from_the_settings(tmp_path, monkeypatch):
    lists = tmp_path / "lists" / "custom"
    lists.mkdir(parents=True)
    (lists / "toys.txt").write_text("widget\n")
    off = ["text_classifier", "video_classifier", "face_blur"]
    log = tmp_path / "a.jsonl"
    settings = GuardSettings(blocklist=str(lists.parent))
    with pytest.raises(RefusedError, match="blocked term 'widget'"):
        GuardPolicy.default(off, log, settings=settings).check_prompt("a widget")
    monkeypatch.setenv(variable("blocklist"), str(tmp_path / "nowhere"))
    with pytest.raises(RefusedError, match=r"guardrails\.models\.blocklist"):
        GuardPolicy.default(off, log).check_prompt("a robot")


def test_every_built_in_guard_takes_settings_that_there_are():
    from dataclasses import fields

    from nemo_cosmos.guardrails.registry import BUILTIN_GUARDS

    known = {item.name for item in fields(GuardSettings)}
    taken = {name for guard in BUILTIN_GUARDS.values() for name in guard.settings.values()}
    assert taken == known


def test_a_site_sets_all_of_them_and_the_commands_take_them(tmp_path, monkeypatch):
    from dataclasses import fields

    from nemo_cosmos.guardrails.site import site_policy
    from nemo_cosmos.site import compose_site

    lists = tmp_path / "lists" / "custom"
    lists.mkdir(parents=True)
    (lists / "toys.txt").write_text("widget\n")
    site = tmp_path / "site.txt"
    site.write_text(
        f"guardrails.models.blocklist={lists.parent}\nguardrails.audit_log={tmp_path / 'a.jsonl'}\n"
    )
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(site))
    assert [*compose_site()["guardrails"]["models"]] == [
        item.name for item in fields(GuardSettings)
    ]
    with pytest.raises(RefusedError, match="'widget'"):
        site_policy(["text_classifier"]).check_prompt("a widget")
