"""A copy of the code at the submit, so that editing while a run waits doesn't change the run.

What git knows is copied, and what is new and not ignored. Nothing is linked: most editors write into the file
that is there, and a link would change with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath
from uuid import uuid4

from gpuyard import errors
from gpuyard.building.workdir.git import GIT, Repository
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.workloads.command import needed_script, resolve_command
from gpuyard.workloads.resolved_run import CodeSnapshot, HostContext
from gpuyard.workloads.spec.run_spec import RunSpec

MAX_FILES = 20_000
MAX_BYTES = 512 << 20
_GIT_TIMEOUT_S = 60
_INIT = "make it a repository (`git init`), or submit without a snapshot"
_LEAVE_OUT = "add what isn't code to .gitignore, or submit without a snapshot"


def in_snapshot(host: HostContext, spec: RunSpec, name: str, snapshots: Path) -> HostContext:
    """The context in a snapshot that is still to be taken, below the folder `snapshots`.

    Raises:
        UsageError: the run's folder is in no git repository, or its script is named by an absolute path or
            ignored.
    """
    workdir = Path(host.workdir).resolve()
    source = _repository(workdir).top
    script = needed_script(resolve_command(spec.run, host.python, spec.shell)) or ""
    if Path(script).is_absolute() and Path(script).resolve().is_relative_to(source):
        raise errors.UsageError(
            f"{script} is an absolute path, which leads out of the snapshot",
            remedy=f"name it from the run's folder: {os.path.relpath(script, workdir)}",
        )
    if script and not Path(script).is_absolute():
        _check_known(workdir / script)
    target = snapshots / f"{name}-{uuid4().hex[:12]}"
    snapshot = CodeSnapshot(PurePosixPath(source), PurePosixPath(target), host.workdir)
    return dataclasses.replace(host, workdir=str(target / workdir.relative_to(source)), snapshot=snapshot)


@contextlib.asynccontextmanager
async def taken(snapshot: CodeSnapshot, workdir: str) -> AsyncIterator[None]:
    """Takes a run's snapshot, and takes it back when the block fails.

    Raises:
        UsageError: it has too many files or bytes, or can't be read or written.
    """
    source, target = Path(snapshot.source), Path(snapshot.target)
    try:
        await asyncio.to_thread(take_snapshot, source, target, Path(workdir))
        yield
    except BaseException:
        remove_tree(target)
        raise


def take_snapshot(source: Path, target: Path, workdir: Path) -> None:
    """Copies what git knows of `source` or doesn't ignore to `target`; makes `workdir` in it.

    Raises:
        UsageError: it has too many files or bytes, or can't be read or written.
    """
    count, size_bytes = 0, 0
    try:
        target.mkdir(mode=0o700, parents=True)
        for name in _files(source):
            count, size_bytes = count + 1, size_bytes + (source / name).lstat().st_size
            if count > MAX_FILES or size_bytes > MAX_BYTES:
                raise errors.UsageError(
                    f"the snapshot of {source} would have more than "
                    + (f"{MAX_FILES} files" if count > MAX_FILES else f"{MAX_BYTES >> 20} MiB (at {name})"),
                    remedy=_LEAVE_OUT,
                )
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name, follow_symlinks=False)
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.UsageError(
            f"can't take a snapshot of {source}: {error.strerror}: {error.filename or target}",
            remedy=_LEAVE_OUT,
        ) from error


def _check_known(script: Path) -> None:
    if script.exists() and not _list(script.parent, "--", f":(literal){script.name}"):
        raise errors.UsageError(
            f"git ignores {script}, so a snapshot doesn't have it",
            remedy="take it out of .gitignore, or submit without a snapshot",
        )


def _list(folder: Path, *paths: str) -> list[str]:
    """Files that git knows or doesn't ignore, below the folder."""
    listed = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *paths)
    return [os.fsdecode(raw) for raw in listed.split(b"\0") if raw]


def _files(folder: Path) -> Iterator[str]:
    """Files and links that git knows or doesn't ignore and that are there; those of submodules, too."""
    for name in dict.fromkeys(_list(folder)):
        path = folder / name
        if path.is_symlink() or path.is_file():
            yield name
        elif (path / ".git").exists():
            yield from (os.path.join(name, inner) for inner in _files(path))  # noqa: PTH118 - text for git


def _repository(folder: Path) -> Repository:
    if repository := Repository.above(folder.absolute()):
        return repository
    raise errors.UsageError(
        f"a snapshot takes what git knows of {folder}: it is not a git repository, and in none", remedy=_INIT
    )


def _git(folder: Path, *arguments: str) -> bytes:
    repository = _repository(folder)
    try:
        with repository.read_only(os.environ) as environ:
            done = subprocess.run(
                [*GIT, *arguments],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_GIT_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.UsageError(
            f"a snapshot takes what git knows, and git doesn't run: {error}", remedy="install git"
        ) from error
    if done.returncode:
        said = (
            done.stderr.decode(errors="replace").replace(environ["GIT_DIR"], str(repository.folder)).strip()
        )
        raise errors.UsageError(
            f"a snapshot takes what git knows of {folder}: {said}",
            remedy=_INIT,
        )
    return done.stdout
