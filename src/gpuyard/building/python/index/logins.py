"""How requests for wheels log in: with what uv would use, from wherever uv has it.

The sources are uv's, in its order (its documentation, "HTTP credentials"): the URL and the indexes' own
logins, ~/.netrc, the store of `uv auth login`, and the program `keyring` where it is configured.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import orjson

from gpuyard.building.python.index.netrc_logins import netrc_login
from gpuyard.building.python.index.settings import PackageIndex, UvSettings
from gpuyard.building.python.uv_process import run_program, run_uv

_HELPER = ("auth", "helper", "--preview-features", "auth-helper", "--protocol", "bazel", "get")


class IndexLogins:
    """Finds logins, and remembers which one a host took.

    Args:
        settings: of uv.
        environ: of the programs that are asked.
        folder: where uv looks for its configuration.
    """

    def __init__(self, settings: UvSettings, environ: Mapping[str, str], folder: Path) -> None:
        self._settings = settings
        self._environ = environ
        self._folder = folder
        self._taken: dict[str, str] = {}

    def took(self, url: str, header: str) -> None:
        """The host of a URL has taken this header."""
        self._taken[_realm(urlsplit(url))] = header

    async def headers(self, url: str) -> AsyncIterator[str]:
        """What to send as `Authorization`, the likeliest first; the next on a refusal. Empty for nothing."""
        parts = urlsplit(url)
        near = self._near(parts)
        if own := _login(parts):
            yield own
            return
        if near and near[0].authenticate == "never":
            yield ""
            return
        tried: set[str] = set()
        for header in self._at_hand(parts, near):
            if header not in tried:
                tried.add(header)
                yield header
        if not tried and not (near and near[0].authenticate == "always"):
            tried.add("")
            yield ""
        async for header in self._asked_for(url, near):
            if header not in tried:
                tried.add(header)
                yield header
        if not tried:
            yield ""

    def _at_hand(self, parts: SplitResult, near: list[PackageIndex]) -> Iterator[str]:
        if taken := self._taken.get(_realm(parts)):
            yield taken
        for index in near:
            if header := _login(urlsplit(index.url)):
                yield header
        if login := netrc_login(self._environ, parts.hostname or ""):
            yield _basic(*login)

    def _near(self, parts: SplitResult) -> list[PackageIndex]:
        """The indexes of the same scheme, host and port; that with most of the path in common first."""

        def common(index: PackageIndex) -> int:
            pairs = zip(urlsplit(index.url).path.split("/"), parts.path.split("/"), strict=False)
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        same = [index for index in self._settings.indexes if _realm(urlsplit(index.url)) == _realm(parts)]
        return sorted(same, key=common, reverse=True)

    async def _asked_for(self, url: str, near: list[PackageIndex]) -> AsyncIterator[str]:
        places = list(dict.fromkeys(map(_bare, (url, *(index.url for index in near)))))
        for place in places:
            if header := await self._of_uv(place):
                yield header
        if not self._settings.keyring:
            return
        users = {_bare(index.url): urlsplit(index.url).username for index in near}
        user = next((name for name in users.values() if name), None) or urlsplit(url).username
        host = urlsplit(url).netloc.rpartition("@")[2]
        for place in (*reversed(places), host):
            if header := await self._of_keyring(place, users.get(place) or user):
                yield header

    async def _of_uv(self, url: str) -> str:
        """From the store that `uv auth login` fills."""
        asked = orjson.dumps({"uri": url})
        done = await run_uv(_HELPER, folder=self._folder, environ=self._environ, sent=asked)
        try:
            return str(orjson.loads(done.out)["headers"]["Authorization"][0]) if not done.code else ""
        except (ValueError, KeyError, IndexError, TypeError):
            return ""

    async def _of_keyring(self, service: str, user: str | None) -> str:
        words = ("get", service, user) if user else ("--mode", "creds", "get", service)
        done = await run_program("keyring", words, folder=self._folder, environ=self._environ)
        if done is None or done.code:
            return ""
        lines = done.out.splitlines()
        if user:
            return _basic(user, lines[0]) if lines else ""
        return _basic(lines[0], lines[1]) if len(lines) > 1 else ""


def _realm(parts: SplitResult) -> str:
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.scheme}://{parts.hostname}:{port or {'http': 80, 'https': 443}.get(parts.scheme)}"


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _login(parts: SplitResult) -> str:
    """A user without a password is one for `keyring`; a password without a user is a token."""
    if parts.password is None:
        return ""
    return _basic(unquote(parts.username or ""), unquote(parts.password))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
