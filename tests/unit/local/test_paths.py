"""Where a yard's files are: real folders below the test's own."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.paths import YardPaths, find_paths


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def paths(short: Path) -> YardPaths:
    return find(short)


def find(short: Path) -> YardPaths:
    return find_paths({"GPUYARD_HOME": str(short / "home")}, tmp=short)


def taken(short: Path) -> Path:
    """The user's name below /tmp."""
    return short / f"gpuyard-{os.getuid()}"


@pytest.mark.parametrize(
    ("environ", "data_dir"),
    [
        ({"GPUYARD_HOME": "/a", "XDG_DATA_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"GPUYARD_HOME": "", "XDG_DATA_HOME": "/b", "HOME": "/c"}, "/b/gpuyard"),
        ({"HOME": "/c"}, "/c/.local/share/gpuyard"),
        ({"GPUYARD_HOME": "~"}, str(Path.home())),
        ({"GPUYARD_HOME": "a"}, str(Path.cwd() / "a")),
    ],
)
def test_the_data_folder(environ: dict[str, str], data_dir: str) -> None:
    assert str(find_paths(environ).data_dir) == data_dir


def test_the_runtime_folder_follows_from_the_data_folder(short: Path) -> None:
    (short / "link").symlink_to(short / "home")
    one, same = find(short), find_paths({"GPUYARD_HOME": str(short / "link")}, tmp=short)
    other = find_paths({"GPUYARD_HOME": str(short / "other")}, tmp=short)
    assert one.runtime_dir == same.runtime_dir != other.runtime_dir
    assert one.runtime_dir.parent == taken(short)


def test_sockets_of_a_long_data_folder_have_short_paths() -> None:
    paths = find_paths({"GPUYARD_HOME": "/" + "x" * 200})
    assert len(os.fsencode(paths.device_plugins_dir / ("y" * 32))) <= 107


def test_folders_are_the_user_s_alone(paths: YardPaths) -> None:
    paths.data_dir.mkdir(mode=0o755)
    paths.data_dir.chmod(0o755)
    paths.make_folders()
    private = (paths.runtime_dir.parent, paths.runtime_dir, paths.pki_dir, paths.pods_dir)
    assert [folder.stat().st_mode & 0o777 for folder in private] == [0o700] * 4
    # It may be one that the user made for more.
    assert paths.data_dir.stat().st_mode & 0o777 == 0o755
    paths.check_runtime_dir()


def test_a_runtime_folder_that_was_open_to_others_is_closed_by_the_daemon_and_refused_by_commands(
    paths: YardPaths,
) -> None:
    paths.make_folders()
    for folder in (paths.runtime_dir, paths.runtime_dir.parent):
        folder.chmod(0o777)
        with pytest.raises(errors.YardError, match=f"{folder} is open to others"):
            paths.check_runtime_dir()
        paths.make_folders()
        paths.check_runtime_dir()


def test_nothing_there_is_nothing_wrong(paths: YardPaths) -> None:
    paths.check_runtime_dir()
    assert not paths.runtime_dir.exists()


@pytest.mark.parametrize("kind", ["link", "file", "folder of another user"])
def test_a_name_below_tmp_that_is_taken_is_left_alone(short: Path, kind: str) -> None:
    take(short, kind)
    paths = find(short)
    assert paths.runtime_dir.parent == paths.data_dir / "run"
    paths.make_folders()
    paths.check_runtime_dir()
    assert find(short) == paths
    # Who started the yard there finds it there, whatever becomes of the name.
    taken(short).rmdir() if kind.startswith("folder") else taken(short).unlink()
    assert find(short) == paths


def test_a_taken_name_and_no_short_folder_is_refused_with_what_helps(short: Path) -> None:
    take(short, "link")
    paths = find_paths({"GPUYARD_HOME": str(short / ("x" * 100))}, tmp=short)
    for refused in (paths.check_runtime_dir, paths.make_folders):
        with pytest.raises(errors.GpuyardError, match="isn't a folder") as caught:
            refused()
        assert str(taken(short)) in caught.value.message
        assert "GPUYARD_HOME to a folder of your own with a short path" in caught.value.remedy


def test_a_folder_that_can_not_be_made(short: Path) -> None:
    (short / "home").write_text("a file")
    with pytest.raises(errors.StoreUnwritable, match=f"can't make the folder {short}/home: File exists"):
        find(short).make_folders()


def take(short: Path, kind: str) -> None:
    if kind == "link":
        (short / "elsewhere").mkdir()
        taken(short).symlink_to(short / "elsewhere")
    elif kind == "file":
        taken(short).write_text("")
    else:
        if os.getuid() != 0:
            pytest.skip("only root can give a folder away")
        taken(short).mkdir()
        os.chown(taken(short), pwd.getpwnam("nobody").pw_uid, -1)
