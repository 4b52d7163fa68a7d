"""What git and Docker leave out, and take, against git itself where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.workdir.walk import Walk
from tests.unit.building.test_revision import git


def write(root: Path, *paths: str, text: str = "x") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def walk(root: Path, **environ: str) -> Walk:
    """Of a user without settings of git's."""
    walked = Walk(
        root, {"PATH": os.environ["PATH"], "HOME": str(root / "nobody"), "GIT_CONFIG_NOSYSTEM": "1"} | environ
    )
    walked.run()
    return walked


def files(root: Path, **environ: str) -> list[str]:
    return sorted(path for path, _ in walk(root, **environ).files if not path.startswith(".git"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With an empty commit."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    git(root, "commit", "--quiet", "--allow-empty", "--message=x")
    return root


def test_what_git_tracks_stays_in_though_gitignore_matches_it(repository: Path) -> None:
    write(repository, "a.bin", "b.bin", "data/in", "data/out", "data/deep/in", "data/other/out")
    git(repository, "add", "--force", "a.bin", "data/in", "data/deep/in")
    write(repository, ".gitignore", text="*.bin\ndata/\n")
    walked = walk(repository)
    assert sorted(path for path, _ in walked.files) == [".gitignore", "a.bin", "data/deep/in", "data/in"]
    assert walked.folders == ["data/deep", "data"]
    assert dict(walked.left_out) == {
        ".git/": "never goes into an image",
        "b.bin": ".gitignore:1: *.bin",
        "data/other/": "its folder is ignored",
        "data/out": "its folder is ignored",
    }
    # Below the repository's top, and where the folder itself is ignored.
    assert files(repository / "data") == ["deep/in", "in", "other/out", "out"]
    assert walk(repository / "data").notices == [
        f"git ignores {repository}/data as a whole: only ignore files in it count"
    ]
    git(repository, "rm", "--quiet", "--cached", "data/in", "data/deep/in")
    assert files(repository) == ["a.bin"]


def test_our_own_file_wins_over_what_git_tracks(repository: Path) -> None:
    write(repository, "a.bin", "b.bin")
    git(repository, "add", ".")
    write(repository, ".gpuyardignore", text="*.bin\n")
    assert files(repository) == [".gpuyardignore"]


def test_excludes_of_the_clone_and_of_the_user_count(repository: Path, tmp_path: Path) -> None:
    write(repository, "a.tmp", "b.swp", "c.py", "sub/d.tmp", "sub/top.txt", "top.txt")
    write(repository, ".git/info/exclude", text="*.tmp\n/top.txt\n")
    assert files(repository) == ["b.swp", "c.py", "sub/top.txt"]
    assert files(repository / "sub") == ["top.txt"]
    write(tmp_path, "config/git/ignore", text="*.swp\n")
    assert files(repository, XDG_CONFIG_HOME=str(tmp_path / "config")) == ["c.py", "sub/top.txt"]
    write(tmp_path, "home/.config/git/ignore", text="c.*\n")
    write(tmp_path, "home/mine", text="*.swp\n")
    assert files(repository, HOME=str(tmp_path / "home")) == ["b.swp", "sub/top.txt"]
    write(tmp_path, "home/.gitconfig", text="[core]\n excludesFile = ~/mine\n")
    assert files(repository, HOME=str(tmp_path / "home")) == ["c.py", "sub/top.txt"]
    # .gitignore weighs more than both.
    write(repository, ".gitignore", text="!a.tmp\n!b.swp\n")
    assert files(repository, HOME=str(tmp_path / "home")) == ["a.tmp", "b.swp", "c.py", "sub/top.txt"]


def test_a_worktree_has_its_own_index_and_shares_the_excludes(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "../tree")
    tree = tmp_path / "tree"
    write(repository, ".git/info/exclude", text="*.tmp\n")
    write(tree, "a.tmp", "b.tmp", "c.py")
    git(tree, "add", "--force", "a.tmp")
    assert files(tree) == ["a.tmp", "c.py"]


def test_a_repository_within_has_its_own_rules(repository: Path) -> None:
    write(repository, ".gitignore", text="*.bin\nvendored/\n")
    write(repository, "inner/a.bin", "inner/b.tmp", "inner/c.log", "inner/deep/d.tmp", "vendored/x.py")
    inner = repository / "inner"
    git(inner, "init", "--quiet")
    git(repository / "vendored", "init", "--quiet")
    write(inner, ".gitignore", text="*.tmp\n")
    write(inner, ".git/info/exclude", text="*.log\n")
    git(inner, "add", "--force", "deep/d.tmp")
    assert files(repository) == ["inner/.gitignore", "inner/a.bin", "inner/deep/d.tmp"]
    write(repository, ".gpuyardignore", text="*.bin\n")
    assert files(repository) == [".gpuyardignore", "inner/.gitignore", "inner/deep/d.tmp"]


def test_a_submodule_has_its_own_index(repository: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library, "lib.tmp")
    git(library, "init", "--quiet")
    git(library, "add", ".")
    git(library, "commit", "--quiet", "--message=x")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "sub")
    assert (repository / "sub" / ".git").is_file()
    write(repository, ".gitignore", text="*.tmp\nsub/\n")
    write(repository, "sub/.gitignore", text="*.tmp\n")
    write(repository, "sub/other.tmp", "sub/a.py")
    assert files(repository) == ["sub/.gitignore", "sub/a.py", "sub/lib.tmp"]


def test_the_repository_is_the_workdirs_not_the_one_that_a_hook_is_of(
    repository: Path, tmp_path: Path
) -> None:
    write(repository, "a.bin", ".gitignore", text="*.bin\n")
    git(repository, "add", "--force", "a.bin")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    assert files(repository, GIT_DIR=str(other / ".git"), GIT_INDEX_FILE="nowhere") == ["a.bin"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("no git", "git: No such file or directory"),
        ("index", "bad signature"),
    ],
)
def test_where_git_cannot_be_asked_it_is_said_if_it_matters(repository: Path, broken: str, said: str) -> None:
    environ = {"PATH": "/nowhere"} if broken == "no git" else {}
    if broken == "index":
        write(repository, ".git/index", text="broken" * 20)
    write(repository, "a.bin", "b.py")
    assert walk(repository, **environ).warnings == []
    write(repository, ".gitignore", text="*.bin\n")
    walked = walk(repository, **environ)
    assert sorted(path for path, _ in walked.files) == [".gitignore", "b.py"]
    (warning,) = walked.warnings
    assert said in warning
    assert warning.endswith(": files that git tracks stay out where .gitignore matches them")


