"""Listening, TLS, and the way down."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import stat
from pathlib import Path

import httpx
import pytest

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import CONFIG_MAPS, NAMESPACES, PODS
from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.listeners import Listeners, serve
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.pod_logs import Log
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.store import Store
from tests.unit.local.conftest import TOKEN, Clock, Served, serving
from tests.waiting import until_async

from ..test_app import MAPS, pod, refused
from ..test_app import PODS as PODS_PATH


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.YardError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            Listeners.open(folder / "api.sock", port)
    assert "gpuyard up --port" in caught.value.remedy
    assert not (folder / "api.sock").exists()


def test_a_stale_socket_is_replaced_and_removed_at_the_end(folder: Path) -> None:
    path = folder / "api.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    listeners = Listeners.open(path, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert listeners.tcp.getsockname() == ("127.0.0.1", listeners.port)
    listeners.close()
    assert not path.exists()


def test_a_file_in_the_sockets_place_is_left_alone(folder: Path) -> None:
    path = folder / "api.sock"
    path.write_text("precious")
    with pytest.raises(errors.YardError, match="can't listen on"):
        Listeners.open(path, 0)
    assert path.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_said(folder: Path) -> None:
    with pytest.raises(errors.YardError, match="path too long"):
        Listeners.open(folder / ("a" * 120), 0)


async def test_clients_may_come_before_the_server_serves(folder: Path, api: ObjectApi) -> None:
    pki = Pki(folder)
    pki.ensure(utc_now())
    listeners = Listeners.open(folder / "api.sock", 0)
    async with RestApi(unix_socket=folder / "api.sock") as client:
        early = asyncio.create_task(client.get(NAMESPACES, "default"))
        await asyncio.sleep(0)
        task = asyncio.create_task(serve(ApiApp(api), listeners, token=TOKEN, pki=pki, clock=utc_now))
        assert (await early)["metadata"]["name"] == "default"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_being_answered_is_finished(folder: Path, api: ObjectApi) -> None:
    """A request that is inside the server when it is told to stop."""
    entered, go = asyncio.Event(), asyncio.Event()

    class SlowLogs:
        async def open_log(self, *_: object) -> Log:
            entered.set()
            await go.wait()
            raise errors.BadRequest("no log, but an answer")

    await api.create(PODS, pod() | {"metadata": {"name": "p", "namespace": "default"}})
    await api.bind("default", "p", "n")
    async with serving(folder, ApiApp(api, logs=SlowLogs())) as served:
        asking = asyncio.create_task(served.http.get(f"{PODS_PATH}/p/log"))
        await entered.wait()
        served.task.cancel()
        await asyncio.sleep(0)
        go.set()
        assert refused(await asking, 400, "BadRequest") == "no log, but an answer"


async def test_only_our_authority_is_trusted(served: Served) -> None:
    url = f"https://127.0.0.1:{served.listeners.port}/healthz"
    async with httpx.AsyncClient(trust_env=False) as stranger:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.get(url)


async def test_a_new_certificate_is_served_without_a_restart(folder: Path, api: ObjectApi) -> None:
    clock = Clock(utc_now())
    async with serving(folder, ApiApp(api), clock=clock, renewal_check_s=0.01) as served:
        first = await peer_certificate(served)
        clock.advance(336 * 86400)
        await until_async(
            lambda: peer_certificate(served), "a new certificate", lambda certificate: certificate != first
        )


async def peer_certificate(served: Served) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The new one is of a future that this machine's clock doesn't know.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", served.listeners.port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found


async def test_a_bug_is_one_line_in_the_log_and_nothing_for_the_client(
    folder: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_clock() -> object:
        raise ZeroDivisionError("secret\ndetail")

    api = ObjectApi(store, yard_kinds(), clock=broken_clock, rng=random.Random(1))  # type: ignore[arg-type]
    async with serving(folder, ApiApp(api)) as served:
        response = await served.http.post("/api/v1/namespaces", json={"metadata": {"name": "a"}})
    assert "secret" not in refused(response, 500, "InternalError")
    [record] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "\n" not in record.getMessage()
    assert "POST /api/v1/namespaces failed: ZeroDivisionError: secret detail at " in record.getMessage()
    assert record.exc_info is None


async def test_a_closed_store_is_unavailable(served: Served, store: Store) -> None:
    await store.close()
    response = await served.http.post(MAPS, json={"metadata": {"name": "a"}})
    assert refused(response, 503, "ServiceUnavailable")


async def test_our_own_client_speaks_with_it(served: Served, folder: Path) -> None:
    async with RestApi(unix_socket=folder / "api.sock") as client:
        made = await client.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
        listed = await client.list(CONFIG_MAPS, "default")
        assert list(listed.items) == [made]
        await client.delete(CONFIG_MAPS, "a", "default")
        stream = client.watch(CONFIG_MAPS, resource_version=listed.resource_version)
        event = await anext(stream)
        assert (event.type, event.object["metadata"]["uid"]) == ("DELETED", made["metadata"]["uid"])
        await stream.aclose()  # type: ignore[attr-defined]
        with pytest.raises(errors.Gone):
            await anext(client.watch(CONFIG_MAPS, resource_version="99999"))
