"""What to do about a 403: the role that would allow it, or what else says no."""

from __future__ import annotations

from gpuyard import errors
from gpuyard.tenancy.access import denied, remedy_for


def add_remedy(error: errors.Forbidden) -> None:
    """Gives the error a remedy, unless it has one."""
    if error.remedy:
        return
    if found := denied(error.message):
        user, action = found
        error.remedy = remedy_for(user, [action])
    elif "exceeded quota" in error.message:
        error.remedy = "remove what isn't needed any more (`gpuyard ps` lists runs), or have the quota raised"
    elif "is being terminated" in error.message:
        error.remedy = "wait until the namespace is gone and make it again, or name another with --namespace"
