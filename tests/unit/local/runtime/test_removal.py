from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard.local.runtime.removal import remove_tree

_DEEP = 3_000


def _nest(folder: Path, depth: int) -> None:
    """Nests so many folders, each with a file; their paths grow longer than a system call takes."""
    at = os.open(folder, os.O_RDONLY)
    for number in range(depth):
        os.mkdir("inner", dir_fd=at)
        inner = os.open("inner", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
        os.close(os.open(f"file-{number}", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def test_nested_folders_deeper_than_any_path_and_any_recursion_go(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    _nest(doomed, _DEEP)
    remove_tree(doomed)
    assert not doomed.exists()


def test_many_folders_side_by_side_go_with_few_descriptors(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    for number in range(300):
        (doomed / str(number) / "a" / "b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(doomed)
    assert not doomed.exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_link_points_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    doomed = tmp_path / "doomed"
    (doomed / "a").mkdir(parents=True)
    (doomed / "link").symlink_to(kept)
    (doomed / "a" / "link").symlink_to(kept)
    (doomed / "a" / "loop").symlink_to("loop")
    remove_tree(doomed)
    assert not doomed.exists()
    assert (kept / "inner").is_dir()
    (tmp_path / "link").symlink_to(kept)
    remove_tree(tmp_path / "link")
    assert (kept / "inner").is_dir()


def test_folders_that_a_pod_closed_to_itself_go(tmp_path: Path) -> None:
    _closed(tmp_path / "doomed")
    if os.getuid() != 0:
        remove_tree(tmp_path / "doomed")
    else:
        _as_nobody(tmp_path)
    assert not (tmp_path / "doomed").exists()


def _closed(doomed: Path) -> None:
    (doomed / "a" / "b").mkdir(parents=True)
    (doomed / "a" / "file").touch()
    (doomed / "a" / "b").chmod(0)
    (doomed / "a").chmod(0o500)


def _as_nobody(folder: Path) -> None:
    """Removes `folder`/doomed in a child that isn't root."""
    for path in (folder, folder / "doomed", folder / "doomed/a", folder / "doomed/a/b"):
        os.chown(path, 65534, 65534)
    at = os.open(folder, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        os.fchdir(at)
        os.setgid(65534)
        os.setuid(65534)
        remove_tree(Path("doomed"))
        os._exit(0)
    os.close(at)
    assert os.waitpid(child, 0)[1] == 0


def test_what_is_not_there_or_no_folder_is_left_alone(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing")
    (tmp_path / "file").touch()
    remove_tree(tmp_path / "file")
    assert (tmp_path / "file").exists()


def test_what_can_not_go_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "file").touch()

    def refused(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        remove_tree(doomed)
    assert "can't remove file: Operation not permitted" in caplog.text
    assert doomed.is_dir()
