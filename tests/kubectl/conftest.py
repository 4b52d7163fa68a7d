"""An API server that kubectl talks to: real store, sockets and TLS, on a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from gpuyard import errors
from gpuyard.kube.objects import NAMESPACES, Manifest
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.credentials import load_or_make_token, write_kubeconfig
from gpuyard.local.http.server.listeners import Listeners, serve
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.pod_logs import Log, PodLogOptions
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.store import Store

T = TypeVar("T")

TIMEOUT_S = 60


class NumberedLogs:
    """Every container's log is the lines 1 to 5; a follower gets a sixth when `more` is set."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.asked: list[PodLogOptions] = []

    async def open_log(self, pod: Manifest, container: str, options: PodLogOptions) -> Log:
        self.asked.append(options)
        if options.previous:
            raise errors.BadRequest(
                f'previous terminated container "{container}" in pod "{pod["metadata"]["name"]}" not found'
            )
        return Log(self._lines(options))

    async def _lines(self, options: PodLogOptions) -> AsyncGenerator[bytes, None]:
        lines = [f"line {number}\n".encode() for number in range(1, 6)]
        for line in lines[-options.tail_lines :] if options.tail_lines else lines:
            yield line
        if options.follow:
            await self.more.wait()
            yield b"line 6\n"


@dataclass
class Yard:
    """The server, and kubectl pointed at it."""

    folder: Path
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    started: threading.Event = field(default_factory=threading.Event)
    environment_more: dict[str, str] = field(default_factory=dict)

    def kubectl(self, *arguments: str, stdin: object = None, fails: bool = False) -> str:
        """Its standard output; with `fails` its standard error."""
        done = subprocess.run(
            ["kubectl", *arguments],
            input=orjson.dumps(stdin) if stdin is not None else b"",
            capture_output=True,
            env=self.environment,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert (done.returncode != 0) is fails, (done.stdout + done.stderr).decode()
        return (done.stderr if fails else done.stdout).decode()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts kubectl and leaves it running."""
        return subprocess.Popen(
            ["kubectl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            **self.environment_more,
        }

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine beside the server."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT_S)

    async def run(self) -> None:
        """Serves until cancelled."""
        store = await Store.open(self.folder / "store.db", synchronous="OFF")
        try:
            self.api = ObjectApi(store, yard_kinds())
            await self.api.bootstrap()
            self.logs = NumberedLogs()
            pki = Pki(self.folder)
            pki.ensure(utc_now())
            token = load_or_make_token(self.folder / "token")
            listeners = Listeners.open(self.folder / "api.sock", 0)
            write_kubeconfig(
                self.folder / "kubeconfig",
                port=listeners.port,
                ca_pem=pki.ca_certificate.read_bytes(),
                token=token,
            )
            self.started.set()
            app = ApiApp(self.api, logs=self.logs)
            await serve(app, listeners, token=token, pki=pki, clock=utc_now)
        finally:
            await store.close()


@pytest.fixture(scope="session")
def yard() -> Iterator[Yard]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yard = Yard(folder)
    serving = yard.loop.create_task(yard.run())

    def run() -> None:
        asyncio.set_event_loop(yard.loop)
        with_result = asyncio.gather(serving, return_exceptions=True)
        yard.loop.run_until_complete(with_result)

    thread = threading.Thread(target=run, name="yard")
    thread.start()
    assert yard.started.wait(TIMEOUT_S), "the server did not start"
    yield yard
    yard.loop.call_soon_threadsafe(serving.cancel)
    thread.join(TIMEOUT_S)
    yard.loop.close()
    shutil.rmtree(folder)


@pytest.fixture
def namespace(yard: Yard) -> str:
    """A namespace of the test's own."""
    made = yard.do(yard.api.create(NAMESPACES, {"metadata": {"generateName": "test-"}}))
    return str(made["metadata"]["name"])
