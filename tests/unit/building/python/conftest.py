"""A package index of the tests' own, which wants a login."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.unit.images.conftest import Workshop


class Index(ThreadingHTTPServer):
    """A package index that wants a user, and can be told to hand out other bytes or to fail at first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.damage = False
        self.hashes = True
        self.heads = False
        self.failures = 0
        self.refuses_files = False
        self.logins: set[str] = set()
        self.served: list[str] = []

    def url(self, user: str = "me:secret@") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/simple/"


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def allowed(self) -> bool:
        login = self.headers.get("Authorization", "")
        self.server.logins.add(login)
        return login == "Basic " + base64.b64encode(b"me:secret").decode()

    def do_HEAD(self) -> None:
        if not self.server.heads or not self.allowed():
            self.answer(405, b"", "text/plain")
            return
        self.send_response(200)
        self.send_header("Content-Length", str((self.server.folder / Path(self.path).name).stat().st_size))
        self.end_headers()

    def do_GET(self) -> None:
        if not self.allowed():
            self.answer(401, b"", "text/plain")
            return
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "broken":
            self.answer(500, b"", "text/plain")
            return
        if kind == "simple":
            found = [f for f in self.server.folder.iterdir() if f.name.startswith(name.replace("-", "_"))]
            links = "".join(self.link(file) for file in found)
            self.answer(200 if found else 404, f"<html><body>{links}</body></html>".encode(), "text/html")
            return
        self.server.served.append(name)
        if self.server.refuses_files and not self.headers.get("User-Agent", "").startswith("uv/"):
            self.answer(403, b"", "text/plain")
            return
        if self.server.failures:
            self.server.failures -= 1
            self.answer(503, b"", "text/plain")
            return
        if not (self.server.folder / name).exists():
            self.answer(404, b"", "text/plain")
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


@contextmanager
def serving(folder: Path) -> Iterator[Index]:
    folder.mkdir(exist_ok=True)
    with Index(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with serving(tmp_path / "wheels") as server:
        yield server


@pytest.fixture
def other_index(tmp_path: Path) -> Iterator[Index]:
    with serving(tmp_path / "other wheels") as server:
        yield server


@pytest.fixture
def shop(workshop: Workshop, index: Index, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Its only index is the server, named in uv's own variable."""
    (workshop.folder / "uv.toml").unlink()
    use_environ(workshop, monkeypatch, UV_DEFAULT_INDEX=index.url())
    return workshop


def use_environ(shop: Workshop, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Has builds run with these variables, too."""
    environ = shop.environ | variables
    monkeypatch.setattr(Workshop, "environ", property(lambda self: environ))
