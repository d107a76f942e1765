"""Metrics of guards for a server: verdicts, and the time that they took.

They are in the process's ``prometheus_client`` registry, which a server exposes::

    nemo_cosmos_guard_verdicts_total{guard="keywords",category="violence",allowed="false"} 3
    nemo_cosmos_guard_seconds_bucket{guard="face_blur",le="0.5"} 17

The audit log keeps the same counts after the process ends: ``audit.count_violations``.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from nemo_cosmos.guardrails.base import Verdict

VERDICTS = Counter(
    "nemo_cosmos_guard_verdicts",
    "Verdicts of guards; allowed=false are violations and failures.",
    ["guard", "category", "allowed"],
)
SECONDS = Histogram(
    "nemo_cosmos_guard_seconds",
    "Seconds that a guard took for a prompt or a video.",
    ["guard"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)


def observe(guard: str, verdict: Verdict, seconds: float) -> None:
    """Count one verdict, whatever category a plug-in gives it."""
    VERDICTS.labels(guard, str(verdict.category), str(verdict.allowed).lower()).inc()
    SECONDS.labels(guard).observe(seconds)
