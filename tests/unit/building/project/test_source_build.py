from __future__ import annotations

import os
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.building.project.source_build import build_source
from gpuyard.building.project.wheel_build import WheelBuilder
from gpuyard.building.python.sources import Source
from gpuyard.building.python.wheels import Wheel

#: As URLs have it: a token may hold what they can't.
LOGIN, HEADER = "me:t%2Fok%C3%A9n", "Basic " + b64encode("me:t/okén".encode()).decode()


class Guarded(SimpleHTTPRequestHandler):
    """Hands files out to whoever logs in."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == HEADER:
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Builder:
    """Keeps what it is to build."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.files: dict[str, str] = {}

    def known(self, text: str) -> None:
        return None

    async def of_tree(self, tree: Path, folder: Path, key: str, text: str) -> Wheel:
        paths = [path for path in tree.rglob("*") if path.is_file()]
        self.files = {str(path.relative_to(tree)): path.read_bytes().decode("latin-1") for path in paths}
        return Wheel("demo-1-py3-none-any.whl", "0" * 64, 1)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/demo.git"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def commit(tmp_path: Path) -> str:
    """Of a bare repository that any web server can hand out."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(("git", *identity, *words), check=True, capture_output=True, text=True).stdout

    work, bare = tmp_path / "work", tmp_path / "demo.git"
    git("init", "-q", str(work))
    (work / "demo.py").write_text("x = 1\n")
    git("-C", str(work), "add", ".")
    git("-C", str(work), "commit", "-q", "-m", "first")
    git("clone", "-q", "--bare", str(work), str(bare))
    git("-C", str(bare), "update-server-info")
    return git("-C", str(work), "rev-parse", "HEAD").strip()


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    """With a git that notes its arguments, as `ps` would show them."""
    (tmp_path / "bin").mkdir()
    noting = tmp_path / "bin" / "git"
    noting.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/arguments\nPATH=${{PATH#*:}} exec git "$@"\n'
    )
    noting.chmod(0o755)
    return Builder({"PATH": f"{noting.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)})


async def no_download(url: str, place: Path) -> None:
    raise AssertionError(url)


async def build(builder: Builder, source: Source) -> None:
    await build_source(cast("WheelBuilder", builder), source, source.url, no_download)


@pytest.mark.parametrize(
    "own", [{}, {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c"}]
)
async def test_a_login_is_in_no_argument_and_not_in_the_clone(
    builder: Builder, commit: str, tmp_path: Path, own: dict[str, str]
) -> None:
    builder.environ |= own
    with served(tmp_path) as url:
        await build(builder, Source(url, commit, login=LOGIN))
    assert builder.files["demo.py"] == "x = 1\n"
    arguments = (tmp_path / "arguments").read_text()
    assert url in arguments
    for text in (arguments, *builder.files.values()):
        assert "t%2Fok" not in text and HEADER not in text


async def test_a_login_is_in_no_message(builder: Builder, commit: str, tmp_path: Path) -> None:
    with served(tmp_path) as url, pytest.raises(errors.BuildError, match="can't clone") as caught:
        await build(builder, Source(url, commit, login="me:other-token"))
    assert url in caught.value.message and "other-token" not in caught.value.message