def test_git_means_the_same(repository: Path) -> None:
    """`git ls-files` of all that it would add, and what goes in."""
    write(
        repository,
        "a.py",
        "a.log",
        "x/a.log",
        "x/keep.log",
        "x/y/z.bin",
        "build/a",
        "x/build/b",
        "x/build.txt",
        "sp ace ",
    )
    write(repository, ".gitignore", text="*.log\n!keep.log\n/build/\n**/y/*.bin\n\\#x\nsp ace\\ \n")
    write(repository, "#x", "x/.gitignore", text="!a.log\nbuild\n")
    listed = git(repository, "ls-files", "-z", "--others", "--cached", "--exclude-standard").split("\0")
    assert sorted(path for path, _ in walk(repository).files) == sorted(path for path in listed if path)


def test_dockerignore_counts_where_there_is_none_of_ours_and_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a.log", "sub/a.log", "src/a.py", "docs/b.md", "docs/keep/c.md", "docs/empty/x")
    write(tmp_path, ".dockerignore", text="*.log\ndocs\n!docs/keep/*.md\n")
    walked = walk(tmp_path)
    assert sorted(path for path, _ in walked.files) == [
        ".dockerignore",
        "docs/keep/c.md",
        "src/a.py",
        "sub/a.log",
    ]
    assert sorted(walked.folders) == ["docs", "docs/keep", "src", "sub"]
    assert walked.notices == [".dockerignore says what stays out, as there is no .gpuyardignore"]
    assert dict(walked.left_out) == {
        "a.log": ".dockerignore:1: *.log",
        "docs/b.md": ".dockerignore:2: docs",
        "docs/empty/": ".dockerignore:2: docs",
    }
    write(tmp_path, ".gpuyardignore", text="docs/\n")
    walked = walk(tmp_path)
    assert sorted(path for path, _ in walked.files) == [
        ".dockerignore",
        ".gpuyardignore",
        "a.log",
        "src/a.py",
        "sub/a.log",
    ]
    assert walked.notices == []


def test_containerignore_weighs_more_than_dockerignore(tmp_path: Path) -> None:
    write(tmp_path, "a.log", "b.txt", ".dockerignore", text="*.txt\n")
    write(tmp_path, ".containerignore", text="*.log\n.*\n")
    walked = walk(tmp_path)
    assert [path for path, _ in walked.files] == ["b.txt"]
    assert walked.notices == [".containerignore says what stays out, as there is no .gpuyardignore"]
    # One of ours counts, even one without a pattern.
    write(tmp_path, ".gpuyardignore", text="# nothing\n")
    assert len(walk(tmp_path).files) == 5


def test_what_dockerignore_takes_back_comes_in_though_gitignore_names_it(tmp_path: Path) -> None:
    write(tmp_path, "model.bin", "other.bin", ".gitignore", text="*.bin\n")
    write(tmp_path, ".dockerignore", text="*\n!model.bin\n")
    assert [path for path, _ in walk(tmp_path).files] == ["model.bin"]


