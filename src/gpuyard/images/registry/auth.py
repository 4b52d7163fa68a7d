"""Authorization at one registry: basic, or bearer tokens per set of scopes.

Source: distribution/distribution, docs/spec/auth (token, oauth, scope); RFC 9110 11.6.1.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import orjson

from gpuyard import errors
from gpuyard.images.registry.answers import RegistryResponse, error_of, url_of
from gpuyard.images.registry.credentials import Credentials, CredentialSource
from gpuyard.images.registry.http import RegistryHttp
from gpuyard.images.registry.responses import Headers
from gpuyard.images.registry.urls import Url

_CLIENT_ID = "gpuyard"
#: The specification's life of a token that names none.
_DEFAULT_LIFE_S = 60.0
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PIECE = re.compile(
    rf'[\s,]*(?:(?P<key>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_TOKEN}))|(?P<scheme>{_TOKEN}))'
)


@dataclass(frozen=True)
class Challenge:
    """One way to authenticate that a 401 offers; scheme and parameter names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(values: Sequence[str]) -> list[Challenge]:
    """Reads WWW-Authenticate headers; what can't be read is left out."""
    challenges: list[Challenge] = []
    for piece in _pieces(", ".join(values)):
        if piece["scheme"]:
            challenges.append(Challenge(piece["scheme"].lower()))
        elif challenges:
            value = piece["plain"] or re.sub(r"\\(.)", r"\1", piece["quoted"] or "")
            challenges[-1].parameters[piece["key"].lower()] = value
    return challenges


def _pieces(text: str) -> Iterator[re.Match[str]]:
    at = 0
    while match := _PIECE.match(text, at):
        yield match
        at = match.end()


@dataclass(frozen=True)
class _Token:
    value: str
    until: float


class Authorizer:
    """What one registry was found to want, and the tokens that it gave; shared by all its repositories."""

    def __init__(
        self,
        registry: str,
        credentials: CredentialSource,
        http: RegistryHttp,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._source = credentials
        self._http = http
        self._clock = clock
        self._lock = asyncio.Lock()
        self._challenge: Challenge | None = None
        self._credentials: dict[str, Credentials | None] = {}  # of each repository
        self._tokens: dict[frozenset[str], _Token] = {}
        self._wanted: dict[frozenset[str], set[str]] = {}  # what the registry itself named for ours

    def scoped(self, address: Url, repository: str, *scopes: str) -> ScopedAuthority:
        """The authority for requests that need these scopes, sent to the registry's own address only.

        Args:
            address: the registry's.
            repository: whose credentials count; empty for the registry's.
            scopes: as tokens have them.
        """
        return ScopedAuthority(self, address, repository, frozenset(scopes))

    async def header(self, repository: str, scopes: frozenset[str]) -> str | None:
        """Authorization for the scopes; None until a challenge told what is wanted."""
        if self._challenge is None:
            return None
        async with self._lock:
            if self._challenge.scheme == "basic":
                credentials = await self._known(repository)
                return credentials.basic if credentials else None
            token = self._tokens.get(scopes)
            if token is None or token.until <= self._clock():
                token = self._tokens[scopes] = await self._fetch(self._challenge, repository, scopes)
            return f"Bearer {token.value}"

    def account(self, repository: str) -> str:
        """Who we are for a repository; empty while that wasn't asked for, or nobody is known."""
        found = self._credentials.get(repository)
        return (found.username or "the user of your token") if found else ""

    async def _known(self, repository: str) -> Credentials | None:
        if repository not in self._credentials:
            self._credentials[repository] = await self._source.find(self._registry, repository)
        return self._credentials[repository]

    async def challenged(
        self, headers: Headers, repository: str, scopes: frozenset[str], sent: str | None
    ) -> bool:
        """Takes a 401; True when `header` now yields something other than what was sent."""
        offers = {c.scheme: c for c in reversed(parse_challenges(headers.get_list("www-authenticate")))}
        async with self._lock:
            if "bearer" in offers and offers["bearer"].parameters.get("realm"):
                self._challenge = offers["bearer"]
                self._wanted[scopes] = set(self._challenge.parameters.get("scope", "").split())
                token = self._tokens.get(scopes)
                if token is not None and sent == f"Bearer {token.value}":
                    del self._tokens[scopes]
            elif "basic" in offers:
                self._challenge = offers["basic"]
            else:
                return False
            credentials = await self._known(repository)
        if self._challenge.scheme == "basic":
            return credentials is not None and credentials.basic != sent
        return True

    async def _fetch(self, challenge: Challenge, repository: str, scopes: frozenset[str]) -> _Token:
        asked = challenge.parameters
        wanted = _merged(scopes | self._wanted.get(scopes, set()))
        started = self._clock()
        credentials = await self._known(repository)
        answer = await self._ask(credentials, asked["realm"], asked.get("service", ""), wanted)
        if answer.status != 200:
            known = replace(answer, account=self.account(repository))
            raise error_of(known, f"getting a token for {self._registry}")
        try:
            raw = orjson.loads(answer.content)
            value = str(raw.get("token") or raw["access_token"])
            if not (value.isascii() and value.isprintable()):
                raise ValueError("no header can carry it")
            life_s = float(raw.get("expires_in") or _DEFAULT_LIFE_S)
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError):
            # The cause is dropped: it may quote the token.
            raise errors.RegistryError(
                f"getting a token for {self._registry}: the answer of {answer.url.host} can't be read"
            ) from None
        # A tenth early, so that a token isn't sent that ends on its way.
        return _Token(value, started + life_s * 0.9)

    async def _ask(
        self, credentials: Credentials | None, realm: str, service: str, scopes: Sequence[str]
    ) -> RegistryResponse:
        if credentials is not None and credentials.identity_token:
            form = urlencode(
                {
                    "grant_type": "refresh_token",
                    "refresh_token": credentials.identity_token,
                    "service": service,
                    "client_id": _CLIENT_ID,
                    "scope": " ".join(scopes),
                }
            )
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            body = form.encode()
            return await self._http.request("POST", realm, headers=kind, content=body, private=True)
        named = {"service": service} if service else {}
        url = url_of(realm).with_parameters({**named, "scope": scopes})
        headers = {"Authorization": credentials.basic} if credentials else {}
        return await self._http.request("GET", url, headers=headers, private=bool(credentials))


def _merged(scopes: Iterable[str]) -> list[str]:
    """One scope for each resource: a registry may name our own actions in another order."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, allowed = scope.rpartition(":")
        actions.setdefault(resource, set()).update(allowed.split(","))
    return [f"{resource}:{','.join(sorted(actions[resource]))}" for resource in sorted(actions)]


@dataclass(frozen=True)
class ScopedAuthority:
    """An Authorizer for one set of scopes; implements `http.Authority`.

    Storage and CDNs that a registry redirects to get no Authorization: many refuse it, and it isn't theirs.
    """

    authorizer: Authorizer
    address: Url
    repository: str
    scopes: frozenset[str]

    async def header(self, url: Url) -> str | None:
        """See `Authority.header`."""
        return await self.authorizer.header(self.repository, self.scopes) if self._ours(url) else None

    async def challenged(self, url: Url, headers: Headers, sent: str | None) -> bool:
        """See `Authority.challenged`; storage has no say in who gets the registry's credentials."""
        return self._ours(url) and await self.authorizer.challenged(
            headers, self.repository, self.scopes, sent
        )

    @property
    def account(self) -> str:
        """See `Authority.account`."""
        return self.authorizer.account(self.repository)

    def _ours(self, url: Url) -> bool:
        return url.netloc == self.address.netloc
