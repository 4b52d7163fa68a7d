from __future__ import annotations

import asyncio
import socket

import pytest

from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.service_port import PortProxy
from tests.unit.local.service_proxy.conftest import closed_port


@pytest.mark.parametrize("turns", range(6))
async def test_one_that_ends_while_it_begins_to_listen_leaves_the_port_free(turns: int) -> None:
    proxy, port = PortProxy(Figures(0.0), ProxyLimits()), closed_port()
    listening = asyncio.create_task(proxy.listen("127.0.0.1", port))
    for _ in range(turns):
        await asyncio.sleep(0)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await proxy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
