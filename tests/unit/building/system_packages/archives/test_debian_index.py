from __future__ import annotations

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
    assert index.providing == {"shrub": ["tree", "bush"], "wood": ["tree"]}


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
