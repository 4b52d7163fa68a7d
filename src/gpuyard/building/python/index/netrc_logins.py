"""Logins of the user's ~/.netrc, for package indexes and archives."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from pathlib import Path


def netrc_login(environ: Mapping[str, str], host: str) -> tuple[str, str] | None:
    """User and password for a host; of a file that can't be read none, as with uv.

    Args:
        environ: NETRC or HOME says where the file is.
        host: without a port.
    """
    path = environ.get("NETRC") or Path(environ.get("HOME") or Path.home()) / ".netrc"
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return (found[0], found[2] or "") if found and (found[0] or found[2]) else None
