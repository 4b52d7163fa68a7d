"""A repository of a stranger's is read, and starts nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuyard.building.revision import DIRTY, source_revision
from gpuyard.building.workdir.application import read_application
from gpuyard.runs.submitting.snapshot import take_snapshot
from tests.unit.building.test_revision import git, git_commit


@pytest.fixture
def started(tmp_path: Path) -> Callable[[], list[str]]:
    """Which programs of the trap were started since it was asked before."""
    (tmp_path / "trap").mkdir()

    def found() -> list[str]:
        names = sorted(path.name for path in (tmp_path / "trap").iterdir())
        for name in names:
            (tmp_path / "trap" / name).unlink()
        return names

    return found


def trap(tmp_path: Path, name: str) -> str:
    return f"sh -c 'touch {tmp_path}/trap/{name}; cat'"


def set_trap(repository: Path, tmp_path: Path) -> None:
    """Programs for all that git would start while it looks at files."""
    git(repository, "config", "core.fsmonitor", trap(tmp_path, "fsmonitor"))
    hooks = repository / ".git-hooks"
    hooks.mkdir(exist_ok=True)
    hook = hooks / "post-index-change"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/trap/hook\n")
    hook.chmod(0o755)
    git(repository, "config", "core.hooksPath", str(hooks))
    (tmp_path / "included").write_text(f'[filter "x"]\nclean = "{trap(tmp_path, "clean")}"\n')
    git(repository, "config", "include.path", str(tmp_path / "included"))


async def revision(folder: Path) -> str:
    return await source_revision(read_application(folder, os.environ), os.environ)


async def test_what_a_repository_names_is_not_started(
    tmp_path: Path, started: Callable[[], list[str]]
) -> None:
    code = tmp_path / "code"
    (code / "app").mkdir(parents=True)
    (code / ".gitignore").write_text("*.bin\n.git-hooks\n")
    (code / ".gitattributes").write_text("*.py filter=x\n")
    (code / "app" / "a.py").write_text("x\n")
    (code / "app" / "kept.bin").write_text("x\n")
    git(code, "init", "--quiet")
    git(code, "add", "--force", "app/kept.bin")
    commit = git_commit(code)
    set_trap(code, tmp_path)
    (code / "app" / "a.py").write_text("x\n")  # git has to look into it
    assert [path for path, _ in read_application(code, os.environ).files if path.startswith("app")] == [
        "app/a.py",
        "app/kept.bin",
    ]
    assert await revision(code / "app") == commit
    take_snapshot(code, tmp_path / "copy", tmp_path / "copy")
    assert (tmp_path / "copy/app/kept.bin").exists()
    assert started() == []
    git(code, "status")
    assert {"clean", "fsmonitor"} <= set(started())


async def test_a_submodule_is_asked_with_as_much_care(
    tmp_path: Path, started: Callable[[], list[str]]
) -> None:
    library, code = tmp_path / "library", tmp_path / "code"
    library.mkdir()
    code.mkdir()
    (library / "lib.py").write_text("x\n")
    git_commit(library)
    git(code, "init", "--quiet")
    git(code, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "sub")
    commit = git_commit(code)
    git(code / "sub", "config", "core.fsmonitor", trap(tmp_path, "fsmonitor"))
    assert await revision(code) == commit
    take_snapshot(code, tmp_path / "copy", tmp_path / "copy")
    assert started() == []
    git(code, "status")
    assert started() == ["fsmonitor"]
    (code / "sub" / "lib.py").write_text("y\n")
    assert await revision(code) == f"{commit}{DIRTY}"
    assert started() == []
    git_commit(code / "sub")
    assert await revision(code) == f"{commit}{DIRTY}"


async def test_a_folder_that_looks_like_a_bare_repository_is_a_folder(
    tmp_path: Path, started: Callable[[], list[str]]
) -> None:
    code = tmp_path / "code"
    app = code / "app"
    for name in ("objects", "refs"):
        (app / name).mkdir(parents=True)
        (app / name / "kept").write_text("")
    (app / "HEAD").write_text("ref: refs/heads/main\n")
    (app / "config").write_text(
        f"[core]\n repositoryformatversion = 0\n worktree = {code}\n"
        f' fsmonitor = "{trap(tmp_path, "fsmonitor")}"\n'
    )
    (app / "a.py").write_text("x\n")
    (code / ".gitignore").write_text("*.bin\n")
    commit = git_commit(code)
    assert await revision(app) == commit
    take_snapshot(code, tmp_path / "copy", tmp_path / "copy")
    assert (tmp_path / "copy/app/a.py").exists()
    assert started() == []
    git(app, "status")
    assert started() == ["fsmonitor"]


async def test_what_says_how_to_read_a_repository_counts(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    git(tmp_path, "init", "--quiet", "--object-format=sha256")
    commit = git_commit(tmp_path)
    git(tmp_path, "update-index", "--split-index")
    (tmp_path / "a.py").chmod(0o755)
    assert len(commit) == 64
    assert await revision(tmp_path) == f"{commit}{DIRTY}"
    git(tmp_path, "config", "core.fileMode", "false")
    assert await revision(tmp_path) == commit
    git(tmp_path, "config", "core.autocrlf", "input")
    (tmp_path / "a.py").write_text("y\r\n", newline="")
    commit = git_commit(tmp_path)
    os.utime(tmp_path / "a.py", (1, 1))  # git has to look into it
    assert await revision(tmp_path) == commit
    git(tmp_path, "config", "core.autocrlf", "false")
    assert await revision(tmp_path) == f"{commit}{DIRTY}"


async def test_a_fifo_among_gits_files_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git" / "HEAD")
    assert await revision(tmp_path) == ""
