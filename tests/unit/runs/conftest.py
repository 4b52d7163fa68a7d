"""The yard's API on a real socket, without controllers."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gpuyard.client.api import ObjectList
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import PODS, Resource
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.listeners import Listeners, serve
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.store import Store
from gpuyard.runs.target import Target


class CountingApi(RestApi):
    """Says when it has been asked for pods: `looks` has one entry for each time."""

    looks: asyncio.Queue[None]

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        found = await super().list(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        if resource == PODS:
            self.looks.put_nowait(None)
        return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the path of a socket."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def target(folder: Path) -> AsyncIterator[Target]:
    """The default namespace of an API without controllers."""
    store = await Store.open(folder / "store.db", max_changes=200, synchronous="OFF")
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    pki = Pki(folder)
    pki.ensure(utc_now())
    app, listeners = ApiApp(api), Listeners.open(folder / "api.sock", 0)
    task = asyncio.create_task(serve(app, listeners, token="t" * 64, pki=pki, clock=utc_now), name="server")
    client = CountingApi(unix_socket=folder / "api.sock")
    client.looks = asyncio.Queue()
    async with client:
        yield Target(client, "default", is_yard=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
