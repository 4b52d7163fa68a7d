"""Whether a lock that another tool wrote is older than what it was made from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.building.python.pylock import UV_LOCK
from gpuyard.building.python.resolving.resolve_errors import NO_SOLUTION
from gpuyard.building.python.uv_process import ISOLATED, run_uv
from gpuyard.images.contents.contents import normalise
from gpuyard.regular_files import read_regular

#: uv's words, and its exit code where it could look at all; without a Python for the project it can't.
_OLD = ("needs to be updated", NO_SOLUTION)
_REFUSED = 1
_EXPORTED = re.compile(r"^#\s+(uv export\b.*)$", re.MULTILINE)


async def check_age(path: Path, environ: Mapping[str, str], python: str) -> None:
    """Holds a uv.lock against its pyproject.toml, and a pylock.toml of `uv export` against its uv.lock.

    No index is asked and nothing is built: where only those could tell, the lock is taken.

    Args:
        path: of the lock.
        environ: of which uv gets what it needs.
        python: an interpreter that the project may allow.

    Raises:
        UsageError: it is older.
    """
    if path.name == UV_LOCK:
        offline = {**environ, "UV_PYTHON_DOWNLOADS": "never"}
        done = await run_uv(
            ("lock", "--check", "--offline", *ISOLATED), folder=path.parent, environ=offline, python=python
        )
        if done.code == _REFUSED and any(words in done.err for words in _OLD):
            raise errors.UsageError(
                f"{path} is older than its pyproject.toml: it doesn't lock what that requires now",
                remedy="lock the project anew: uv lock",
            )
    elif exported := _EXPORTED.search(_text(path)):
        now = _versions(path.with_name(UV_LOCK))
        for name, versions in _versions(path).items():
            if name in now and not versions <= now[name]:
                was, new = "/".join(sorted(versions)), "/".join(sorted(now[name]))
                raise errors.UsageError(
                    f"{path} is older than the uv.lock that it was exported from: it has {name} {was}, and "
                    f"that {new}",
                    remedy=f"export it anew: {exported[1]}",
                )


def _versions(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in _packages(path):
        found.setdefault(normalise(name), set()).add(version)
    return found


def _packages(path: Path) -> Iterator[tuple[str, str]]:
    try:
        raw: dict[str, Any] = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError:  # the lock's own reader says so
        return
    for package in raw.get("packages") or raw.get("package") or ():
        if isinstance(package, dict) and isinstance(package.get("version"), str):
            yield str(package.get("name", "")), package["version"]


def _text(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8", "replace")
    except OSError:
        return ""
