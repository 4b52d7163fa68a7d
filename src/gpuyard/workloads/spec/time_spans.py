"""Spans of time as users write them, in spec files and on command lines: 90s, 30m, 1h30m, 2d."""

from __future__ import annotations

import re
from datetime import timedelta

#: Digits are few, so that no sum overflows.
_FORM = re.compile(r"(?a)(?:(\d{1,6})d)?(?:(\d{1,7})h)?(?:(\d{1,8})m)?(?:(\d{1,10})s)?")


def parse_span(written: str) -> timedelta:
    """The span; a number needs its unit, since to some it means minutes. Only 0 is the same in all.

    Raises:
        ValueError: it is none.
    """
    match = _FORM.fullmatch(written.strip())
    if written.strip() == "0":
        return timedelta()
    if match is None or not any(match.groups()):
        if re.fullmatch(r"(?a)\d{1,10}", written.strip()):
            number = written.strip()
            raise ValueError(f"{written!r} has no unit; write {number}s, {number}m or {number}h")
        raise ValueError(f"{written!r} is no time; write for example 90s, 30m, 12h, 1h30m or 2d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_span(span: timedelta) -> str:
    """As `parse_span` reads it: 1h30m, 0s."""
    left, text = int(span.total_seconds()), ""
    for unit, seconds in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        text += f"{count}{unit}" if count else ""
    return text or "0s"
