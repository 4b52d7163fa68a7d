"""The way through a workdir: what goes in, what stays out, and why.

Left out is what .gitignore and .gpuyardignore (or .dockerignore) say and what never belongs into an image.
What git tracks stays in though its rules match: so it is for git.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuyard import errors
from gpuyard.atomic_files import PREFIX as UNFINISHED
from gpuyard.building.workdir.dockerignore import NAMES as DOCKERIGNORES
from gpuyard.building.workdir.git import GitAnswers, Repository
from gpuyard.building.workdir.ignore_files import IgnoreFile, read_dockerignore, read_git_patterns

GITIGNORE, OURS = ".gitignore", ".gpuyardignore"
NEVER = "never goes into an image"

_NEVER_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".ipynb_checkpoints",
    }
)
_NEVER_FILES = frozenset({".DS_Store", ".git"})
#: A folder with one of these is a virtual environment of this machine, or images as files.
_NOT_OURS = {"pyvenv.cfg": "it is a virtual environment", "oci-layout": "it holds images"}
_NEVER_SUFFIXES = (".pyc", ".pyo")
_MOST_FOLDERS = 200
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def changed(path: Path, why: str | None = None) -> errors.BuildError:
    """For what isn't there any more, or isn't what it was when the build began."""
    return errors.BuildError(
        f"{path} changed while the image was built" + (f": {why}" if why else ""),
        remedy="build again when nothing writes there, or list it in .gpuyardignore",
    )


@dataclass(frozen=True)
class _Scope:
    """The rules that hold in a folder.

    Attributes:
        git: git's, in the order of their weight, the weightiest last.
        own: ours or Docker's; they win over git's.
        answers: of git for the repository that the folder is in.
        start: path from the workdir to where those begin.
    """

    git: tuple[IgnoreFile, ...] = ()
    own: tuple[IgnoreFile, ...] = ()
    answers: GitAnswers | None = None
    start: str = ""


@dataclass
class Walk:
    """Goes through a workdir once.

    Attributes:
        context: a folder above the workdir whose ignore files count, too.
        files: path relative to the workdir, and its state.
        folders: those that go in, also empty ones, without a slash at the end.
        left_out: what stays out, folders with a slash at the end, and why.
        notices, warnings: what the user should know.
    """

    root: Path
    environ: Mapping[str, str]
    context: Path | None = None
    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _asked: list[GitAnswers] = field(default_factory=list)

    def run(self) -> None:
        """Fills the attributes.

        Raises:
            UsageError: a folder or an ignore file can't be read.
        """
        try:
            scope = self._repository_scope()
            self._folder("", replace(scope, own=self._own_rules()), ignored=False, shy=False)
            self.warnings += [
                f"{answers.failure}: files that git tracks stay out where {GITIGNORE} matches them"
                for answers in self._asked
                if answers.failure
            ]
        finally:
            for answers in self._asked:
                answers.close()

    def _own_rules(self) -> tuple[IgnoreFile, ...]:
        """Ours, else Docker's, of the workdir and of the folders above it as far as the context."""
        root = self.root.resolve()
        above: tuple[str, ...] = ()
        if self.context and root.is_relative_to(context := self.context.resolve()):
            above = root.relative_to(context).parts
        folders = [root.parents[count - 1] for count in range(len(above), 0, -1)] + [root]
        names = {folder: os.path.relpath(folder, root) + "/" for folder in folders} | {root: ""}
        prefixes = {
            folder: "".join(f"{part}/" for part in above[index:]) for index, folder in enumerate(folders)
        }
        ours = [folder for folder in folders if (folder / OURS).exists()]
        if ours:
            rules = (read_git_patterns(f / OURS, names[f] + OURS, prefix=prefixes[f]) for f in ours)
        else:
            # Docker reads one, of the context; the workdir may be that of an image, too.
            found = [
                (folder, next((name for name in DOCKERIGNORES if (folder / name).exists()), ""))
                for folder in dict.fromkeys((folders[0], root))
            ]
            found = [(folder, name) for folder, name in found if name]
            for folder, name in found:
                self.notices.append(f"{names[folder]}{name} says what stays out, as there is no {OURS}")
            rules = (read_dockerignore(f / name, names[f] + name, prefix=prefixes[f]) for f, name in found)
        return tuple(rule for some in rules for rule in some)

    def _repository_scope(self) -> _Scope:
        root = self.root.resolve()
        repository = Repository.above(root)
        if repository is None:
            return _Scope()
        scope = self._scope_in(repository, root, "")
        above = root.relative_to(repository.top).parts
        if not above:
            return scope
        rules = scope.git
        for count in range(len(above), 0, -1):
            folder = root.parents[count - 1]
            rules += read_git_patterns(
                folder / GITIGNORE,
                os.path.relpath(folder / GITIGNORE, root),
                prefix="/".join(above[-count:]) + "/",
            )
        scope = replace(scope, git=rules)
        if _is_ignored_as_a_whole(rules, above):
            self.notices.append(f"git ignores {root} as a whole: only ignore files in it count")
            return _Scope()
        return scope

    def _scope_in(self, repository: Repository, folder: Path, start: str) -> _Scope:
        """The rules of a repository that are in no .gitignore, for a folder of it.

        Args:
            start: path from the workdir to the folder, with a slash at the end unless empty.
        """
        answers = GitAnswers(repository, folder, self.environ)
        self._asked.append(answers)
        prefix = "".join(f"{part}/" for part in folder.relative_to(repository.top).parts)
        rules = [
            rule
            for file, name in (
                (answers.excludes_file(), "core.excludesFile"),
                (repository.exclude_file, ".git/info/exclude"),
            )
            for rule in read_git_patterns(file, name, below=start, prefix=prefix)
        ]
        return _Scope(tuple(rules), answers=answers, start=start)

    def _folder(self, folder: str, scope: _Scope, *, ignored: bool, shy: bool) -> bool:
        """Goes through one folder.

        Args:
            folder: path with a slash at the end unless it is the workdir.
            ignored: by git: it is looked into for what is tracked in it.
            shy: it goes in only if something in it does.

        Returns:
            Whether it goes in.
        """
        children = self._children(folder)
        if children is None:
            return False
        names = {child.name for child in children}
        if folder and (not_ours := names & _NOT_OURS.keys()):
            self.left_out.append((folder, _NOT_OURS[min(not_ours)]))
            return False
        if ignored and ".git" in names:  # a submodule, which is tracked as a whole
            ignored = shy = False
        scope = self._scope_of(folder, names, scope)
        # One that holds nothing but byte code is what a removed package leaves: it could still be imported.
        goes_in = not children and not shy
        for child in children:
            path = f"{folder}{child.name}"
            if child.name.startswith(UNFINISHED):
                continue
            if child.is_dir(follow_symlinks=False):
                if child.name in _NEVER_FOLDERS:
                    self.left_out.append((f"{path}/", NEVER))
                else:
                    goes_in |= self._enter(f"{path}/", scope, ignored=ignored, shy=shy)
            elif child.name.endswith(_NEVER_SUFFIXES):
                self.left_out.append((path, NEVER))
            else:
                goes_in |= self._take(path, child, scope, ignored=ignored) or not shy
        if goes_in and folder:
            self.folders.append(folder[:-1])
        return goes_in

    def _children(self, folder: str) -> list[os.DirEntry[str]] | None:
        """What is in it; None when it is gone by now."""
        where = self.root / folder
        if folder.count("/") > _MOST_FOLDERS:
            raise errors.UsageError(
                f"{self.root / folder[:60]}… has more than {_MOST_FOLDERS} folders in each other",
                remedy="list it in .gpuyardignore",
            )
        try:
            with os.scandir(where) as found:
                return sorted(found, key=lambda child: child.name)
        except OSError as error:
            if folder and error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise errors.UsageError(
                f"can't read {where}: {error.strerror}",
                remedy="mend its permissions, or list it in .gpuyardignore",
            ) from error

    def _scope_of(self, folder: str, names: set[str], scope: _Scope) -> _Scope:
        """With the rules that a folder brings."""
        here = self.root / folder
        if folder and ".git" in names:  # a submodule, or a clone: the outer repository's rules end here
            scope = replace(
                self._scope_in(Repository.at(here.absolute()), here.absolute(), folder), own=scope.own
            )
        if GITIGNORE in names:
            rules = read_git_patterns(here / GITIGNORE, folder + GITIGNORE, below=folder)
            scope = replace(scope, git=scope.git + rules)
        if folder and OURS in names:
            rules = read_git_patterns(here / OURS, folder + OURS, below=folder)
            scope = replace(scope, own=scope.own + rules)
        return scope

    def _enter(self, path: str, scope: _Scope, *, ignored: bool, shy: bool) -> bool:
        """A folder in one that was entered; whether that one has a reason to go in."""
        if (own := _verdict(scope.own, path)) and not own[0]:
            # What is taken back comes with all that git's files above it would keep out.
            return self._folder(path, replace(scope, git=()), ignored=False, shy=False)
        why, ignored = self._judge(path, scope, ignored=ignored)
        if not why:
            return self._folder(path, scope, ignored=ignored, shy=ignored)
        if any(rule.may_take_back_below(path[:-1]) for rule in scope.own) and self._folder(
            path, scope, ignored=ignored, shy=True
        ):
            return True
        self.left_out.append((path, why))
        return not shy

    def _judge(self, path: str, scope: _Scope, *, ignored: bool) -> tuple[str, bool]:
        """Why a path stays out, empty when it goes in; and whether git ignores it."""
        if own := _verdict(scope.own, path):
            return (own[1] if own[0] else "", False)
        out, why = (True, "its folder is ignored") if ignored else _verdict(scope.git, path) or (False, "")
        if out and not self._is_tracked(path, scope):
            return why, True
        return "", out

    def _is_tracked(self, path: str, scope: _Scope) -> bool:
        inner = path[len(scope.start) :].rstrip("/")
        return scope.answers is not None and inner in scope.answers.tracked

    def _take(self, path: str, child: os.DirEntry[str], scope: _Scope, *, ignored: bool) -> bool:
        """A file or a link; whether it goes in."""
        if child.name in _NEVER_FILES:
            why = NEVER
        else:
            why, _ = self._judge(path, scope, ignored=ignored)
        if not why:
            try:
                state = child.stat(follow_symlinks=False)
                why = self._unfit(path, state)
            except FileNotFoundError:  # gone by now
                return False
            except OSError as error:
                raise changed(self.root / path, error.strerror) from error
            if not why:
                self.files.append((path, state))
                return True
            self.warnings.append(f"{path} is {why}: it is left out")
        self.left_out.append((path, why))
        return False

    def _unfit(self, path: str, state: os.stat_result) -> str:
        """What it is that can't go in; empty for what can."""
        if stat.S_ISLNK(state.st_mode):
            why = self._leads_out(path, os.readlink(self.root / path))  # noqa: PTH115  keeps a slash at its end
            return why and f"a link to {why}"
        return "" if stat.S_ISREG(state.st_mode) else _SPECIAL.get(stat.S_IFMT(state.st_mode), "no file")

    def _leads_out(self, path: str, target: str) -> str:
        """Why a link would lead nowhere in the image; empty when it stays within the workdir."""
        folder = os.path.dirname(path)  # noqa: PTH120  of text
        if not target.startswith("/"):
            inside = os.path.normpath(os.path.join(folder, target))  # noqa: PTH118
            leads_out = inside == ".." or inside.startswith("../")
            return f"{target}, outside the workdir" if leads_out else ""
        if not Path(target).is_relative_to(self.root.absolute()):
            return f"{target}, outside the workdir"
        relative = os.path.relpath(target, self.root.absolute() / folder)
        return f"{target}, which the image has elsewhere (make it relative: ln -sfn {relative} {path})"


def _verdict(rules: Sequence[IgnoreFile], path: str) -> tuple[bool, str] | None:
    """Of the weightiest file that has one."""
    verdicts = (rule.verdict(path) for rule in reversed(rules))
    return next((found for found in verdicts if found), None)


def _is_ignored_as_a_whole(rules: Sequence[IgnoreFile], above: Sequence[str]) -> bool:
    """Whether git ignores the workdir or a folder that it is in.

    Args:
        rules: of the repository and of the folders above the workdir.
        above: names of the folders from the repository's top to the workdir.
    """
    for depth in range(1, len(above) + 1):
        for rule in reversed(rules):
            start = len(above) - rule.prefix.count("/")
            if start < depth and (found := rule.patterns.verdict("/".join(above[start:depth]) + "/")):
                if found[0]:
                    return True
                break
    return False
