"""A yard's API on its unix socket with a kubelet behind it, and a client that is not ours."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed

from gpuyard.kube.objects import Manifest
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.credentials import write_kubeconfig
from gpuyard.local.http.server.listeners import Listeners, serve
from tests.unit.local.kubelet.conftest import Host, folder, host, runtime, utc_now
from tests.waiting import until_async

__all__ = ["folder", "host", "runtime"]

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
#: Prints a port on which it answers everything in capitals, when its client has said all.
ANSWERS = """
import socketserver
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read().upper())
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
with Server(("127.0.0.1", 0), Answer) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
FOREVER = ("sh", "-c", "echo up; exec sleep 600")


@dataclass
class Answer:
    """What came on each channel, and the Status of the end."""

    channels: dict[int, bytes] = field(default_factory=dict)

    def add(self, message: str | bytes) -> None:
        assert isinstance(message, bytes)
        self.channels[message[0]] = self.channels.get(message[0], b"") + message[1:]

    @property
    def status(self) -> Manifest:
        status: Manifest = json.loads(self.channels[3])
        return status

    @property
    def exit_code(self) -> int:
        if self.status["status"] == "Success":
            return 0
        (cause,) = self.status["details"]["causes"]
        assert (self.status["reason"], cause["reason"]) == ("NonZeroExitCode", "ExitCode")
        return int(cause["message"])


@dataclass
class Served:
    """The API as it is served, and its kubelet's host."""

    host: Host

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves; on the way out everything is as after the end of a daemon."""
        paths = self.host.paths
        async with self.host.running():
            pki = Pki(paths.pki_dir)
            pki.ensure(utc_now())
            assert self.host.machine is not None
            app = ApiApp(self.host.api, logs=self.host.machine.logs, streams=self.host.machine.streams)
            listeners = Listeners.open(paths.api_socket, 0)
            ca_pem = pki.ca_certificate.read_bytes()
            write_kubeconfig(paths.kubeconfig, port=listeners.port, ca_pem=ca_pem, token="token")
            serving = asyncio.create_task(serve(app, listeners, token="token", pki=pki, clock=utc_now))
            try:
                yield
            finally:
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    await serving

    def connect(self, path: str, subprotocol: str = V5, **query: Any) -> Any:
        """Opens a stream of a pod: `path` is `NAME/exec` or the like."""
        return connect(self.host.paths.api_socket, path, subprotocol, **query)

    async def exec(self, *command: str, stdin: bytes | None = None, pod: str = "a", **query: Any) -> Answer:
        """Runs a command to its end."""
        query = {"stdout": "true", "stderr": "true", **query}
        if stdin is not None:
            query["stdin"] = "true"
        async with self.connect(f"{pod}/exec", command=command, **query) as socket:
            if stdin is not None:
                for start in range(0, len(stdin), 100_000):
                    await socket.send(b"\0" + stdin[start : start + 100_000])
                await socket.send(b"\xff\0")
            return await rest_of(socket)

    async def up(self, name: str = "a", *command: str, **spec: Any) -> Manifest:
        """A pod that has said that it is up."""
        await self.host.create(name, *(command or FOREVER), **spec)
        await self.host.says(name, "up")
        return await self.host.until(name, lambda pod: pod["status"].get("phase") == "Running")

    async def serves(self, program: str, name: str = "a") -> int:
        """A pod whose program, in Python, has said on which port it listens; gives the port."""
        await self.up(name, sys.executable, "-c", f"print('up'){program}")
        said = await until_async(
            lambda: self.host.log(name), "it says its port", lambda log: log.count("\n") > 1
        )
        return int(said.split()[1])


def connect(api: Path, path: str, subprotocol: str = V5, **query: Any) -> Any:
    """See `Served.connect`."""
    text = urlencode(query, doseq=True)
    return unix_connect(
        str(api),
        f"ws://localhost/api/v1/namespaces/default/pods/{path}?{text}",
        subprotocols=[subprotocol],
        compression=None,
        max_size=None,
        open_timeout=60,
    )


async def rest_of(socket: ClientConnection, answer: Answer | None = None) -> Answer:
    """Everything until the end of the stream."""
    answer = answer or Answer()
    with suppress(ConnectionClosed):
        while True:
            answer.add(await socket.recv())
    return answer


async def until_said(socket: ClientConnection, text: bytes, answer: Answer | None = None) -> Answer:
    """Everything until standard output has the text."""
    answer = answer or Answer()
    async with asyncio.timeout(60):
        while text not in answer.channels.get(1, b""):
            answer.add(await socket.recv())
    return answer


@pytest.fixture
def served(host: Host) -> Served:
    return Served(host)
