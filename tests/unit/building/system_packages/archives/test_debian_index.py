from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard.building.system_packages.archives.debian_index import DebianIndex

TEXT = """Package: tree
Version: 1
Provides: shrub, wood:any (= 2)


Package: bush\r
Provides: shrub\r
Version: 3\r
\t
Package: tree
Version: 2
Description: \N{DECIDUOUS TREE}
"""


def kept(folder: Path) -> Path:
    path = folder / "index"
    with path.open("wb") as file:
        DebianIndex.parse(TEXT).write(file)
    return path


@pytest.mark.parametrize("again", [False, True])
def test_packages_are_found_by_name_and_by_what_they_provide(tmp_path: Path, again: bool) -> None:
    index = DebianIndex.read(kept(tmp_path)) if again else DebianIndex.parse(TEXT)
    assert list(index.paragraphs("tree")) == [
        "Package: tree\nVersion: 1\nProvides: shrub, wood:any (= 2)",
        "Package: tree\nVersion: 2\nDescription: \N{DECIDUOUS TREE}",
    ]
    assert list(index.paragraphs("bush")) == ["Package: bush\nProvides: shrub\nVersion: 3"]
    assert list(index.paragraphs("gone")) == []
    assert [index.providing(name) for name in ("shrub", "wood", "tree")] == [["tree", "bush"], ["tree"], []]
    assert index.names == ["bush", "tree"]


def test_a_package_is_found_among_many() -> None:
    names = sorted(f"lib{number:x}-{number % 7}" for number in range(0, 9000, 3))
    about = "Description: " + "x" * 200
    index = DebianIndex.parse("\n\n".join(f"Package: {name}\n{about}" for name in reversed(names)))
    assert index.names == names
    for name in (names[0], *names[1:-1:97], names[-1]):
        assert list(index.paragraphs(name)) == [f"Package: {name}\n{about}"]
    for name in ("", "a", names[5] + "0", names[5][:-1], "zzz"):
        assert list(index.paragraphs(name)) == index.providing(name) == []


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_what_is_kept_and_damaged_is_refused(tmp_path: Path, share: float) -> None:
    path = kept(tmp_path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"\w"):
        DebianIndex.read(path)
    content[int(len(content) * share)] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\w"):
        DebianIndex.read(path)


def test_nobody_waits_for_a_pipe_in_the_place_of_what_is_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index")
    with pytest.raises(OSError, match="regular"):
        DebianIndex.read(tmp_path / "index")
