"""The commit that a folder is at, read from git's own files: starting git would cost more than the build."""

from __future__ import annotations

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def revision_of(folder: Path) -> str:
    """The commit's hash; empty outside a repository and before its first commit."""
    here = folder.absolute()
    for parent in (here, *here.parents):
        git = parent / ".git"
        if git.exists():
            return _head(_git_folder(git))
    return ""


def _git_folder(git: Path) -> Path:
    """A worktree's .git is a file that names the folder."""
    text = _read(git) if git.is_file() else ""
    return git.parent / text.removeprefix("gitdir: ").strip() if text.startswith("gitdir: ") else git


def _head(git: Path) -> str:
    head = _read(git / "HEAD").strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else ""
    name = head.removeprefix("ref: ")
    common = git / (_read(git / "commondir").strip() or ".")
    commit = _read(common / name).strip()
    if not commit:
        lines = (line.split(" ") for line in _read(common / "packed-refs").splitlines())
        commit = next((words[0] for words in lines if words[1:] == [name]), "")
    return commit if _COMMIT.fullmatch(commit) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
