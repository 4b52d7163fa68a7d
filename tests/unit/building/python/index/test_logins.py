from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gpuyard.building.python.index.logins import IndexLogins
from gpuyard.building.python.index.settings import PackageIndex, UvSettings


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


async def headers(
    tmp_path: Path, url: str, *indexes: PackageIndex, keyring: bool = False, path: str = ""
) -> list[str]:
    """All that would be tried."""
    environ = {"HOME": str(tmp_path), "PATH": path}
    logins = IndexLogins(UvSettings(indexes, keyring), environ, tmp_path)
    return [header async for header in logins.headers(url)]


async def test_the_url_s_own_login_is_the_only_one(tmp_path: Path) -> None:
    index = PackageIndex("https://other:pw@x.example/simple")
    assert await headers(tmp_path, "https://me:p%40w@x.example/a.whl", index) == [basic("me:p@w")]


async def test_of_several_indexes_of_a_host_the_nearest_comes_first(tmp_path: Path) -> None:
    found = await headers(
        tmp_path,
        "https://git.example/api/projects/2/packages/pypi/files/a.whl",
        PackageIndex("https://one:1@git.example/api/projects/1/packages/pypi/simple"),
        PackageIndex("https://two:2@git.example/api/projects/2/packages/pypi/simple"),
        PackageIndex("https://three:3@git.example:8443/api/projects/2/packages/pypi/simple"),
        PackageIndex("http://four:4@git.example/api/projects/2/packages/pypi/simple"),
    )
    assert found == [basic("two:2"), basic("one:1")]


async def test_nobody_logs_in_where_that_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine x.example login me password pw\n")
    index = PackageIndex("https://x.example/simple", "never")
    assert await headers(tmp_path, "https://x.example/a.whl", index) == [""]
    assert await headers(tmp_path, "https://x.example/a.whl") == [basic("me:pw")]
    assert await headers(tmp_path, "https://y.example/a.whl") == [""]


@pytest.mark.parametrize("broken", ["machine x.example login", "\x00\xff machine"])
async def test_a_netrc_that_can_t_be_read_is_none(tmp_path: Path, broken: str) -> None:
    (tmp_path / ".netrc").write_text(broken)
    assert await headers(tmp_path, "https://x.example/a.whl") == [""]


async def test_a_keyring_is_asked_for_the_index_and_then_for_the_host(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "keyring"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {asked}\ncase "$*" in *"creds get x.example:8443") echo me; echo pw;;'
        ' "get x.example:8443 ann") echo hers;; *) exit 1;; esac\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:/bin:/usr/bin"
    url, index = "https://x.example:8443/files/a.whl", PackageIndex("https://x.example:8443/simple")
    assert await headers(tmp_path, url, index, keyring=True, path=path) == ["", basic("me:pw")]
    assert asked.read_text().splitlines() == [
        "--mode creds get https://x.example:8443/simple",
        "--mode creds get https://x.example:8443/files/a.whl",
        "--mode creds get x.example:8443",
    ]
    named = PackageIndex("https://ann@x.example:8443/simple", "always")
    assert await headers(tmp_path, url, named, keyring=True, path=path) == [basic("ann:hers")]
    assert await headers(tmp_path, url, index, keyring=True) == [""]  # it isn't there


async def test_what_a_host_took_comes_first(tmp_path: Path) -> None:
    logins = IndexLogins(UvSettings(), {"HOME": str(tmp_path)}, tmp_path)
    logins.took("https://x.example/a.whl", "Basic abc")
    assert [header async for header in logins.headers("https://x.example:443/b.whl")] == ["Basic abc"]
    assert [header async for header in logins.headers("http://x.example/b.whl")] == [""]
