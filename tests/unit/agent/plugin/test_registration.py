import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gpuyard.agent.plugin import registration
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import serve
from gpuyard.devices.inventory import Health
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.resources import GPU_RESOURCE
from tests.waiting import until_async

from .conftest import Kubelet

GPUS = simulate(parse_simulation("H100:2"), seed="node")
SERVED = serve(GPUS)
ALL_HEALTHY = {gpu.uuid: "Healthy" for gpu in GPUS.devices}


@asynccontextmanager
async def running(plugin: Plugin, kubelet: Kubelet) -> AsyncIterator[None]:
    work = keep_registered(plugin, kubelet.folder, OwnSockets(kubelet.folder))
    task = asyncio.create_task(work, name="plugin")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def soon(queue: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(queue.get(), 60)


async def test_registers_and_lists(kubelet: Kubelet) -> None:
    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        request = await soon(kubelet.registered)
        assert request.version == "v1beta1"
        assert (kubelet.folder / request.endpoint).is_socket()
        assert request.resource_name == "nvidia.com/gpu"
        assert request.options.get_preferred_allocation_available
        assert not request.options.pre_start_required
        assert await soon(kubelet.lists) == ALL_HEALTHY


async def test_health_goes_out_on_the_open_stream(kubelet: Kubelet) -> None:
    plugin = Plugin(GPU_RESOURCE, SERVED)
    async with running(plugin, kubelet):
        assert await soon(kubelet.lists) == ALL_HEALTHY
        sick = GPUS.devices[1].uuid
        plugin.update(serve(GPUS.with_health({sick: Health("XID 79")})))
        assert await soon(kubelet.lists) == ALL_HEALTHY | {sick: "Unhealthy"}
        plugin.update(SERVED)
        assert await soon(kubelet.lists) == ALL_HEALTHY
        assert kubelet.registered.qsize() == 1


async def test_registers_with_a_kubelet_that_comes_later_and_again(kubelet: Kubelet) -> None:
    await kubelet.stop()
    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        for _ in range(3):
            await kubelet.start()
            await soon(kubelet.registered)
            assert await soon(kubelet.lists) == ALL_HEALTHY
            await kubelet.stop()
    await kubelet.start()


async def test_registers_again_when_its_socket_is_removed(kubelet: Kubelet) -> None:
    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        first = await soon(kubelet.registered)
        (kubelet.folder / first.endpoint).unlink()
        second = await soon(kubelet.registered)
        assert (kubelet.folder / second.endpoint).is_socket()
        # A kubelet that knows the first still takes no other of that name.
        assert first.endpoint != second.endpoint


async def test_registers_again_when_the_kubelet_dropped_the_stream(kubelet: Kubelet) -> None:
    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        await soon(kubelet.registered)
        assert await soon(kubelet.lists) == ALL_HEALTHY
        await kubelet.forget()
        await soon(kubelet.registered)
        assert await soon(kubelet.lists) == ALL_HEALTHY


async def test_a_machine_that_is_slow_at_looking_takes_no_stream_for_lost(
    kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = registration._identity

    def slow_look(folder: Path) -> object:
        nonlocal looks
        looks += 1
        time.sleep(2 * registration._LOST_STREAM_S)
        return look(folder)

    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        assert await soon(kubelet.lists) == ALL_HEALTHY
        monkeypatch.setattr(registration, "_identity", slow_look)
        await until_async(lambda: looks, "it has looked five times", lambda found: found >= 5)
        assert kubelet.registered.qsize() == 1


async def test_tries_again_after_a_refusal(kubelet: Kubelet, caplog: pytest.LogCaptureFixture) -> None:
    kubelet.refusals = 1
    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        await soon(kubelet.registered)
    assert "not now" in caplog.text


async def test_leaves_no_socket_behind(kubelet: Kubelet) -> None:
    async with running(Plugin(GPU_RESOURCE, SERVED), kubelet):
        await soon(kubelet.registered)
    assert [path.name for path in kubelet.folder.iterdir()] == ["kubelet.sock"]


async def test_the_next_one_takes_over_while_this_one_serves(kubelet: Kubelet) -> None:
    old, new = Plugin(GPU_RESOURCE, SERVED), Plugin(GPU_RESOURCE, SERVED)
    async with running(old, kubelet):
        await soon(kubelet.registered)
        assert await soon(kubelet.lists) == ALL_HEALTHY
        async with running(new, kubelet):
            second = await soon(kubelet.registered)
            assert await soon(kubelet.lists) == ALL_HEALTHY
            gone = f"the old one's socket is gone: {second.endpoint}"
            await until_async(lambda: len(list(kubelet.folder.glob("gpuyard-*"))) == 1, gone)
            # Both streams go on, and the old one doesn't come back for its socket.
            for plugin in (old, new):
                plugin.update(SERVED)
                assert await soon(kubelet.lists) == ALL_HEALTHY
            assert kubelet.registered.empty()
        # The new one has gone, as when a rollout is taken back.
        await soon(kubelet.registered)
        assert await soon(kubelet.lists) == ALL_HEALTHY
