"""What a build may ask git about its sources, and a repository of its own that answers it.

A version may come from tags, and the list of packed files from the index. The build gets all that git has of
the tree, but for the objects, which it reads where they are: what it writes is lost with the copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.building.python.uv_process import run_program
from gpuyard.building.workdir.git import GIT, Repository

#: Commit, branch, what of the tree isn't as it was committed, and the tags with what they name.
_ASKED = (
    ("status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no"),
    ("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags"),
)


@dataclass(frozen=True)
class RepositoryState:
    """A repository as it is now.

    Attributes:
        text: all of it that a build may ask for.
        failure: why git doesn't tell; then a build has no repository.
    """

    repository: Repository
    text: str = ""
    failure: str = ""


async def read_state(repository: Repository, environ: Mapping[str, str]) -> RepositoryState:
    """Asks git about a repository, whose own configuration names no program for it."""
    found = []
    with repository.read_only(environ) as reading:
        for words in _ASKED:
            done = await run_program(GIT[0], (*GIT[1:], *words), folder=repository.top, environ=reading)
            if done is None:
                return RepositoryState(repository, failure="there is no git on PATH")
            if done.code:
                failure = done.err.replace(reading["GIT_DIR"], str(repository.folder))
                return RepositoryState(repository, failure=failure)
            found.append(done.out)
    return RepositoryState(repository, "".join(found))


def copy_repository(repository: Repository, tree: Path) -> None:
    """Makes a folder, which has the repository's files already, a working tree of its own.

    Raises:
        BuildError: it can't be copied.
    """
    own, common = tree / ".git", repository.common.resolve()
    try:
        (own / "objects" / "info").mkdir(parents=True)
        (own / "objects" / "info" / "alternates").write_text(f"{common / 'objects'}\n")
        (own / "HEAD").write_text(repository.head)
        (own / "config").write_text(repository.settings)
        shutil.copytree(common / "refs", own / "refs", symlinks=True)
        indexes = (*repository.folder.glob("index"), *repository.folder.glob("sharedindex.*"))
        for path in (*indexes, *common.glob("packed-refs"), *common.glob("shallow")):
            shutil.copy2(path, own / path.name)
    except OSError as error:
        raise errors.BuildError(
            f"can't copy the repository of {repository.top} for its build: {error}",
            remedy="see that you may read all of it",
        ) from error
