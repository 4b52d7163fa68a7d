from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uv

from gpuyard import errors
from gpuyard.building.python.index.fetching import WheelFetcher
from gpuyard.building.python.index.settings import PackageIndex, UvSettings
from gpuyard.building.python.wheels import Wheel, wheel_path
from gpuyard.images.cache import Cache
from gpuyard.local.http.server.certificates import Pki
from tests.unit.building.python.conftest import Index, use_environ
from tests.unit.images.conftest import MakeWheel, Workshop


async def test_wheels_come_from_uvs_index_with_its_credentials(
    shop: Workshop, index: Index, make_wheel: MakeWheel
) -> None:
    file = make_wheel("demo")
    await shop.build(requirements=shop.require("demo"))
    wheel = Wheel(file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    assert wheel_path(shop.cache, wheel).read_bytes() == file.read_bytes()
    lock = (shop.app / "gpuyard.lock").read_text()
    assert wheel.sha256 in lock
    assert "127.0.0.1" not in lock.replace(shop.base, "") and "secret" not in lock


async def test_a_lock_alone_finds_its_wheels_again(
    shop: Workshop, index: Index, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    requirements = shop.require("demo")
    first = await shop.build(requirements=requirements)
    shutil.rmtree(shop.folder / "cache")
    shutil.rmtree(shop.folder / "out")
    make_wheel("demo", "2.0")
    assert (await shop.build(requirements=requirements)).digest == first.digest


@pytest.mark.parametrize("heads", [True, False])
async def test_sizes_that_an_index_of_html_doesn_t_say_are_asked_for(
    shop: Workshop, index: Index, make_wheel: MakeWheel, heads: bool
) -> None:
    size = make_wheel("demo").stat().st_size
    index.heads = heads
    await shop.build(requirements=shop.require("demo"))
    lock = (shop.app / "gpuyard.lock").read_text()
    assert f'demo-1.0-py3-none-any.whl", size = {size},' in lock


async def test_a_file_s_size_is_looked_up(shop: Workshop, make_wheel: MakeWheel) -> None:
    file = make_wheel("demo")
    wheel = Wheel(file.name, "0" * 64)
    fetcher = WheelFetcher(shop.cache, UvSettings(), {}, shop.folder)
    ((found, source),) = (await fetcher.measured({wheel: str(file)})).items()
    assert (found.size, source) == (file.stat().st_size, str(file))
    with pytest.raises(errors.BuildError, match="can't read /nowhere: No such file"):
        await fetcher.measured({wheel: "/nowhere"})


async def fetch(index: Index, cache: Cache, file: Path) -> list[str]:
    """Fetches one wheel; returns what happened once it was there."""
    wheel = Wheel(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    seen: list[str] = []

    async def then(found: Wheel) -> None:
        assert wheel_path(cache, found).read_bytes() == file.read_bytes()
        seen.append(found.file)

    settings = UvSettings((PackageIndex(index.url()),))
    fetcher = WheelFetcher(cache, settings, {}, cache.folder.parent, pause_s=0)
    url = f"http://127.0.0.1:{index.server_port}/files/{file.name}"
    await fetcher.fetch({wheel: url}, then=then, progress=lambda done, total: seen.append(f"{done}/{total}"))
    return seen


async def test_an_index_that_fails_at_first_is_asked_again(
    index: Index, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    file = make_wheel("demo")
    index.failures = 2
    seen = await fetch(index, Cache(tmp_path / "cache"), file)
    assert index.served == [file.name] * 3
    size = file.stat().st_size
    assert seen[-2:] == [f"{size}/{size}", file.name]


async def test_an_index_that_goes_on_failing_is_named(
    index: Index, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    index.failures = 100
    with pytest.raises(errors.BuildError, match=r"can't fetch demo-1\.0.* answers 503"):
        await fetch(index, Cache(tmp_path / "cache"), make_wheel("demo"))
    assert list((tmp_path / "cache" / "wheels").iterdir()) == []


async def test_other_bytes_than_locked_never_get_into_the_cache(
    shop: Workshop, index: Index, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    requirements = shop.require("demo")
    await shop.build(requirements=requirements)
    before, _ = await shop.read()
    shutil.rmtree(shop.folder / "cache" / "wheels")
    shutil.rmtree(shop.folder / "cache" / "layers")
    index.damage = True
    with pytest.raises(errors.BuildError, match="is not the file that was locked"):
        await shop.build(requirements=requirements)
    assert list((shop.folder / "cache" / "wheels").iterdir()) == []
    assert (await shop.read())[0] == before


async def test_without_hashes_of_the_index_the_lock_still_has_them(
    shop: Workshop, index: Index, make_wheel: MakeWheel
) -> None:
    file = make_wheel("demo")
    index.hashes = False
    await shop.build(requirements=shop.require("demo"))
    assert hashlib.sha256(file.read_bytes()).hexdigest() in (shop.app / "gpuyard.lock").read_text()


async def test_a_package_without_wheels(shop: Workshop, index: Index) -> None:
    (index.folder / "demo-1.0.tar.gz").write_bytes(b"sources")
    with pytest.raises(errors.ResolveError, match="demo"):
        await shop.build(requirements=shop.require("demo"))


def uv_toml(shop: Workshop, index: Index) -> dict[str, str]:
    (shop.app / "uv.toml").write_text(f'[[index]]\nurl = "{index.url()}"\ndefault = true\n')
    return {}


def named_index(shop: Workshop, index: Index) -> dict[str, str]:
    text = f'[[tool.uv.index]]\nname = "our-own"\nurl = "{index.url("")}"\ndefault = true\n'
    (shop.app / "pyproject.toml").write_text(text)
    return {"UV_INDEX_OUR_OWN_USERNAME": "me", "UV_INDEX_OUR_OWN_PASSWORD": "secret"}


def netrc_file(shop: Workshop, index: Index) -> dict[str, str]:
    (shop.folder / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    return {"UV_INDEX_URL": index.url("")}


def requirements_option(shop: Workshop, index: Index) -> dict[str, str]:
    shop.require(f"--index-url {index.url('me:${PASSWORD}@')}", "demo")
    return {"PASSWORD": "secret"}


def uv_store(shop: Workshop, index: Index) -> dict[str, str]:
    words = (uv.find_uv_bin(), "auth", "login", "--username", "me", "--password", "secret", index.url(""))
    subprocess.run(words, env=shop.environ, check=True, capture_output=True)
    return {"UV_DEFAULT_INDEX": index.url("")}


def keyring_program(shop: Workshop, index: Index) -> dict[str, str]:
    program = shop.folder / "keyring"
    program.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "get {index.url("")} me" ] && echo secret\n')
    program.chmod(0o755)
    path = f"{shop.folder}:{shop.environ['PATH']}"
    return {"UV_INDEX": index.url("me@"), "UV_KEYRING_PROVIDER": "subprocess", "PATH": path}


@pytest.mark.parametrize(
    "login", [uv_toml, named_index, netrc_file, requirements_option, uv_store, keyring_program]
)
async def test_a_login_that_uv_resolves_with_fetches_too(
    workshop: Workshop,
    index: Index,
    make_wheel: MakeWheel,
    monkeypatch: pytest.MonkeyPatch,
    login: Callable[[Workshop, Index], dict[str, str]],
) -> None:
    file = make_wheel("demo")
    (workshop.folder / "uv.toml").unlink()
    requirements = workshop.require("demo")
    use_environ(workshop, monkeypatch, **login(workshop, index))
    await workshop.build(requirements=requirements)
    assert index.served[-1] == file.name
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert f"size = {file.stat().st_size}" in lock and "secret" not in lock

    # A machine that has only the lock asks with the same login.
    shutil.rmtree(workshop.folder / "cache")
    shutil.rmtree(workshop.folder / "out")
    await workshop.build(requirements=requirements)
    assert (workshop.app / "gpuyard.lock").read_text() == lock


async def test_no_lock_is_left_of_what_can_t_be_fetched(
    shop: Workshop, index: Index, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    index.refuses_files = True
    with pytest.raises(errors.BuildError, match=r"can't fetch demo-1\.0.*answers 403") as caught:
        await shop.build(requirements=shop.require("demo"))
    assert "uv auth login 127.0.0.1" in caught.value.remedy and "secret" not in str(caught.value)
    assert not (shop.app / "gpuyard.lock").exists()
    assert not any("written" in text for text in shop.heard.said)


async def test_a_login_goes_to_no_other_port(
    index: Index, other_index: Index, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    file = make_wheel("demo")
    wheel = Wheel(file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    fetcher = WheelFetcher(
        Cache(tmp_path / "cache"), UvSettings((PackageIndex(index.url()),)), {"HOME": str(tmp_path)}, tmp_path
    )

    async def then(wheel: Wheel) -> None:
        pass

    url = f"{other_index.url('')}/files/{file.name}"
    with pytest.raises(errors.BuildError, match="answers 401"):
        await fetcher.fetch({wheel: url}, then=then, progress=lambda done, total: None)
    assert other_index.logins == {""}


async def test_a_proxy_that_is_none_is_said_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:port")
    fetcher = WheelFetcher(Cache(tmp_path), UvSettings(), {}, tmp_path)
    with pytest.raises(errors.UsageError, match="HTTPS_PROXY is 'http://proxy:port'"):
        await fetcher.measured(
            {Wheel("demo-1.0-py3-none-any.whl", "0" * 64): "https://index.invalid/demo.whl"}
        )


@pytest.mark.parametrize("trust", ["SSL_CERT_FILE", "UV_INSECURE_HOST"])
async def test_an_index_with_a_certificate_of_its_own(
    workshop: Workshop,
    index: Index,
    make_wheel: MakeWheel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trust: str,
) -> None:
    (tmp_path / "pki").mkdir()
    pki = Pki(tmp_path / "pki")
    pki.ensure(datetime.now(UTC))
    index.socket = pki.context().wrap_socket(index.socket, server_side=True)
    (workshop.folder / "uv.toml").unlink()
    make_wheel("demo")
    url = index.url().replace("http:", "https:")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    use_environ(workshop, monkeypatch, UV_DEFAULT_INDEX=url, UV_HTTP_RETRIES="0")
    with pytest.raises(errors.BuildError, match=r"can't reach the package index 127\.0\.0\.1"):
        await workshop.build(requirements=workshop.require("demo"))
    said = {"SSL_CERT_FILE": str(pki.ca_certificate), "UV_INSECURE_HOST": "127.0.0.1"}[trust]
    use_environ(workshop, monkeypatch, **{trust: said})
    await workshop.build(requirements=workshop.require("demo"))
    assert index.served


async def test_certificates_that_can_t_be_read(index: Index, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nonsense")
    wheel = Wheel("demo-1.0-py3-none-any.whl", "a" * 64)
    for variable in ("SSL_CERT_FILE", "SSL_CLIENT_CERT"):
        fetcher = WheelFetcher(Cache(tmp_path / "cache"), UvSettings(), {variable: str(file)}, tmp_path)
        with pytest.raises(errors.UsageError, match=f"ca.pem that {variable} names"):
            await fetcher.measured({wheel: index.url("")})


async def test_a_wheel_that_the_index_took_down(index: Index, make_wheel: MakeWheel, tmp_path: Path) -> None:
    file = make_wheel("demo")
    wheel = Wheel("gone-1.0-py3-none-any.whl", "a" * 64)
    url = index.url().replace("/simple/", f"/files/{wheel.file}")
    fetcher = WheelFetcher(Cache(tmp_path / "cache"), UvSettings(), {"HOME": str(tmp_path)}, tmp_path)
    with pytest.raises(errors.BuildError, match=r"has it no longer \(404\)") as caught:
        await fetcher.measured({wheel: url})
    assert "--upgrade" in caught.value.remedy and "secret" not in str(caught.value)
    assert file.name not in index.served
