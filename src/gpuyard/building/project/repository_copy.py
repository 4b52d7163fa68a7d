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
from gpuyard.building.python.uv_process import UvDone, run_program
from gpuyard.building.workdir.git import Repository, git_environ

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
    """Asks git about a repository."""
    found = []
    for words in _ASKED:
        done = await _git(repository, words, environ)
        if done is None or done.code:
            return RepositoryState(repository, failure=done.err if done else "there is no git on PATH")
        found.append(done.out)
    return RepositoryState(repository, "".join(found))


async def copy_repository(repository: Repository, tree: Path, environ: Mapping[str, str]) -> None:
    """Makes a folder, which has the repository's files already, a working tree of its own.

    Raises:
        BuildError: git fails.
    """
    own = tree / ".git"
    config = ("config", "--file", str(own / "config"))
    for words in (
        ("clone", "--mirror", "--shared", "--quiet", "--template=", "--", str(repository.top), str(own)),
        (*config, "core.bare", "false"),
        # So that nothing is sent to where it came from.
        (*config, "--remove-section", "remote.origin"),
    ):
        done = await _git(repository, words, environ)
        if done is None or done.code:
            why = done.err if done else "there is no git on PATH"
            raise errors.BuildError(
                f"can't copy the repository of {repository.top} for its build: {why}",
                remedy="see that `git clone` can copy it",
            )
    for index in (*repository.folder.glob("index"), *repository.folder.glob("sharedindex.*")):
        shutil.copy2(index, own / index.name)


async def _git(repository: Repository, words: tuple[str, ...], environ: Mapping[str, str]) -> UvDone | None:
    arguments = ("--no-optional-locks", *words)
    return await run_program("git", arguments, folder=repository.top, environ=git_environ(environ))
