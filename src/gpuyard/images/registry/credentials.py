"""Who we are at a registry, as Docker and podman keep it: their files, and credential helpers.

Source: docker/cli, `docker login` reference; containers/image, containers-auth.json(5) and
pkg/docker/config/config.go (which files, in which order, and which of their keys counts);
containers/common, pkg/auth/auth.go (REGISTRY_AUTH_FILE and DOCKER_CONFIG stand alone).
Secrets stay out of messages and of reprs.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from gpuyard import errors
from gpuyard.images.reference import DOCKER_HUB
from gpuyard.images.registry.credential_helper import ask_helper
from gpuyard.regular_files import read_regular

_HUB_KEY = "https://index.docker.io/v1/"
#: What a helper answers as user name when its secret is an identity token.
_TOKEN_USER = "<token>"
_ENV_FILE = "REGISTRY_AUTH_FILE"


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or an identity token (an OAuth2 refresh token)."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def find(self, registry: str, repository: str = "") -> Credentials | None:
        """Those for a repository of a registry (host with port if any); None to go on without."""


def auth_files(environ: Mapping[str, str], uid: int) -> Sequence[Path]:
    """The files that may hold credentials, the one that counts first.

    Args:
        environ: REGISTRY_AUTH_FILE, else DOCKER_CONFIG, names the only one.
        uid: of the user.
    """
    if named := environ.get(_ENV_FILE):
        return (Path(named),)
    if folder := environ.get("DOCKER_CONFIG"):
        return (Path(folder) / "config.json",)
    home = Path(environ.get("HOME") or "~").expanduser()
    run = environ.get("XDG_RUNTIME_DIR")
    return (
        Path(run) / "containers" / "auth.json" if run else Path(f"/run/containers/{uid}/auth.json"),
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json",
        home / ".docker" / "config.json",
    )


class StoredCredentials:
    """Reads each file once, when a registry first asks; a missing one is passed over unless it was named.

    In a file a registry's helper (credHelpers) comes before the common one (credsStore), and both before
    `auths`. A helper is asked once for each registry.
    """

    def __init__(self, files: Sequence[Path], environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._files = [_AuthFile(path, named=environ.get(_ENV_FILE) == str(path)) for path in files]
        self._answers: dict[tuple[Path, str], Credentials | None] = {}
        self._asking = asyncio.Lock()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> StoredCredentials:
        """Those of the files where Docker and podman would look."""
        return cls(auth_files(environ, os.getuid()), environ)

    async def find(self, registry: str, repository: str = "") -> Credentials | None:
        """See `CredentialSource.find`; raises ImageError when a file or a helper doesn't work."""
        for file in self._files:
            found = await self._from_helper(file, registry) or file.entry(registry, repository)
            if found is not None:
                return found
        return None

    async def _from_helper(self, file: _AuthFile, registry: str) -> Credentials | None:
        helper = file.helper(registry)
        if not helper:
            return None
        async with self._asking:
            key = (file.path, registry)
            if key not in self._answers:
                server = _HUB_KEY if registry == DOCKER_HUB else registry
                answer = await ask_helper(helper, server, file.path, self._environ)
                self._answers[key] = _of_helper(*answer) if answer else None
        return self._answers[key]


def _of_helper(user: str, secret: str) -> Credentials:
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


class _AuthFile:
    """One file, of Docker's form or podman's, which differ in nothing that counts here.

    Args:
        path: where it is.
        named: the user named it, so it must be there.
    """

    def __init__(self, path: Path, *, named: bool) -> None:
        self.path = path
        self._named = named
        self._read: Mapping[str, Any] | None = None

    def helper(self, registry: str) -> str:
        """The helper that knows a registry; empty without."""
        return str(self._table("credHelpers").get(registry) or self._raw.get("credsStore") or "")

    def entry(self, registry: str, repository: str) -> Credentials | None:
        """What `auths` says: for the longest part of the name, else for the registry as it may be called."""
        auths = self._table("auths")
        keys = [*_parts(registry, repository), *(key for key in auths if _host(key) == _host(registry))]
        for key in keys:
            if isinstance(entry := auths.get(key), Mapping) and (found := self._of_entry(key, entry)):
                return found
        return None

    @property
    def _raw(self) -> Mapping[str, Any]:
        if self._read is None:
            try:
                raw = orjson.loads(read_regular(self.path))
            except FileNotFoundError as error:
                if self._named:
                    raise self._unreadable(error.strerror) from error
                raw = {}
            except NotADirectoryError:  # a part of the way there is a file
                raw = {}
            except (OSError, orjson.JSONDecodeError) as error:
                reason = "is not JSON" if isinstance(error, orjson.JSONDecodeError) else error.strerror
                raise self._unreadable(reason) from error
            self._read = raw if isinstance(raw, dict) else {}
        return self._read

    def _unreadable(self, reason: str | None) -> errors.ImageError:
        return errors.ImageError(
            f"the credentials in {self.path} can't be read: {reason}",
            remedy=f"mend the file, or name another with {_ENV_FILE}",
        )

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self._raw.get(name)
        return table if isinstance(table, dict) else {}

    def _of_entry(self, name: str, entry: Mapping[str, Any]) -> Credentials | None:
        if entry.get("identitytoken"):
            return Credentials(identity_token=str(entry["identitytoken"]))
        if entry.get("username"):
            return Credentials(str(entry["username"]), str(entry.get("password") or ""))
        if not entry.get("auth"):
            return None
        try:
            user, colon, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except ValueError:  # not base64, or not text in UTF-8
            colon = ""
        if not colon:
            # The cause is dropped: a decoding error quotes what it decodes.
            raise errors.ImageError(
                f"the credentials for {name} in {self.path} are not base64 of USER:PASSWORD",
                remedy=f"log in again: docker login {name}",
            ) from None
        return Credentials(user, password.rstrip("\0"))


def _parts(registry: str, repository: str) -> Iterator[str]:
    """REGISTRY/a/b, REGISTRY/a, REGISTRY."""
    whole = f"{registry}/{repository}" if repository else registry
    while whole != registry:
        yield whole
        whole = whole.rpartition("/")[0]
    yield registry


def _host(key: str) -> str:
    """The registry that a key of `auths` is for, where that is all it says: older tools wrote addresses
    (`https://index.docker.io/v1/`). Of a namespace nothing but its exact name counts."""
    host, slash, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    if slash and "://" not in key and path.strip("/") not in ("", "v1", "v2"):
        return key
    host = host.lower()
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host
