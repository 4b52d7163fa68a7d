"""Debian's versions and their order (Debian Policy 5.6.12, deb-version(7))."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

_PARTS = re.compile(r"(\D*)(\d*)")
#: Valid in a version; nothing else may get into a file's name.
VERSION = re.compile(r"(?:\d+:)?[0-9A-Za-z][0-9A-Za-z.+~:-]*")

_Part: TypeAlias = tuple[tuple[tuple[int, ...], int], ...]
Key: TypeAlias = tuple[int, _Part, _Part]


@lru_cache(maxsize=65536)
def version_key(version: str) -> Key:
    """What orders versions as dpkg does."""
    epoch, colon, rest = version.strip().partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", version.strip()
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return int(epoch), _key(upstream), _key(revision or "0")


def _key(text: str) -> _Part:
    """Letters and digits in turn; the end sorts as an empty part does: after `~`, before all else."""
    pairs = [(_weights(word), int(digits or 0)) for word, digits in _PARTS.findall(text)]
    # findall ends with an empty match, which is the end's mark.
    return tuple(pairs)


def _weights(word: str) -> tuple[int, ...]:
    return (*(-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in word), 0)


def meets(version: str, operator: str, wanted: str) -> bool:
    """Whether `version operator wanted` holds; an empty operator always does.

    Args:
        operator: <<, <=, =, >=, >> or empty; < and > are old words for <= and >=.
    """
    if not operator:
        return True
    have, want = version_key(version), version_key(wanted)
    match operator:
        case "<<":
            return have < want
        case "<=" | "<":
            return have <= want
        case "=":
            return have == want
        case ">=" | ">":
            return have >= want
        case _:
            return have > want
