"""Secrets stay out of scripts and manifests, which others may read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.job import Job
from nemo_cosmos.launch.settings import check_variables
from nemo_cosmos.site import choices_for_jobs

_NAME = re.compile(r"(^|_)(API)?(TOKEN|SECRET|PASSWORD|PASSWD|KEY)S?(_|$)", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def check_no_secrets(
    job: Job, variables: Mapping[str, str], way: str, lines: Sequence[str] = ()
) -> None:
    """Refuse a job whose script or manifest would hold a secret, and names that no shell takes.

    Args:
        job: the job.
        variables: the site's variables.
        way: how a secret gets to the job instead, with ``{name}`` for the variable.
        lines: further text that is written.

    Raises:
        ConfigError: names the variable, or shows the URL without its password.
    """
    given = {**variables, **job.env}
    check_variables(given)
    for name in given:
        if _NAME.search(name):
            raise ConfigError(
                f"The variable '{name}' looks like a secret, and its value would be written into "
                f"what is submitted. {way.format(name=name)}"
            )
    variants = (word for words in job.variants for word in words)
    for word in (*given.values(), *job.command, *variants, *lines, *choices_for_jobs()):
        if _PASSWORD.search(word):
            shown = _PASSWORD.sub("://...@", word)
            raise ConfigError(
                f"'{shown}' holds a password, which would be written into what is submitted. Give "
                "the URL without it, and let its client read the password from a variable that "
                "cluster.secrets names, or from its own file."
            )
