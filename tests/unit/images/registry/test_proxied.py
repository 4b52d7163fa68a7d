from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.images.registry.http import RegistryHttp
from gpuyard.images.registry.settings import RegistrySettings
from tests.unit.images.registry.test_connections import OK, Server


async def test_requests_go_through_the_proxy_of_their_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server(OK, OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.url.netloc}")
        http = RegistryHttp(RegistrySettings(plain_http=frozenset({"reg.example:5000"})))
        try:
            for body in (b"some", b""):
                answer = await http.request("PUT", "http://reg.example:5000/v2/x?y=z", content=body)
                assert (answer.status, answer.content) == (200, b"ok")
        finally:
            await http.aclose()
        assert proxy.heads[0].startswith("PUT http://reg.example:5000/v2/x?y=z HTTP/1.1\r\n")
        assert proxy.bodies == [b"some", b""]


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as gone:
        address = gone.url.netloc
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{address}")
    http = RegistryHttp(RegistrySettings(plain_http=frozenset({"reg.example"})))
    try:
        with pytest.raises(errors.RegistryUnavailable, match=f"through the proxy .*{address}") as caught:
            await http.request("GET", "http://reg.example/v2/")
    finally:
        await http.aclose()
    assert "secret" not in str(caught.value)
