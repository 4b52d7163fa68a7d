"""Who answers on a TCP port of this machine's loopback addresses, read from /proc. Source: proc(5)."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
#: Source: linux include/net/tcp_states.h.
_LISTEN = "0A"
#: Each with those that sockets are bound to which get its connections. The first that is there gets them all.
_LOOPBACK = {"127.0.0.1": ("127.0.0.1", "0.0.0.0", "::"), "::1": ("::1", "::")}


def loopback_listeners(port: int) -> dict[str, set[str]]:
    """By loopback address the sockets that take its connections, as /proc/PID/fd names them.

    `[::]` may be for IPv6 alone, which isn't told: then nobody takes those to 127.0.0.1.
    """
    bound: dict[str, set[str]] = {}
    for table in _TABLES:
        for line in _lines(table):
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == _LISTEN and int(number, 16) == port:
                bound.setdefault(_address(address), set()).add(f"socket:[{fields[9]}]")
    found = {
        address: next((bound[one] for one in those if one in bound), set())
        for address, those in _LOOPBACK.items()
    }
    return {address: sockets for address, sockets in found.items() if sockets}


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text().splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return []


def _address(words: str) -> str:
    """An address as the kernel prints it: words of 32 bits in the machine's own order."""
    raw = b"".join(
        int(words[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(words), 8)
    )
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
