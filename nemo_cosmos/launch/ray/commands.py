"""``ray job submit``, and a cluster's server of jobs, with their words in our errors.

Documented at docs.ray.io, "Ray Jobs REST API".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import ConfigError, NemoCosmosError, ServiceError
from nemo_cosmos.services.addresses import is_on_this_machine

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class JobServer:
    """The server of jobs of one cluster.

    Attributes:
        address: its URL.
    """

    address: str

    def require(self) -> None:
        """Require that it answers.

        Raises:
            ServiceError: it does not, or it is another server.
        """
        self._ask("api/version", "for its version")

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return all jobs by their number.

        Raises:
            ServiceError: the server does not answer.
        """
        rows: list[dict[str, Any]] = self._ask("api/jobs/", "to list jobs")
        return {row["submission_id"]: row for row in rows if row.get("submission_id")}

    def log(self, number: str) -> str:
        """Return what a job has printed.

        Args:
            number: the job.

        Raises:
            ConfigError: there is no such job.
            ServiceError: the server does not answer.
        """
        said = self._ask(f"api/jobs/{urllib.parse.quote(number)}/logs", f"for the log of {number}")
        return str(said["logs"])

    def stop(self, number: str) -> None:
        """Ask a job to save and end.

        Args:
            number: the job.

        Raises:
            ConfigError: there is no such job.
            ServiceError: the server does not answer.
        """
        path = f"api/jobs/{urllib.parse.quote(number)}/stop"
        self._ask(path, f"to stop {number}", method="POST")

    def _opener(self) -> urllib.request.OpenerDirector:
        """Opens URLs as the environment says; no proxy reaches this machine's own server for us."""
        if is_on_this_machine(self.address):
            return urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener()

    def _ask(self, path: str, what: str, method: str = "GET") -> Any:
        url = f"{self.address.rstrip('/')}/{path}"
        request = urllib.request.Request(url, method=method)
        try:
            with self._opener().open(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = " ".join(error.read().decode(errors="replace").split())[:300]
            raise ConfigError(
                f"Ray refuses {what}: {said or error.reason} (HTTP {error.code}). 'nemo-cosmos "
                "status' lists the jobs."
            ) from error
        except (OSError, ValueError) as error:
            raise ServiceError(
                f"Ray's server of jobs at '{self.address}' does not answer ({error}). Set "
                "cluster.address to the head node's dashboard, such as http://HEAD:8265; 'ray "
                "status' on the head node shows whether the cluster runs."
            ) from error


def submit(words: Sequence[str]) -> None:
    """Run ``ray job submit``.

    Args:
        words: the command.

    Raises:
        ConfigError: Ray refuses the job, or there is no ``ray`` here.
    """
    # The command lies beside the interpreter, also where the environment is not activated.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(words[0], path=places)
    if program is None:
        raise ConfigError(
            f"There is no '{words[0]}' on this machine, so no job can be submitted from it. "
            "Install 'ray[default]', or print the script here with --dryrun and run it where it is."
        )
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    ended = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, check=False, env=environment
    )
    if ended.returncode:
        raise _refused(ended.stderr.strip() or ended.stdout.strip())


def _refused(said: str) -> NemoCosmosError:
    """Make an error of what Ray says; the reason is in the last line of its traceback."""
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "(it says nothing)")
    return ConfigError(
        f"Ray refuses the job: {last.strip()} The cluster must have the same release of Ray as "
        "this machine ('ray --version')."
    )
