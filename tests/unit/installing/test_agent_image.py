"""The agent's image has all that the programs in it import of ours, and is installed by one name."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.installing.agent_image import agent_build, as_installed
from gpuyard.tenancy.install import install
from gpuyard.tenancy.options import InstallOptions

#: Each module by itself, also those that are imported only when they are needed.
_IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import gpuyard
for module in pkgutil.walk_packages(gpuyard.__path__, "gpuyard."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(gpuyard.__file__)
"""


def test_every_module_of_the_image_finds_what_it_imports(tmp_path: Path) -> None:
    with agent_build("registry/base", "registry/agent:1", None) as request:
        # -S: only `site` would put this gpuyard on the path, and the libraries, which the image has.
        libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
        done = subprocess.run(
            [sys.executable, "-S", "-c", _IMPORT_ALL, str(request.root)],
            env={"PYTHONPATH": ":".join(libraries)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip() == str(request.root / "gpuyard/__init__.py")


@pytest.mark.parametrize(("module", "file"), [("acme_gpus", "acme_gpus.py"), ("acme.gpus", "acme/gpus.py")])
def test_another_vendors_module_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, file: str
) -> None:
    source = tmp_path / file
    source.parent.mkdir(exist_ok=True)
    source.write_text("def open_backend(sys_root, host_root): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with agent_build("registry/base", "registry/agent:1", None, module) as request:
        assert (request.root / file).read_text() == source.read_text()
        assert (request.root / "gpuyard/agent").is_dir()
    with agent_build("registry/base", "registry/agent:1", None, str(source)) as request:
        assert (request.root / source.name).read_text() == source.read_text()


@pytest.mark.parametrize("module", ["nobodys_gpus", "nobodys.gpus", ".gpus", "/none/here.py"])
def test_a_module_that_is_not_here_is_misuse(module: str) -> None:
    with (
        pytest.raises(errors.UsageError, match="there is no Python module"),
        agent_build("registry/base", "registry/agent:1", None, module),
    ):
        pass


MANIFEST = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}'
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()


class Servers:
    """A cluster's API with a DaemonSet, and a registry with one image of one tag.

    Attributes:
        registry: its address.
        installed: the image of the agents; empty where there are none.
    """

    def __init__(self) -> None:
        self.registry = ""
        self.installed = ""

    async def api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        options = InstallOptions(self.installed)
        await _answer(writer, json.dumps(install(options)[-1]).encode() if self.installed else None)

    async def images(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        there = path in ("/v2/", "/v2/team/agent/manifests/v1", f"/v2/team/agent/manifests/{DIGEST}")
        await _answer(writer, MANIFEST if there else None, body=method != "HEAD")

    async def as_installed(self, image: str) -> str:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            socket = Path(folder, "api")
            async with (
                await asyncio.start_unix_server(self.api, socket),
                RestApi(unix_socket=socket) as api,
            ):
                return await as_installed(api, InstallOptions(image), {})


async def _answer(writer: asyncio.StreamWriter, content: bytes | None, *, body: bool = True) -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    head = f"HTTP/1.1 {200 if content else 404} X\r\nContent-Length: {len(content or b'')}\r\n"
    head += f"Content-Type: {kind}\r\nDocker-Content-Digest: {DIGEST}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + (content or b"" if body else b""))
    await writer.drain()
    writer.close()


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    servers = Servers()
    async with await asyncio.start_server(servers.images, "127.0.0.1", 0) as server:
        servers.registry = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield servers


async def test_a_tag_that_means_what_is_installed_is_left_as_its_digest(servers: Servers) -> None:
    servers.installed = f"{servers.registry}/team/agent@{DIGEST}"
    assert await servers.as_installed(f"{servers.registry}/team/agent:v1") == servers.installed


async def test_a_tag_that_means_another_image_is_installed_by_its_digest(servers: Servers) -> None:
    servers.installed = f"{servers.registry}/team/agent@sha256:{'0' * 64}"
    pinned = f"{servers.registry}/team/agent@{DIGEST}"
    assert await servers.as_installed(f"{servers.registry}/team/agent:v1") == pinned


async def test_names_stay_where_nothing_is_installed_by_digest_or_known(servers: Servers) -> None:
    tag = f"{servers.registry}/team/agent:v1"
    assert await servers.as_installed(tag) == tag
    servers.installed = tag
    assert await servers.as_installed(tag) == tag
    servers.installed = f"{servers.registry}/team/agent@{DIGEST}"
    for other in (f"{servers.registry}/team/agent:v2", f"{servers.registry}/other/agent:v1"):
        assert await servers.as_installed(other) == other
    # A registry that only nodes reach.
    servers.installed = f"127.0.0.1:1/team/agent@{DIGEST}"
    assert await servers.as_installed("127.0.0.1:1/team/agent:v1") == "127.0.0.1:1/team/agent:v1"
