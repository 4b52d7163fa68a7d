from __future__ import annotations

from contextlib import nullcontext

import pytest

from gpuyard import errors
from gpuyard.building.workdir.base_folders import check_folders, is_system_folder, python_of
from gpuyard.images.contents.contents import ImageContents, Interpreter
from gpuyard.images.contents.folders import A_CIRCLE, A_FILE, FolderMode, Folders

PYTHON = Interpreter("/usr/bin/python3.11", 11)


def check(workdir: str = "/workspace", folders: Folders | None = None, python: Interpreter = PYTHON) -> None:
    check_folders(ImageContents(python, folders=folders or Folders()), workdir, "the base b")


@pytest.mark.parametrize(
    "path",
    [
        *("", "etc", "etc/app", "usr", "usr/bin", "bin", "sbin", "lib", "lib32", "lib64", "libx32"),
        *("usr/lib/x86_64-linux-gnu", "usr/local", "usr/local/bin", "usr/local/lib/python3.12", "usr/src"),
        *(
            "proc/1",
            "sys",
            "dev/shm",
            "run",
            "run/app",
            "boot",
            "var",
            "var/run/app",
            "var/lib",
            "var/lib/dpkg",
        ),
        *("tmp", "root", "home", "opt", "opt/gpuyard", "opt/gpuyard/venv/bin"),
    ],
)
def test_folders_of_the_system(path: str) -> None:
    assert is_system_folder(path)


@pytest.mark.parametrize(
    "path",
    [
        *("workspace", "app", "srv", "mnt/data", "data", "usr/src/app", "opt/app", "opt/gpuyard/agent"),
        *(
            "home/gpuyard",
            "home/me/code",
            "var/task",
            "var/www/html",
            "tmp/x",
            "library",
            "binary",
            "etcetera",
        ),
    ],
)
def test_folders_for_an_application(path: str) -> None:
    assert not is_system_folder(path)
    check(f"/{path}")


@pytest.mark.parametrize(
    ("workdir", "folders", "words"),
    [
        ("/etc", Folders(), r"the workdir /etc belongs to the system"),
        ("/", Folders(), r"the workdir / belongs to the system"),
        (
            "/workspace",
            Folders({"workspace": "etc"}),
            r"workdir /workspace is /etc in the base, which belongs",
        ),
        ("/workspace", Folders({"workspace": ""}), r"workdir /workspace is / in the base, which belongs"),
        ("/bin", Folders({"bin": "usr/bin"}), r"workdir /bin is /usr/bin in the base, which belongs"),
        (
            "/a/b",
            Folders(obstacles={"a": A_FILE}),
            r"/a/b can't be a folder: /a is a file, or a link to one in",
        ),
        (
            "/a",
            Folders(obstacles={"a": A_CIRCLE}),
            r"/a can't be a folder: /a is a link that leads in a circle",
        ),
        (
            "/w/x",
            Folders({"w": "data"}, obstacles={"data/x": A_FILE}),
            r"/w/x can't be a folder: /data/x is a file",
        ),
        (
            "/data/ws",
            Folders(special={"data": FolderMode(0o700, 33, 33)}),
            r"/data/ws is out of reach for user 1000, .*: in the base b, /data has mode 0700",
        ),
        (
            "/workspace",
            Folders({"workspace": "root/ws"}, {"root": FolderMode(0o700, 0, 0)}),
            r"/workspace is out of reach for user 1000, .*, /root has mode 0700",
        ),
    ],
)
def test_what_cannot_be_the_workdir(workdir: str, folders: Folders, words: str) -> None:
    with pytest.raises(errors.UsageError, match=words) as caught:
        check(workdir, folders)
    assert "/workspace" in (caught.value.remedy or "")


def test_the_folder_of_the_bases_python_is_not_the_users() -> None:
    with pytest.raises(
        errors.UsageError, match=r"/opt/conda holds the base's Python, /opt/conda/bin/python3\.11"
    ):
        check("/opt/conda", python=Interpreter("/opt/conda/bin/python3.11", 11))


@pytest.mark.parametrize("owner", [1000, 33])
def test_the_workdir_itself_may_be_closed_to_others(owner: int) -> None:
    folders = Folders(special={"data": FolderMode(0o700, owner, owner)})
    check("/data", folders)
    with pytest.raises(errors.UsageError) if owner == 33 else nullcontext():
        check("/data/inside", folders)


def test_a_python_that_the_user_cannot_reach() -> None:
    python = Interpreter("/root/.local/share/uv/python/cpython-3.12/bin/python3.12", 12)
    with pytest.raises(
        errors.BuildError, match=r"Python of the base is out of reach .*, /root has mode 0700"
    ) as caught:
        check(folders=Folders(special={"root": FolderMode(0o700, 0, 0)}), python=python)
    assert "UV_PYTHON_INSTALL_DIR" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("mode", "refused"),
    [
        (FolderMode(0o700, 0, 0), True),
        (FolderMode(0o750, 0, 0), True),
        (FolderMode(0o700, 1000, 1000), False),
        (FolderMode(0o711, 0, 0), False),
    ],
)
def test_a_python_that_the_user_cannot_run(mode: FolderMode, refused: bool) -> None:
    python = Interpreter("/opt/python/bin/python3.12", 12, mode=mode)
    with (
        pytest.raises(
            errors.BuildError, match=rf"can't be run by user 1000.*mode {mode.mode:04o} and is user"
        )
        if refused
        else nullcontext()
    ):
        check(python=python)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (Folders(special={"opt": FolderMode(0o750, 0, 0)}), "/opt/gpuyard/venv is out of reach"),
        (Folders({"home": "root/home"}, {"root": FolderMode(0o700, 0, 0)}), "/home/gpuyard is out of reach"),
    ],
)
def test_gpuyards_own_folders_are_reached_too(folders: Folders, words: str) -> None:
    with pytest.raises(errors.BuildError, match=words):
        check(folders=folders)


def test_gpuyards_own_folders_need_room() -> None:
    with pytest.raises(
        errors.UsageError, match="own folder /opt/gpuyard/venv can't be a folder: /opt is a file"
    ):
        check(folders=Folders(obstacles={"opt": A_FILE}))


def test_a_base_whose_python_is_a_script() -> None:
    with pytest.raises(errors.BuildError, match=r"PATH of the base b is a script, /root/\.pyenv/shims"):
        python_of(ImageContents(python_script="/root/.pyenv/shims/python3"), "the base b")
