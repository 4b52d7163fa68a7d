"""Who we are at a registry, as Docker keeps it: config.json, credential helpers.

Source: docker/cli, `docker login` reference; docker/docker-credential-helpers, README "Development".
Secrets stay out of messages and of reprs, and helpers are started without a shell.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from gpuyard import errors
from gpuyard.images.reference import DOCKER_HUB
from gpuyard.images.subprocesses import outputs
from gpuyard.regular_files import read_regular

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_TIMEOUT_S = 30.0
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What a helper answers as user name when its secret is an identity token.
_TOKEN_USER = "<token>"


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

    async def find(self, registry: str) -> Credentials | None:
        """Those for a registry (host with port if any); None to go on without."""


class DockerCredentials:
    """Reads Docker's config.json once, when a registry first asks; a missing file means no credentials.

    A registry's helper (credHelpers) comes before the common one (credsStore), and both before `auths`.
    """

    def __init__(self, config: Path, environ: Mapping[str, str]) -> None:
        self._path = config
        self._environ = environ
        self._raw: Mapping[str, Any] | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> DockerCredentials:
        """The file in $DOCKER_CONFIG, else in ~/.docker."""
        folder = environ.get("DOCKER_CONFIG") or str(
            Path(environ.get("HOME") or "~").expanduser() / ".docker"
        )
        return cls(Path(folder) / "config.json", environ)

    async def find(self, registry: str) -> Credentials | None:
        """See `CredentialSource.find`; raises ImageError when the file or a helper doesn't work."""
        raw = self._config()
        key = _HUB_KEY if registry == DOCKER_HUB else registry
        helper = _table(raw, "credHelpers").get(registry) or raw.get("credsStore")
        if helper:
            found = await self._ask_helper(str(helper), key)
            if found is not None:
                return found
        for name, entry in _table(raw, "auths").items():
            if _host(name) == _host(key) and isinstance(entry, Mapping):
                return self._of_entry(name, entry)
        return None

    def _config(self) -> Mapping[str, Any]:
        if self._raw is None:
            try:
                raw = orjson.loads(read_regular(self._path))
            except FileNotFoundError:
                raw = {}
            except (OSError, orjson.JSONDecodeError) as error:
                reason = "is not JSON" if isinstance(error, orjson.JSONDecodeError) else error.strerror
                raise errors.ImageError(
                    f"the credentials in {self._path} can't be read: {reason}",
                    remedy="mend the file, or point DOCKER_CONFIG at another folder",
                ) from error
            self._raw = raw if isinstance(raw, dict) else {}
        return self._raw

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
                f"the credentials for {name} in {self._path} are not base64 of USER:PASSWORD",
                remedy=f"log in again: docker login {_host(name)}",
            ) from None
        return Credentials(user, password.rstrip("\0"))

    async def _ask_helper(self, helper: str, server: str) -> Credentials | None:
        program = f"docker-credential-{helper}"
        if not _HELPER_NAME.fullmatch(helper):
            raise errors.ImageError(
                f"{self._path} names a credential helper {helper!r}, which can't be a program"
            )
        remedy = f"install or mend {program}, or take it out of {self._path}"
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                "get",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(self._environ),
                start_new_session=True,
            )
        except OSError as error:
            raise errors.ImageError(
                f"the credential helper {program} can't be started: {error.strerror}", remedy=remedy
            ) from error
        try:
            async with asyncio.timeout(_HELPER_TIMEOUT_S):
                out, _ = await outputs(process, server.encode())
        except TimeoutError as error:
            raise errors.ImageError(
                f"the credential helper {program} gave no answer within {_HELPER_TIMEOUT_S:.0f} s",
                remedy=remedy,
            ) from error
        if process.returncode != 0:
            if b"credentials not found" in out:
                return None
            raise errors.ImageError(
                f"the credential helper {program} failed for {server} with exit code {process.returncode}",
                remedy=f"run it by hand: echo {server} | {program} get",
            )
        return _of_helper(program, out)


def _of_helper(program: str, out: bytes) -> Credentials | None:
    try:
        answer = orjson.loads(out)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise errors.ImageError(
            f"the credential helper {program} gave an answer that can't be read"
        ) from None
    if not secret:
        return None
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = raw.get(name)
    return table if isinstance(table, dict) else {}


def _host(name: str) -> str:
    """The registry that a key of `auths` is for: `https://index.docker.io/v1/` and `docker.io` are one."""
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host
