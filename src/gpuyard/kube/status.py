"""`v1.Status`: how an API says no, and back to the error that it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard import errors


def status_of(error: errors.ApiError) -> dict[str, Any]:
    """The Status object for an error, ready to be sent with HTTP code `error.code`."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message if not error.remedy else f"{error.message}: {error.remedy}",
        "reason": error.reason,
        "details": dict(error.details),
        "code": error.code,
    }


def error_of(status: Mapping[str, Any], code: int) -> errors.ApiError:
    """The error for a Status (or for any other JSON body) that came with this HTTP code."""
    message = str(status.get("message") or f"the server answered {code}")
    details = status.get("details") or {}
    kind = _by_reason().get(str(status.get("reason", ""))) or _by_code().get(code)
    if kind is None:
        error = errors.ApiError(message, details=details)
        error.code = code
        error.reason = str(status.get("reason") or "Unknown")
        return error
    return kind(message, details=details)


def _kinds() -> list[type[errors.ApiError]]:
    return errors.ApiError.__subclasses__()


def _by_reason() -> dict[str, type[errors.ApiError]]:
    return {kind.reason: kind for kind in _kinds()} | {"Gone": errors.Gone}


def _by_code() -> dict[int, type[errors.ApiError]]:
    return {kind.code: kind for kind in _kinds()} | {409: errors.Conflict}
