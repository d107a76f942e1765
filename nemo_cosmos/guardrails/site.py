"""The guards and the audit log that the site's settings name (``conf/guardrails``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nemo_cosmos.guardrails.audit import default_log_path
from nemo_cosmos.guardrails.policy import GuardPolicy
from nemo_cosmos.guardrails.settings import GuardSettings
from nemo_cosmos.site import compose_site


def site_policy(disabled: Iterable[str] = (), enabled: Iterable[str] = ()) -> GuardPolicy:
    """The site's guards, and those that are turned on or off by name.

    Args:
        disabled: names of guards that are not asked, besides those that the site turns off.
        enabled: names of guards that are off by default, besides those that the site turns on.

    Raises:
        ConfigError: an unknown guard or setting.
    """
    site = compose_site()["guardrails"]
    return GuardPolicy.default(
        [*site["disabled"], *disabled],
        audit_path=site["audit_log"],
        enabled=[*site["enabled"], *enabled],
        record_text=site["audit_text"],
        settings=GuardSettings.from_site(site["models"]),
    )


def site_log() -> Path:
    """The audit log that the site's settings name, by default the user's."""
    named = compose_site()["guardrails"]["audit_log"]
    return Path(named) if named else default_log_path()
