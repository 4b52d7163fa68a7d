"""Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, for all of our clients.

httpx reads them itself, but ends in its own errors at a value that it can't read, and takes 10.0.0.0/8 for a
host. Source of what NO_PROXY may hold: golang.org/x/net/http/httpproxy, by which kubectl and podman read it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Protocol

from gpuyard import errors

_REMEDY = "write for example http://proxy.example.com:3128, or unset it"


class Address(Protocol):
    """A URL, whoever made it."""

    @property
    def scheme(self) -> str:
        """In lower case."""

    @property
    def host(self) -> str:
        """Without brackets."""

    @property
    def port(self) -> int | None:
        """None for the scheme's own."""


def proxy_for(url: Address, environ: Mapping[str, str]) -> str | None:
    """The proxy's address for a request; None to go there directly, as to this machine always.

    Raises:
        UsageError: the variable that counts holds no address of a proxy.
    """
    names = [
        name for scheme in (url.scheme, "all") for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    ]
    name = next((name for name in names if environ.get(name)), None)
    # A request to a CGI program sets HTTP_PROXY by its header `Proxy`.
    if name is None or (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
        return None
    if _is_direct(url, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return _checked(name, environ[name].strip())


def proxy_in_use(url: Address, environ: Mapping[str, str]) -> str:
    """The proxy as messages name it, without its password; empty without."""
    found = proxy_for(url, environ)
    return _masked(found) if found else ""


def way_to(url: str, environ: Mapping[str, str]) -> str:
    """For a message, behind the name of what isn't reached: the proxy on the way, or nothing."""
    import httpx  # Only where something failed: it costs start-up time.

    try:
        proxy = proxy_in_use(httpx.URL(url), environ)
    except (errors.UsageError, httpx.InvalidURL):
        return ""
    return f" through the proxy {proxy}" if proxy else ""


def _checked(name: str, value: str) -> str:
    import httpx  # Only where there is a proxy: it costs start-up time.

    text = value if "://" in value else f"http://{value}"
    try:
        address = httpx.URL(text)
        wrong = "names no host" if not address.host else ""
    except httpx.InvalidURL as error:
        address, wrong = httpx.URL(), f"is no address: {str(error).lower()}"
    if not wrong and address.scheme not in ("http", "https"):
        wrong = f"is a proxy of the kind {address.scheme}, and only http and https are spoken"
    if wrong:
        raise errors.UsageError(f"{name} is {_masked(value)!r}, which {wrong}", remedy=_REMEDY)
    return text


def _masked(address: str) -> str:
    return re.sub(r"^((?:[^:/@]+://)?).*@", r"\1…@", address)


def _is_direct(url: Address, no_proxy: str) -> bool:
    host = url.host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or host.endswith(".localhost") or (address and address.is_loopback):
        return True
    port = str(url.port or {"https": 443}.get(url.scheme, 80))
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        named, own_port = _split(entry.rpartition("://")[2])
        if entry == "*" or (named and own_port in ("", port) and _matches(named, host, address)):
            return True
    return False


def _split(entry: str) -> tuple[str, str]:
    """Name or address, and the port if any: `host:80`, `[::1]:80`; `::1` has none."""
    match = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?|([^:]*)(?::(\d+))?", entry)
    return (match[1] or match[3] or "", match[2] or match[4] or "") if match else (entry, "")


def _matches(named: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if address is not None:
        try:
            return address in ipaddress.ip_network(named, strict=False)
        except ValueError:
            return False
    below = named.removeprefix("*")
    return host.endswith(below) if below.startswith(".") else host == below or host.endswith(f".{below}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
