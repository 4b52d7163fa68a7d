"""Wheels of sources from elsewhere: a commit is cloned, an archive fetched and held against its hash."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gpuyard import errors
from gpuyard.atomic_files import temporary_folder
from gpuyard.building.project.wheel_build import WheelBuilder
from gpuyard.building.python.sources import Source
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.workdir.git import git_environ
from gpuyard.images.subprocesses import outputs

#: A folder that only looks like a bare repository is none, whose configuration would name programs.
_NOT_HERE = ("-c", "safe.bareRepository=explicit")
#: Puts what an address leads to into a file.
Download = Callable[[str, Path], Awaitable[None]]


async def build_source(
    builder: WheelBuilder, source: Source, where: str, download: Download, locked: Wheel | None = None
) -> Wheel:
    """The wheel of a source; one that was built before, and is in the cache, is taken.

    Args:
        builder: for one base.
        source: a commit, or an archive by its hash.
        where: the archive's URL or path.
        download: fetches it.
        locked: what it was when it was locked.

    Raises:
        BuildError: it can't be had or built, or came out other than it was.
    """
    wheel = builder.known(source.text)
    if wheel is None or (locked and wheel.sha256 != locked.sha256):
        with temporary_folder() as folder:
            if source.commit:
                tree = folder / "sources"
                await _clone(source, tree, builder)
                tree = tree / source.subdirectory
            else:
                tree = folder / where.partition("#")[0].partition("?")[0].rpartition("/")[2]
                await download(where, tree)
                with tree.open("rb") as file:
                    found = (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest()
                if found != source.sha256:
                    raise errors.BuildError(
                        f"{where} is not what was locked: its hash is {found}, not {source.sha256}",
                        remedy="if it was replaced knowingly, build with --upgrade",
                    )
            wheel = await builder.of_tree(tree, folder, source.text, source.text)
    if locked and wheel.sha256 != locked.sha256:
        raise errors.BuildError(
            f"{locked.file}, built anew of {source.text}, is another than the lock names: its hash is "
            f"{wheel.sha256}, not {locked.sha256}",
            remedy="its build makes another wheel each time, or needs the machine that locked it: keep that "
            "machine's cache, or lock what it is here with --upgrade",
        )
    return replace(wheel, source=source.text)


async def _clone(source: Source, tree: Path, builder: WheelBuilder) -> None:
    """A working tree at the commit, with submodules, by the user's own git and its logins."""
    environ = git_environ(builder.environ) | {"GIT_TERMINAL_PROMPT": "0"}
    environ |= _logging_in(source, environ)
    for words in (
        ("clone", "--quiet", "--no-checkout", source.url, str(tree)),
        ("-C", str(tree), "checkout", "--quiet", "--detach", source.commit),
        ("-C", str(tree), "submodule", "--quiet", "update", "--init", "--recursive"),
    ):
        try:
            process = await asyncio.create_subprocess_exec(
                "git", *_NOT_HERE, *words,
                cwd=tree.parent,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise errors.BuildError(
                f"can't clone {source.url}: there is no git on PATH", remedy="install git"
            ) from error
        _, said = await outputs(process)
        if process.returncode:
            text = said.decode("utf-8", "replace").strip()
            raise errors.BuildError(
                f"can't clone {source.url} at {source.commit[:12]}: {text}",
                remedy="see that git reaches it with the logins it knows: `git ls-remote URL`",
            )


def _logging_in(source: Source, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables with which git has the URL's login for its host.

    All users of a machine can read a program's arguments, and a build reads the address that a clone keeps.
    """
    if not source.login:
        return {}
    user, _, password = map(unquote, source.login.partition(":"))
    host = urlsplit(source.url)._replace(path="/", query="").geturl()
    login = b64encode(f"{user}:{password}".encode()).decode()
    number = environ.get("GIT_CONFIG_COUNT", "")
    place = int(number) if number.isdecimal() else 0
    return {
        "GIT_CONFIG_COUNT": str(place + 1),
        f"GIT_CONFIG_KEY_{place}": f"http.{host}.extraHeader",
        f"GIT_CONFIG_VALUE_{place}": f"Authorization: Basic {login}",
    }
