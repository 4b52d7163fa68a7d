"""Messages of Kubernetes' own parts, made readable."""

from __future__ import annotations

import re

_PREEMPTION = r"(?s)\s*(?:no new claims to deallocate,|preemption: ).*"


def without_preemption(message: str) -> str:
    """kube-scheduler's message without its account of claims and of what preemption could do."""
    return re.sub(_PREEMPTION, "", message)
