from __future__ import annotations

import base64
import hashlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.python.wheels import Wheel, WheelFetcher, wheel_file, wheel_path
from gpuyard.images.cache import Cache
from tests.unit.images.conftest import MakeWheel, Workshop


class Index(ThreadingHTTPServer):
    """A package index that wants a user, and can be told to hand out other bytes or to fail at first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.damage = False
        self.hashes = True
        self.heads = False
        self.failures = 0
        self.served: list[str] = []

    def url(self, user: str = "me:secret@") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/simple/"


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_HEAD(self) -> None:
        allowed = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:secret").decode()
        if not self.server.heads or not allowed:
            self.answer(405, b"", "text/plain")
            return
        self.send_response(200)
        self.send_header("Content-Length", str((self.server.folder / Path(self.path).name).stat().st_size))
        self.end_headers()

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:secret").decode():
            self.answer(401, b"", "text/plain")
            return
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple":
            found = [f for f in self.server.folder.iterdir() if f.name.startswith(name.replace("-", "_"))]
            links = "".join(self.link(file) for file in found)
            self.answer(200 if found else 404, f"<html><body>{links}</body></html>".encode(), "text/html")
            return
        self.server.served.append(name)
        if self.server.failures:
            self.server.failures -= 1
            self.answer(503, b"", "text/plain")
            return
        content = (self.server.folder / name).read_bytes()
        self.answer(200, content[::-1] if self.server.damage else content, "application/octet-stream")

    def link(self, file: Path) -> str:
        sha256 = f"#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}" if self.server.hashes else ""
        return f'<a href="/files/{file.name}{sha256}">{file.name}</a>'

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic realm=here")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "wheels"
    folder.mkdir(exist_ok=True)
    with Index(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def shop(workshop: Workshop, index: Index, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Its only index is the server, named in uv's own variable."""
    (workshop.folder / "uv.toml").unlink()
    environ = workshop.environ | {"UV_DEFAULT_INDEX": index.url()}
    monkeypatch.setattr(Workshop, "environ", property(lambda self: environ))
    return workshop


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
    assert f'demo-1.0-py3-none-any.whl", size = {size if heads else 0},' in lock


async def test_a_file_s_size_is_looked_up(shop: Workshop, make_wheel: MakeWheel) -> None:
    file = make_wheel("demo")
    wheel = Wheel(file.name, "0" * 64)
    fetcher = WheelFetcher(shop.cache, {})
    found = await fetcher.measured({wheel: str(file), Wheel("b-1-py3-none-any.whl", "1" * 64): "/nowhere"})
    assert [wheel.size for wheel in found] == [file.stat().st_size, 0]
    assert list(found.values()) == [str(file), "/nowhere"]


async def fetch(index: Index, cache: Cache, file: Path) -> list[str]:
    """Fetches one wheel; returns what happened once it was there."""
    wheel = Wheel(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    seen: list[str] = []

    async def then(found: Wheel) -> None:
        assert wheel_path(cache, found).read_bytes() == file.read_bytes()
        seen.append(found.file)

    fetcher = WheelFetcher(cache, {"UV_DEFAULT_INDEX": index.url()}, pause_s=0)
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
    with pytest.raises(errors.BuildError, match=r"can't fetch demo-1\.0.*: 503"):
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


@pytest.mark.parametrize("file", ["demo.zip", "../demo-1.0-py3-none-any.whl", "demo-1.0.whl", ""])
def test_what_cannot_name_a_wheel(file: str) -> None:
    with pytest.raises(errors.BuildError, match="not the file name of a wheel"):
        Wheel(file, "a" * 64)


def test_name_and_version_are_read_from_the_file_name() -> None:
    wheel = Wheel("Foo_Bar-1.2+cu124-1-cp311-cp311-manylinux_2_17_x86_64.whl", "a" * 64)
    assert (wheel.name, wheel.version) == ("foo-bar", "1.2+cu124")


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("https://x.example/a/b-1.0%2Bcu12-py3-none-any.whl?key=1/2#sha256=0", "b-1.0+cu12-py3-none-any.whl"),
        ("../wheels/b-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"),
        ("b-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"),
        ("https://x.example/..%2F..%2Fb-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"),
        ("https://x.example/", ""),
    ],
)
def test_the_file_at_the_end_of_a_source(source: str, file: str) -> None:
    assert wheel_file(source) == file