def test_a_dockerignore_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ".dockerignore", text="a\n[b\n")
    with pytest.raises(
        errors.UsageError, match=r"\.dockerignore has a pattern that can't be read: line 2: \[b: "
    ):
        walk(tmp_path)
    (tmp_path / ".dockerignore").unlink()
    os.mkfifo(tmp_path / ".dockerignore")
    with pytest.raises(errors.UsageError, match="it isn't a regular file"):
        walk(tmp_path)


def test_a_link_to_a_folder_of_a_repository_is_that_folder(repository: Path, tmp_path: Path) -> None:
    write(
        repository,
        "app/a.log",
        "app/b.log",
        "app/c.py",
        "app/top.txt",
        ".gitignore",
        text="*.log\n/app/top.txt\n",
    )
    git(repository, "add", "--force", "app/b.log")
    (tmp_path / "link").symlink_to(repository / "app")
    assert files(tmp_path / "link") == ["b.log", "c.py"]


def test_a_folder_that_vanishes_meanwhile_is_left_out(tmp_path: Path) -> None:
    app = tmp_path / "app"
    write(app, "a/.git/HEAD", "a/x", "b/y", "c/z")
    # git is asked about the first folder, a repository, before the second is entered.
    write(tmp_path, "bin/git", text='#!/bin/sh\n/bin/rm -rf "$PWD/../b"\nexit 1\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    walked = walk(app, PATH=str(tmp_path / "bin"))
    assert ([path for path, _ in walked.files], walked.folders) == (["a/x", "c/z"], ["a", "c"])


def test_nothing_runs_git_outside_a_repository(tmp_path: Path) -> None:
    write(tmp_path, "bin/git", text=f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    write(tmp_path, "app/a.py", "app/.gitignore", text="*.log\n")
    assert files(tmp_path / "app", PATH=f"{tmp_path}/bin:{os.environ['PATH']}") == ["a.py"]
    assert not (tmp_path / "asked").exists()
    assert shutil.which("git")


def test_a_folder_that_ours_takes_back_comes_whole(tmp_path: Path) -> None:
    write(tmp_path, "data/a.log", "data/sub/b.bin", "data/sub/c.tmp", "other.log")
    write(tmp_path, ".gitignore", text="data/\n*.log\n*.bin\n")
    write(tmp_path, "data/sub/.gitignore", text="*.tmp\n")
    write(tmp_path, ".gpuyardignore", text="!data/\n.g*\n")
    assert sorted(path for path, _ in walk(tmp_path).files) == ["data/a.log", "data/sub/b.bin"]


def test_a_folder_within_one_that_git_ignores_can_be_built(repository: Path) -> None:
    write(repository, "build/app/a.py", "build/app/b.log", ".gitignore", text="build/\n*.log\n")
    walked = walk(repository / "build" / "app")
    assert sorted(path for path, _ in walked.files) == ["a.py", "b.log"]
    assert walked.notices == [f"git ignores {repository}/build/app as a whole: only ignore files in it count"]


@pytest.mark.parametrize(
    ("context", "workdir", "text", "kept"),
    [
        (".gpuyardignore", "", "/app/*.bin\nsecret*\n", ["app.py", "sub/a.bin"]),
        (
            ".gpuyardignore",
            "!secret.txt\n",
            "/app/*.bin\nsecret*\n",
            [".gpuyardignore", "app.py", "secret.txt", "sub/a.bin"],
        ),
        (".dockerignore", "", "app/*.bin\n**/secret*\n", ["app.py", "sub/a.bin"]),
        (".dockerignore", "", "app\n!app/sub/a.bin\n", ["sub/a.bin"]),
        (
            ".dockerignore",
            "!secret.txt\n",
            "app\n",
            [".gpuyardignore", "a.bin", "app.py", "secret.txt", "sub/a.bin"],
        ),
    ],
)
def test_ignore_files_of_the_specs_folder_count(
    tmp_path: Path, context: str, workdir: str, text: str, kept: list[str]
) -> None:
    root = tmp_path / "app"
    write(root, "app.py", "a.bin", "secret.txt", "sub/a.bin")
    write(tmp_path, context, text=text)
    if workdir:
        write(root, ".gpuyardignore", text=workdir)
    walked = Walk(root, {}, tmp_path)
    walked.run()
    assert sorted(path for path, _ in walked.files) == kept
    assert all(why.startswith("../") for _, why in walked.left_out)
    assert walked.notices == [
        f"../{name} says what stays out, as there is no .gpuyardignore"
        for name in [context] * (context == ".dockerignore" and not workdir)
    ]
    for elsewhere in (root, tmp_path / "other"):
        walked = Walk(root, {}, elsewhere)
        walked.run()
        assert len(walked.files) == 4 + bool(workdir), "the spec is elsewhere"
