"""Guards before and after generation; whatever goes wrong is a refusal."""

from nemo_cosmos.guardrails.audit import AuditLog, verify_log
from nemo_cosmos.guardrails.base import Guard, RefusedError, Verdict, VideoFilter
from nemo_cosmos.guardrails.policy import GuardPolicy
from nemo_cosmos.guardrails.settings import GuardSettings

__all__ = [
    "AuditLog",
    "Guard",
    "GuardPolicy",
    "GuardSettings",
    "RefusedError",
    "Verdict",
    "VideoFilter",
    "verify_log",
]
