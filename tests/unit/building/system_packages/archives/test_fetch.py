from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gpuyard import errors
from gpuyard.building.system_packages.archives.fetch import Fetcher, open_fetcher
from gpuyard.images.cache import Cache
from tests.unit.building.system_packages.debian_archive import DebianArchive

CONTENT = b"some bytes" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def fetcher(tmp_path: Path) -> AsyncIterator[Fetcher]:
    async with httpx.AsyncClient() as client:
        yield Fetcher(client, Cache(tmp_path), asyncio.Semaphore(2), pause_s=0)


async def test_a_file_is_fetched_once_and_counted(archive: DebianArchive, fetcher: Fetcher) -> None:
    archive.files["a.deb"] = CONTENT
    counted: list[int] = []
    for _ in range(2):
        path = await fetcher.fetch(
            f"{archive.address}/a.deb", SHA256, len(CONTENT), "debs", "x", counted.append
        )
        assert path is not None and path.read_bytes() == CONTENT
    assert sum(counted) == len(CONTENT) and archive.served == ["a.deb"]


async def test_what_is_not_there_is_none(archive: DebianArchive, fetcher: Fetcher) -> None:
    assert await fetcher.get(f"{archive.address}/x") is None
    assert await fetcher.fetch(f"{archive.address}/x", SHA256, 1, "debs", "x") is None
    assert not fetcher.cache.path("debs", "x").exists()


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x"])
async def test_another_file_is_not_kept(archive: DebianArchive, fetcher: Fetcher, content: bytes) -> None:
    archive.files["a.deb"] = content
    with pytest.raises(errors.BuildError, match="is not the file"):
        await fetcher.fetch(f"{archive.address}/a.deb", SHA256, len(CONTENT), "debs", "x")
    assert not fetcher.cache.path("debs", "x").exists()


async def test_who_does_not_answer_is_told_without_a_password_and_with_a_way_out(fetcher: Fetcher) -> None:
    with pytest.raises(errors.BuildError, match=r"can't fetch http://127\.0\.0\.1:9/InRelease") as caught:
        await fetcher.get("http://me:secret@127.0.0.1:9/InRelease")
    assert "secret" not in caught.value.message
    assert "GPUYARD_APT_MIRRORS" in caught.value.remedy and "HTTPS_PROXY" in caught.value.remedy


async def test_a_proxy_that_does_not_answer_is_named(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(errors.BuildError, match=r"InRelease through the proxy http://…@127\.0\.0\.1:9: "):
        await fetcher.get("http://archive.invalid/InRelease")


@pytest.mark.parametrize(("user", "sent"), [("", "me:secret"), ("you:other@", "you:other")])
async def test_logins_come_from_the_address_or_else_from_netrc(
    archive: DebianArchive, tmp_path: Path, user: str, sent: str
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    archive.files["x"] = b"x"
    async with open_fetcher(Cache(tmp_path), {"HOME": str(tmp_path)}) as fetcher:
        await fetcher.get(archive.address.replace("://", f"://{user}") + "/x")
    assert archive.logins == ["Basic " + base64.b64encode(sent.encode()).decode()]


async def test_a_netrc_that_cannot_be_read_has_no_logins(archive: DebianArchive, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login\n")
    archive.files["x"] = b"x"
    async with open_fetcher(Cache(tmp_path), {"HOME": str(tmp_path)}) as fetcher:
        assert await fetcher.get(f"{archive.address}/x") == b"x"
    assert archive.logins == []


async def test_what_is_refused_is_not_said_to_be_gone(archive: DebianArchive, fetcher: Fetcher) -> None:
    archive.refused = {"x"}
    urls = [f"{archive.address}/x", f"{archive.address}/y"]
    assert [await fetcher.get(url) for url in urls] == [None, None]
    fetcher.check_refused(urls[1:])
    with pytest.raises(errors.BuildError, match=r"can't fetch http.*/x: status 403"):
        fetcher.check_refused(urls)


async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="GPUYARD_APT_CA"):
        async with open_fetcher(Cache(tmp_path), {"GPUYARD_APT_CA": str(tmp_path / "none.pem")}):
            pytest.fail("there is no such file")


async def test_an_address_that_is_none_is_told(fetcher: Fetcher) -> None:
    with pytest.raises(errors.BuildError, match=r"can't fetch http://\[::/InRelease: "):
        await fetcher.get("http://[::/InRelease")
