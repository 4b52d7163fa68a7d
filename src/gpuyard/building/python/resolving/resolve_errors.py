"""Why uv found no wheels: the index isn't reached, wants a login or lacks a package, or nothing fits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gpuyard import errors
from gpuyard.http_proxies import way_to

#: uv's words when it reached all it asked, and nothing fits.
NO_SOLUTION = "No solution found"

_LOGIN = re.compile(r"\(?\b(401 Unauthorized|403 Forbidden)")
_REACHED = re.compile(r"HTTP status (?:client|server) error \((\d{3}[^)]*)\)")
_FETCHED = re.compile(
    r"(?:Failed to (?:fetch|download)|error sending request for url|wasn't found in the cache)"
)
_MISSING = re.compile(r"Because (\S+) was not found in the (?:package registry|provided package locations)")
_SOURCES = re.compile(r"Wheels are required for `([^`]+)` because building from source is disabled")
_URL = re.compile(r"https?://[^\s`)]+")
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def unresolved(
    said: str, what: str, base: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> errors.BuildError:
    """The error for uv's own words.

    Args:
        said: what uv said.
        what: the requirements and what they are resolved for.
        base: version by name of what the base brings.
        environ: uv's, which may name a proxy.
    """
    environ = environ or {}
    said = _PASSWORD.sub("", said)
    url = found[0] if (found := _URL.search(said)) else ""
    host = re.split(r"[/?#]", url.partition("://")[2])[0] or "the package index"
    if login := _LOGIN.search(said):
        return errors.BuildError(
            f"{host} wants another login ({login[1]}), so there are no wheels for {what}:\n{said}",
            remedy=f"log in with `uv auth login {host}`, ~/.netrc, or UV_INDEX_NAME_USERNAME and "
            "UV_INDEX_NAME_PASSWORD",
        )
    if status := _REACHED.search(said):
        return errors.BuildError(
            f"{host} answers {status[1]}, so there are no wheels for {what}:\n{said}",
            remedy="see that the address is right and the index works, and build again",
        )
    if _FETCHED.search(said):
        reason = said.rpartition("cause: ")[2].strip()
        return errors.BuildError(
            f"can't reach the package index {host}{way_to(url, environ)} ({reason}), so there are no wheels "
            f"for {what}:\n{said}",
            remedy=f"see that this machine reaches {host}, or name another index (UV_DEFAULT_INDEX)",
        )
    if missing := _MISSING.search(said):
        return errors.ResolveError(
            f"the package index has no {missing[1]}, so there are no wheels for {what}:\n{said}",
            remedy="see that the name is right and that its index is named: uv's configuration, or "
            "--extra-index-url in the requirements",
        )
    named = (name for name in sorted(base) if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", said))
    brought = ", ".join(f"{name} {base[name]}" for name in named)
    change = "change the requirements or the base"
    sources = _SOURCES.search(said)
    built = f", unless sources are built: --build-sources {sources[1]}" if sources else ""
    if "musllinux" in said:
        change = "the base is Alpine, or another with musl: choose one of Debian, such as python:3.11-slim"
    return errors.ResolveError(
        f"no wheels meet {what}{f' (the base brings {brought})' if brought else ''}:\n{said}",
        remedy=f"{change}; wheels only are installed{built}",
    )
