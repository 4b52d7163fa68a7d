"""What git knows of a workdir: where its repository is, which files it tracks although it ignores them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from gpuyard.atomic_files import temporary_folder
from gpuyard.regular_files import read_regular

#: Reads only, and starts nothing: no hook, and no daemon that watches files.
GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
#: Set in git's own hooks, of which a build may be one: they would mean another repository than the workdir's.
_ELSEWHERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"}
)
#: Of one question: a folder on a network that doesn't answer is no reason to wait for ever.
_LONGEST_S = 10.0
#: What of a repository's configuration says how to read it; none of it is the name of a program.
_TELLING = {
    "core": frozenset(
        {
            "repositoryformatversion", "filemode", "ignorecase", "symlinks", "autocrlf", "eol",
            "precomposeunicode", "excludesfile",
        }
    ),
    "extensions": frozenset({"objectformat"}),
}  # fmt: skip
_SECTION = re.compile(r"\s*\[\s*([A-Za-z]+)\s*\]")
_SETTING = re.compile(r"\s*([A-Za-z]+)\s*=\s*([\w./~-]+)\s*")
_BRANCH = re.compile(r"ref: refs/\S+")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def git_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a git that is to find the repository by the folder that it starts in."""
    return {name: value for name, value in environ.items() if name not in _ELSEWHERE}


