"""Who gets in over TCP."""

from __future__ import annotations

import httpx
import pytest

from tests.unit.local.conftest import TOKEN, Served

from ..test_app import MAPS, refused

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def ask(served: Served, method: str, path: str, **headers: str) -> httpx.Response:
    return await served.https.request(method, path, headers=headers)


async def test_the_token_opens(served: Served) -> None:
    for scheme in ("Bearer", "bearer"):
        response = await ask(served, "GET", MAPS, Authorization=f"{scheme} {TOKEN}")
        assert response.status_code == 200


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [MAPS, "/version", "/api", "/openapi/v3", "/nowhere"])
async def test_no_method_and_no_path_opens_without_it(served: Served, method: str, path: str) -> None:
    response = await ask(served, method, path)
    assert response.status_code == 401
    if method != "HEAD":
        refused(response, 401, "Unauthorized")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ],
)
async def test_nothing_else_opens(served: Served, authorization: str) -> None:
    response = await served.https.get(MAPS, headers=[(b"authorization", authorization.encode())])
    assert refused(response, 401, "Unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health_needs_no_token(served: Served, path: str) -> None:
    assert (await ask(served, "GET", path)).text == "ok"
    assert (await ask(served, "POST", path)).status_code == 405
    refused(await ask(served, "GET", path + "/etcd"), 401, "Unauthorized")


@pytest.mark.parametrize("method", METHODS)
async def test_web_pages_are_refused(served: Served, method: str) -> None:
    for path in (MAPS, "/healthz"):
        for origin in ("https://evil.example", f"https://127.0.0.1:{served.listeners.port}", "null"):
            response = await ask(served, method, path, Origin=origin, **BEARER)
            assert response.status_code == 403


@pytest.mark.parametrize("method", METHODS)
async def test_other_hosts_are_refused(served: Served, method: str) -> None:
    port = served.listeners.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        for path in (MAPS, "/healthz"):
            response = await ask(served, method, path, Host=host, **BEARER)
            assert response.status_code == 403


async def test_the_names_of_this_machine_are_its_hosts(served: Served) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        response = await ask(served, "GET", MAPS, Host=f"{name}:{served.listeners.port}", **BEARER)
        assert response.status_code == 200


async def test_the_unix_socket_asks_for_nothing(served: Served) -> None:
    response = await served.http.get(MAPS, headers={"Host": "anything"})
    assert response.status_code == 200
