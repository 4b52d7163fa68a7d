"""What uv's configuration says of package indexes: variables, files, and options of requirements files.

uv reads it for itself when it resolves. This is for what it doesn't do: to hand out the wheels' files.
See uv's documentation, "Configuration files" and "Package indexes".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from gpuyard.building.python.resolving.requirements_file import Requirements
from gpuyard.images.contents.contents import normalise
from gpuyard.regular_files import read_regular

_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_KEYS = ("index-url", "extra-index-url", "find-links")
_OVERRIDES = ("override-dependencies", "exclude-dependencies")
_TRUE = ("1", "true", "yes", "on", "y", "t")


@dataclass(frozen=True)
class PackageIndex:
    """A package index, or a page of links.

    Attributes:
        url: with the user and password that it is known to have.
        authenticate: `auto`, `always` or `never`.
    """

    url: str
    authenticate: str = "auto"


@dataclass(frozen=True)
class UvSettings:
    """What there is for a build.

    Attributes:
        indexes: those named first win.
        keyring: whether the program `keyring` is asked, which only the user's own configuration says: the
            folder's names the index that would get the login.
        insecure_hosts: those whose certificates nobody checks, as `HOST` or `HOST:PORT`.
        overridden: normalised names of packages whose requirements the user overrides or leaves out.
    """

    indexes: tuple[PackageIndex, ...] = ()
    keyring: bool = False
    insecure_hosts: tuple[str, ...] = ()
    overridden: frozenset[str] = frozenset()


def read_settings(
    environ: Mapping[str, str], folder: Path, requirements: Requirements | None = None
) -> UvSettings:
    """Reads them as uv would.

    Args:
        environ: of the uv process.
        folder: where uv looks for its configuration, and above it.
        requirements: for the indexes that the files name, and those of a project beside them, Poetry's too.
    """
    own = list(_own_tables(environ))
    tables = [*_near_tables(environ, folder), *own]
    if requirements and requirements.path.name in ("pyproject.toml", "uv.lock"):
        tables.insert(0, _table(requirements.path.with_name("pyproject.toml")))
    if requirements:
        poetry = _table(requirements.path.with_name("pyproject.toml"), "poetry")
        tables.append({"index": poetry.get("source")})
    indexes = [PackageIndex(url) for url in requirements.indexes()] if requirements else []
    indexes += _of_variables(environ)
    indexes += [index for table in tables for index in _of_table(table, environ)]
    provider = environ.get("UV_KEYRING_PROVIDER") or _first(own, "keyring-provider")
    hosts = [*re.split(r"[\s,]+", environ.get("UV_INSECURE_HOST", "")), *_all(tables, "allow-insecure-host")]
    return UvSettings(
        tuple(dict.fromkeys(indexes)),
        provider == "subprocess",
        tuple(host.partition("://")[2] or host for host in hosts if host),
        frozenset(_name(text) for key in _OVERRIDES for text in _all(tables, key)),
    )


def with_keyring(environ: Mapping[str, str], settings: UvSettings) -> dict[str, str]:
    """The environment for uv with what its files say of a keyring, which decides what else uv gets of it."""
    return {**environ, "UV_KEYRING_PROVIDER": "subprocess"} if settings.keyring else dict(environ)


def _name(requirement: str) -> str:
    return normalise(re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0])


def _near_tables(environ: Mapping[str, str], folder: Path) -> Iterator[Mapping[str, Any]]:
    """uv's table of the folder, or of one above it."""
    if environ.get("UV_CONFIG_FILE") or environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return
    for parent in (folder.absolute(), *folder.absolute().parents):
        if found := _table(parent / "uv.toml") or _table(parent / "pyproject.toml"):
            yield found
            return


def _own_tables(environ: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """uv's tables of the user and the machine."""
    if named := environ.get("UV_CONFIG_FILE"):
        yield _table(Path(named).absolute())
        return
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return
    home = environ.get("HOME") or str(Path.home())
    yield _table(Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "uv/uv.toml")
    for system in (*environ.get("XDG_CONFIG_DIRS", "").split(":"), "/etc"):
        if system:
            yield _table(Path(system) / "uv/uv.toml")


def _table(path: Path, tool: str = "uv") -> Mapping[str, Any]:
    """Empty where there is none, and where it can't be read, which uv itself will say."""
    try:
        raw = tomllib.loads(read_regular(path).decode())
    except (OSError, ValueError):
        return {}
    for key in ("tool", tool) if path.name == "pyproject.toml" else ():
        raw = raw.get(key, {}) if isinstance(raw, dict) else {}
    return raw if isinstance(raw, dict) else {}


def _of_variables(environ: Mapping[str, str]) -> Iterator[PackageIndex]:
    for variable in _VARIABLES:
        for word in re.split(r"[\s,]+" if variable == "UV_FIND_LINKS" else r"\s+", environ.get(variable, "")):
            name, _, url = word.partition("=") if "=" in word.partition("://")[0] else ("", "", word)
            if "://" in url:
                yield PackageIndex(_with_variables(url, name, environ))


def _of_table(table: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[PackageIndex]:
    for raw in _list(table.get("index")):
        if isinstance(raw, dict) and isinstance(raw.get("url"), str):
            url = _with_variables(raw["url"], str(raw.get("name", "")), environ)
            yield PackageIndex(url, str(raw.get("authenticate", "auto")))
    for key in _KEYS:
        yield from (PackageIndex(url) for url in _texts(table, key) if "://" in url)


def _with_variables(url: str, name: str, environ: Mapping[str, str]) -> str:
    """The URL with what UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD say for it."""
    prefix = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
    user, password = environ.get(f"{prefix}_USERNAME"), environ.get(f"{prefix}_PASSWORD")
    if not name or (user is None and password is None):
        return url
    parts = urlsplit(url)
    login = f"{quote(user or parts.username or '', safe='')}:{quote(password or '', safe='')}"
    return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl()


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    pip = table.get("pip", {})
    found = [*_list(table.get(key)), *(_list(pip.get(key)) if isinstance(pip, dict) else ())]
    return [text for text in found if isinstance(text, str)]


def _all(tables: list[Mapping[str, Any]], key: str) -> list[str]:
    return [text for table in tables for text in _texts(table, key)]


def _first(tables: list[Mapping[str, Any]], key: str) -> str:
    return next(iter(_all(tables, key)), "")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
