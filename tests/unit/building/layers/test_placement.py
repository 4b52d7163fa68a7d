from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.building.layers.placement import ground, placed
from gpuyard.images.contents.folders import A_FILE, FolderMode, Folders
from gpuyard.images.layers import FOLDER, LINK, Entry


def file(path: str) -> Entry:
    return Entry.of_bytes(path, b"x")


def test_files_go_where_the_bases_links_lead() -> None:
    folders = Folders({"bin": "usr/bin", "workspace": "data/ws", "workspace/in": "mnt"})
    entries = [
        file("bin/tool"),
        Entry.folder("workspace", owner=1000),
        Entry.link("workspace/latest", "run-1"),
        file("workspace/a/b.py"),
        file("top"),
    ]
    found = {entry.path: entry for entry in placed(entries, folders)}
    assert list(found) == [
        *("data", "data/ws", "data/ws/a", "data/ws/a/b.py", "data/ws/latest", "top", "usr", "usr/bin"),
        "usr/bin/tool",
    ]
    assert (found["data/ws"].kind, found["data/ws"].owner, found["data"].owner) == (FOLDER, 1000, 0)
    assert (found["data/ws/latest"].kind, found["data/ws/latest"].target) == (LINK, "run-1")


def test_folders_of_the_base_keep_owner_and_mode() -> None:
    special = {
        "data": FolderMode(0o700, 33, 44),
        "data/ws": FolderMode(0o2770, 33, 44),
        "tmp": FolderMode(0o1777, 5, 5),
    }
    entries = [
        Entry.folder("data/ws", owner=1000),
        file("data/ws/new/x"),
        file("tmp/code/y"),
        Entry.folder("tmp", mode=0o1777),
    ]
    found = {entry.path: entry for entry in placed(entries, Folders(special=special))}
    data = found["data"]
    assert (data.mode, data.owner, data.gid) == (0o700, 33, 44)
    assert (found["data/ws"].mode, found["data/ws"].owner, found["data/ws"].gid) == (0o2770, 1000, 1000)
    assert (found["data/ws/new"].mode, found["data/ws/new"].owner) == (0o755, 0)
    assert (found["tmp"].mode, found["tmp"].owner) == (0o1777, 0)


def test_a_folder_of_the_users_that_leads_into_the_system_is_refused() -> None:
    with pytest.raises(errors.UsageError, match="the folder /workspace/conf is /etc in the base"):
        placed([Entry.folder("workspace/conf", owner=1000)], Folders({"workspace/conf": "etc"}))


def test_a_folder_that_is_a_file_in_the_base_is_refused() -> None:
    with pytest.raises(
        errors.UsageError, match="/workspace/data as a folder, and /workspace/data is no folder"
    ):
        placed([file("workspace/data/x")], Folders(obstacles={"workspace/data": A_FILE}))


def test_layers_are_known_by_the_ground_that_they_stand_on() -> None:
    assert ground("/opt/gpuyard/venv", Folders({"bin": "usr/bin"}, {"tmp": FolderMode(0o1777, 0, 0)})) == ""
    moved = ground("/opt/gpuyard/venv", Folders({"opt": "var/opt"}))
    closed = ground("/opt/gpuyard/venv", Folders(special={"opt": FolderMode(0o775, 0, 50)}))
    assert len({"", moved, closed}) == 3
