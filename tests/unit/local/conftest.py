from __future__ import annotations

import asyncio
import random
import shutil
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.listeners import Listeners, serve
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.pod_logs import Log, PodLogOptions
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.store import Store

TOKEN = "0123456789abcdef" * 4


@dataclass
class Clock:
    """Stands still until told."""

    now: datetime = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "store.db", max_changes=200, synchronous="OFF")
    yield store
    await store.close()


@pytest.fixture
async def api(store: Store, clock: Clock) -> ObjectApi:
    api = ObjectApi(store, yard_kinds(), clock=clock, rng=random.Random(7))
    await api.bootstrap()
    return api


@dataclass
class MemoryLogs:
    """Logs by container. A follower waits until the log is ended."""

    text: dict[str, list[bytes]] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[PodLogOptions] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def open_log(self, pod: Manifest, container: str, options: PodLogOptions) -> Log:
        if container not in self.text:
            name = pod["metadata"]["name"]
            raise errors.BadRequest(
                f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
            )
        self.asked.append(options)
        return Log(self._pieces(self.text[container], options))

    async def _pieces(self, pieces: list[bytes], options: PodLogOptions) -> AsyncGenerator[bytes, None]:
        self.opened.set()
        try:
            for piece in pieces:
                yield piece
            if options.follow:
                await self.ended.wait()
                yield b"the end\n"
        finally:
            self.closed.set()


@pytest.fixture
def logs() -> MemoryLogs:
    return MemoryLogs()


@dataclass(frozen=True)
class Served:
    """A running server: `http` talks over the unix socket, `https` over TLS without a token."""

    http: httpx.AsyncClient
    https: httpx.AsyncClient
    listeners: Listeners
    pki: Pki
    task: asyncio.Task[None]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the path of a socket."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made)


@asynccontextmanager
async def serving(
    folder: Path, app: ApiApp, *, clock: Callable[[], datetime] = utc_now, renewal_check_s: float = 3600.0
) -> AsyncIterator[Served]:
    pki = Pki(folder)
    pki.ensure(utc_now())
    listeners = Listeners.open(folder / "api.sock", 0)
    task = asyncio.create_task(
        serve(app, listeners, token=TOKEN, pki=pki, clock=clock, renewal_check_s=renewal_check_s)
    )
    unix = httpx.AsyncHTTPTransport(uds=str(folder / "api.sock"))
    try:
        async with (
            httpx.AsyncClient(transport=unix, base_url="http://localhost") as http,
            httpx.AsyncClient(
                base_url=f"https://127.0.0.1:{listeners.port}", verify=trusting(pki), trust_env=False
            ) as https,
        ):
            yield Served(http, https, listeners, pki, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def trusting(pki: Pki) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pki.ca_certificate))


@pytest.fixture
async def served(folder: Path, api: ObjectApi, logs: MemoryLogs) -> AsyncIterator[Served]:
    async with serving(folder, ApiApp(api, logs=logs)) as served:
        yield served
