"""RFC 3339 in UTC, as Kubernetes writes `metav1.Time` (seconds) and `MicroTime`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

#: A hundred years. Periods in the API are 64-bit numbers; whoever asks for a longer one means for ever.
LONGEST_S = 100 * 365 * 86_400

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def format_time(moment: datetime) -> str:
    """`2026-01-31T12:00:00Z`."""
    # Not strftime: it writes years below 1000 with fewer than four digits, which nobody reads again.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def format_micro_time(moment: datetime) -> str:
    """`2026-01-31T12:00:00.000001Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Reads either form, as UTC.

    Raises:
        ValueError: not RFC 3339 with a zone, or outside the years 1 to 9999 in UTC.
    """
    # `fromisoformat` alone takes all of ISO 8601, weeks and basic forms included.
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is outside the years 1 to 9999 in UTC") from None


def later(moment: datetime, seconds: int) -> datetime:
    """`moment` and so many seconds, at most `LONGEST_S`."""
    try:
        return moment + timedelta(seconds=min(seconds, LONGEST_S))
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
