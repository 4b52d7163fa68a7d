"""Numbers that clients write as text: parameters of a request, and resource versions (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard import errors


def is_number(text: str) -> bool:
    """Whether the text is a whole number that fits 63 bits with room to spare."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def number_parameter(query: Mapping[str, str], name: str) -> int | None:
    """A whole-number parameter that isn't negative; None when absent.

    Raises:
        BadRequest: it is something else.
    """
    text = query.get(name)
    if not text:
        return None
    if not is_number(text):
        raise errors.BadRequest(f"query parameter {name}: {text[:40]!r} is not a whole number")
    return int(text)


def parse_version(text: str) -> int:
    """A resourceVersion as a revision.

    Raises:
        BadRequest: it isn't one.
    """
    if not is_number(text):
        raise errors.BadRequest(
            f'invalid resource version: resourceVersion: Invalid value: "{text[:40]}": '
            f'strconv.ParseUint: parsing "{text[:40]}": invalid syntax'
        )
    return int(text)
