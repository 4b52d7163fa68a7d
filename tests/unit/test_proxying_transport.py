from __future__ import annotations

import ssl

import httpx
import pytest

from gpuyard.proxying_transport import ProxyingTransport


async def test_authorities_are_read_once_and_for_https_alone() -> None:
    read: list[ssl.SSLContext] = []

    def trusted() -> ssl.SSLContext:
        read.append(ssl.create_default_context())
        return read[-1]

    async with httpx.AsyncClient(transport=ProxyingTransport(trusted, environ={})) as client:
        for url in ("http://127.0.0.1:9", "https://127.0.0.1:9", "https://127.0.0.1:9"):
            with pytest.raises(httpx.ConnectError):
                await client.get(url)
            assert len(read) == url.startswith("https")