@dataclass(frozen=True)
class Repository:
    """A repository with a working tree.

    Attributes:
        top: folder of the working tree.
        folder: git's own: `.git`, or what a worktree's or a submodule's `.git` file names.
        common: the part of it that worktrees share.
    """

    top: Path
    folder: Path
    common: Path

    @classmethod
    def above(cls, path: Path) -> Repository | None:
        """The one that a folder is in, if any.

        Args:
            path: absolute.
        """
        top = next((folder for folder in (path, *path.parents) if (folder / ".git").exists()), None)
        return cls.at(top) if top else None

    @classmethod
    def at(cls, top: Path) -> Repository:
        """The one whose working tree begins at a folder."""
        git = top / ".git"
        text = read_text(git) if git.is_file() else ""
        if text.startswith("gitdir: "):
            git = top / text.removeprefix("gitdir: ").strip()
        return cls(top, git, git / (read_text(git / "commondir").strip() or "."))

    @property
    def exclude_file(self) -> Path:
        """Rules of this clone that aren't committed."""
        return self.common / "info" / "exclude"

    @property
    def head(self) -> str:
        """What is checked out: a branch, or a commit."""
        head = read_text(self.folder / "HEAD").strip()
        return f"{head if _COMMIT.fullmatch(head) or _BRANCH.fullmatch(head) else 'ref: refs/heads/none'}\n"

    @property
    def settings(self) -> str:
        """What of its configuration says how to read it."""
        return _telling(read_text(self.common / "config"))

    @property
    def commit(self) -> str:
        """The hash of what is checked out, read from git's own files: most folders are in no repository, or
        need no git. Empty before the first."""
        head = read_text(self.folder / "HEAD").strip()
        if not head.startswith("ref: "):
            return head if _COMMIT.fullmatch(head) else ""
        name = head.removeprefix("ref: ")
        commit = read_text(self.common / name).strip()
        if not commit:
            lines = (line.split(" ") for line in read_text(self.common / "packed-refs").splitlines())
            commit = next((words[0] for words in lines if words[1:] == [name]), "")
        return commit if _COMMIT.fullmatch(commit) else ""

    @contextmanager
    def read_only(self, environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The environment for a git that reads this repository, and takes no program's name from it.

        A repository comes with an unpacked archive as well as by `git clone`: its configuration may name
        programs for nearly all that git does (`core.fsmonitor`, `filter.NAME.clean`), and a folder that only
        looks like one counts as bare. So git gets a folder of ours that links to what is read.
        """
        with temporary_folder() as made:
            (made / "HEAD").write_text(self.head)
            (made / "config").write_text(self.settings)
            (made / "info").mkdir()
            for name in ("objects", "refs", "packed-refs"):
                (made / name).symlink_to(self.common / name)
            (made / "info" / "exclude").symlink_to(self.exclude_file)
            (made / "info" / "attributes").symlink_to(self.common / "info" / "attributes")
            (made / "info" / "sparse-checkout").symlink_to(self.folder / "info" / "sparse-checkout")
            for path in (self.folder / "index", *self.folder.glob("sharedindex.*")):
                (made / path.name).symlink_to(path)
            yield git_environ(environ) | {"GIT_DIR": str(made), "GIT_WORK_TREE": str(self.top)}


def _telling(config: str) -> str:
    """The lines of a repository's configuration that say how to read it."""
    section, found = "", ""
    for line in config.splitlines():
        if line.lstrip().startswith("["):
            match = _SECTION.fullmatch(line)
            section = match[1].lower() if match else ""
        elif (match := _SETTING.fullmatch(line)) and match[1].lower() in _TELLING.get(section, ()):
            found += f"[{section}]\n{match[1]} = {match[2]}\n"
    return found


def read_text(path: Path) -> str:
    """Of one of git's small files; empty where it can't be read."""
    try:
        return read_regular(path).decode("utf-8", "replace")
    except OSError:
        return ""


class GitAnswers:
    """Two questions to git about one folder, asked while the caller does other things.

    Args:
        repository: asked about.
        folder: in its working tree.
        environ: the command's.
    """

    def __init__(self, repository: Repository, folder: Path, environ: Mapping[str, str]) -> None:
        self._open = ExitStack()
        self._environ = self._open.enter_context(repository.read_only(environ))
        self._repository = repository
        self._folder = folder
        self._tracked = self._ask("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")
        self._excludes = self._ask("config", "--null", "--type=path", "--get", "core.excludesFile")
        #: Why git didn't say what it tracks; empty when it did or wasn't asked.
        self.failure = ""

    def _ask(self, *words: str) -> subprocess.Popen[bytes] | OSError:
        try:
            return subprocess.Popen(
                (*GIT, *words),
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            return error

    @cached_property
    def tracked(self) -> frozenset[str]:
        """Paths relative to the folder of what is tracked and ignored, and of the folders that lead there."""
        answer, self.failure = self._hear(self._tracked)
        paths = [path for path in answer.split("\0") if path]
        parents = (str(parent) for path in paths for parent in PurePosixPath(path).parents)
        return frozenset((*paths, *parents))

    def excludes_file(self) -> Path:
        """The user's own rules for all repositories: `core.excludesFile`, or where git looks without it."""
        found, _ = self._hear(self._excludes)
        if found:
            return self._folder / found.rstrip("\0")
        home = Path(self._environ.get("HOME") or "/nonexistent")
        return Path(self._environ.get("XDG_CONFIG_HOME") or home / ".config") / "git" / "ignore"

    def _hear(self, process: subprocess.Popen[bytes] | OSError) -> tuple[str, str]:
        """What git wrote, and why it failed."""
        if isinstance(process, OSError):
            return "", f"git: {process.strerror}"
        try:
            out, err = process.communicate(timeout=_LONGEST_S)
        except subprocess.TimeoutExpired:
            return "", f"git doesn't answer within {_LONGEST_S:.0f} s"
        if process.returncode in (0, 1):  # `git config --get` ends with 1 where nothing is set
            return out.decode("utf-8", "surrogateescape"), ""
        text = err.decode("utf-8", "replace").replace(self._environ["GIT_DIR"], str(self._repository.folder))
        lines = text.strip().splitlines()
        return "", lines[0] if lines else f"git ended with {process.returncode}"

    def close(self) -> None:
        """Ends questions whose answer nobody wants."""
        for process in (self._tracked, self._excludes):
            if isinstance(process, subprocess.Popen):
                with process:
                    process.kill()
        self._open.close()
