from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.libraries import contents_index
from gpuyard.building.libraries.contents_index import find_packages, search_archives
from gpuyard.images.cache import Cache
from tests.unit.building.system_packages.conftest import archive
from tests.unit.building.system_packages.debian_archive import DebianArchive

__all__ = ["archive"]

TRIPLET = "x86_64-linux-gnu"
LINES = (
    f"lib/{TRIPLET}/libodd.so.1                     libs/libodd1\n"
    f"usr/lib/{TRIPLET}/libtwo.so.2\tlibs/libtwo2-pthread,libs/libtwo2\n"
    f"usr/lib/{TRIPLET}/plugins/libodd.so.1  misc/plugin\n"
    f"usr/lib/i386-linux-gnu/libi386.so.1  libs/libi386-1\n"
    f"usr/lib/libplain.so.3  universe/libs/libplain3"
)


@pytest.fixture
def contents(tmp_path: Path) -> Path:
    path = tmp_path / "Contents-amd64.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    return path


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_finds_packages(contents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(contents_index, "_BLOCK", block)
    wanted = ("libodd.so.1", "libtwo.so.2", "libplain.so.3", "libi386.so.1", "libnone.so.1")
    found = find_packages(contents, "ab", wanted, TRIPLET, Cache(tmp_path / "cache"))
    assert found == {"libodd.so.1": "libodd1", "libtwo.so.2": "libtwo2", "libplain.so.3": "libplain3"}


def test_what_was_found_is_kept(contents: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert find_packages(contents, "ab", ("libodd.so.1", "libnone.so.1"), TRIPLET, cache)
    contents.unlink()
    found = find_packages(contents, "ab", ("libodd.so.1", "libnone.so.1"), TRIPLET, cache)
    assert found == {"libodd.so.1": "libodd1"}


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(LINES.encode())[:-20], gzip.compress(b"x" * (1 << 22))]
)
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Contents-amd64.gz"
    path.write_bytes(content)
    with pytest.raises(errors.BuildError, match=r"Contents-amd64\.gz can't be read"):
        find_packages(path, "ab", ("libodd.so.1",), TRIPLET, Cache(tmp_path / "cache"))


def publish(archive: DebianArchive, path: str) -> None:
    """Has a Contents file in an archive's signed index."""
    content = gzip.compress(LINES.encode())
    archive.files[f"dists/stable/{path}"] = content
    archive.sign(
        f"Suite: stable\nDate: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} UTC\nComponents: main\n"
        f"SHA256:\n {hashlib.sha256(content).hexdigest()} {len(content)} {path}\n"
    )


@pytest.mark.parametrize("path", ["main/Contents-amd64.gz", "Contents-amd64.gz"])
async def test_a_bases_archives_are_asked_once(archive: DebianArchive, tmp_path: Path, path: str) -> None:
    publish(archive, path)
    cache, wanted = Cache(tmp_path / "cache"), ("libodd.so.1", "libnone.so.1")
    for _ in range(2):
        found = await search_archives(wanted, archive.base_files(), "amd64", cache, {})
        assert found == {"libodd.so.1": "libodd1"}
    assert archive.served.count(f"dists/stable/{path}") == 1


async def test_an_archive_that_nobody_trusts_is_not_believed(archive: DebianArchive, tmp_path: Path) -> None:
    publish(archive, "main/Contents-amd64.gz")
    files = archive.base_files() | {"etc/apt/trusted.gpg.d/test.gpg": DebianArchive().keyring}
    with pytest.raises(errors.BuildError, match="isn't signed by a key that the base trusts"):
        await search_archives(("libodd.so.1",), files, "amd64", Cache(tmp_path / "cache"), {})
